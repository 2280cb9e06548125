package main

import (
	"errors"
	"fmt"

	"certlab/internal/hooks"
	"certlab/internal/order"
	"certlab/internal/relate/certagents"
)

// unitStatus is what `juju status` shows of an agent that answers. sum is the desired state that it should have applied.
func unitStatus(s order.AgentStatus, l link, sum string) hooks.Status {
	switch {
	case s.Current != nil && s.Current.State == order.Running:
		plan := s.Current.Spec.Plan
		if s.Current.Started.IsZero() {
			return hooks.Active("running %s", plan)
		}
		return hooks.Active("running %s since %s", plan, s.Current.Started.UTC().Format("15:04"))
	case s.Installing:
		return hooks.Maintenance("installing checkbox")
	case s.CheckboxProblem != "":
		return hooks.Blocked("%s", s.CheckboxProblem)
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
		return hooks.Waiting("for the controller to let this machine in%s", because(s.ControllerError))
	default:
		return hooks.Waiting("for the controller to be reachable%s", because(s.ControllerError))
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

func because(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}
