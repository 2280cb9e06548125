package main

import (
	"errors"
	"fmt"
	"time"

	"certlab/internal/hooks"
	"certlab/internal/order"
	"certlab/internal/relate/certagents"
)

// unitStatus is what `juju status` shows of an agent that answers. sum is the desired state that it should have applied.
func unitStatus(s order.AgentStatus, l link, sum string) hooks.Status {
	switch {
	case s.Current != nil && s.Current.State == order.Running:
		text := "running " + s.Current.Spec.Plan
		if !s.Current.Started.IsZero() {
			text += s.Current.Started.UTC().Format(" since 15:04")
		}
		if len(s.Problems) > 0 { // a run that goes on is what the machine is for; the trouble comes behind it
			text += "; " + trouble(s.Problems)
		}
		return hooks.Active("%s", text)
	case s.Installing:
		return hooks.Maintenance("installing checkbox")
	case s.CheckboxProblem != "":
		return hooks.Blocked("%s", s.CheckboxProblem)
	case len(s.Problems) > 0:
		return hooks.Blocked("%s", trouble(s.Problems))
	case s.Applied != sum:
		return hooks.Waiting("for the agent to apply the options")
	case l.id == "":
		return hooks.Active("%s, on its own%s", idle(s), undelivered(s))
	case errors.Is(l.problem, certagents.ErrNotReady):
		return hooks.Waiting("for the controller to publish its address")
	case l.problem != nil:
		return hooks.Blocked("the controller's databag is of no use, refresh both charms: %s", l.problem)
	case s.Controller == "enrolled":
		return hooks.Active("%s, enrolled%s", idle(s), undelivered(s))
	case s.Controller == "refused":
		return hooks.Waiting("for the controller to let this machine in%s%s", since(s.ControllerSince), because(s.ControllerError))
	default:
		return hooks.Waiting("for the controller to be reachable%s%s%s", since(s.ControllerSince), because(s.ControllerError), undelivered(s))
	}
}

func idle(s order.AgentStatus) string {
	text := "idle"
	if s.Queued > 0 {
		text = fmt.Sprintf("%d queued", s.Queued)
	}
	if s.CheckboxVersion != "" {
		text += ", checkbox " + s.CheckboxVersion
	}
	return text
}

func undelivered(s order.AgentStatus) string {
	switch s.Undelivered {
	case 0:
		return ""
	case 1:
		return ", 1 run to deliver"
	default:
		return fmt.Sprintf(", %d runs to deliver", s.Undelivered)
	}
}

// trouble is the first of the sentences, and how many more there are.
func trouble(problems []string) string {
	if n := len(problems) - 1; n > 0 {
		return fmt.Sprintf("%s (and %d more)", problems[0], n)
	}
	return problems[0]
}

// since tells a time, with its day: what has lasted may have lasted for days.
func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(", since 2 Jan 15:04")
}

func because(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}
