package watch

import (
	"context"
	"fmt"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// begin stores that a machine is to be power-cycled, or, if that cannot be or was done too often, what becomes of it instead.
func (w *Watch) begin(ctx context.Context, m *sqlite.Watched, q cert.Quiet, now time.Time) (*cert.PowerCycle, error) {
	before, err := w.DB.Cycles(ctx, m.Run, m.Attempt)
	if err != nil {
		return nil, err
	}
	done := 0
	for _, c := range before {
		if c.Sent {
			done++
		}
		if c.Step == cert.CycleHands && c.Heard.Equal(q.Heard) {
			return nil, nil // said already
		}
	}
	c := cert.PowerCycle{Run: m.Run, Attempt: m.Attempt, Machine: m.Machine, At: now, Job: m.Progress.CurrentJob, Step: cert.CycleBegun, Number: done + 1,
		Since: now, Heard: q.Heard, Boot: first(m.BootID, m.Boot), Unit: m.Provided != nil && m.Provided.Holder != cert.ThisLab && m.Unit}
	if m.Provided != nil {
		c.Provider = m.Provided.ID
	}
	long := silence(now.Sub(q.Heard))
	booting, err := w.booting(ctx, m)
	if err != nil {
		return nil, err
	}
	if why := w.handless(ctx, m, c.Unit); why != "" {
		if booting { // the run need not wait for a person: what it was to find out is found out
			c.Console = w.saveConsole(ctx, &c, m)
			return nil, w.giveUp(ctx, m, &c, fmt.Sprintf("nothing was heard of it for %s, and %s; %s", long, why, c.Console))
		}
		c.Step, c.Hands = cert.CycleHands, fmt.Sprintf("nothing was heard of it for %s %s, and %s: look at it, and switch it off and on", long, when(m, &c), why)
		return nil, w.store(ctx, m, &c, "silent", c.Hands, nil)
	}
	if limit := w.Config().Limits.Defaults().PowerCycles; done >= limit {
		if booting {
			c.Console = w.saveConsole(ctx, &c, m)
		}
		return nil, w.giveUp(ctx, m, &c, fmt.Sprintf("it keeps silent again after %d power cycles, which is the limit of an attempt (power-cycles)", done))
	}
	return &c, w.store(ctx, m, &c, "silent", fmt.Sprintf("nothing was heard of it for %s %s: it is power-cycled (%s of %s)",
		long, when(m, &c), ordinal(c.Number), attemptText(&c)), nil)
}

// handless says why nobody but a person can switch a machine; empty if that is not so.
func (w *Watch) handless(ctx context.Context, m *sqlite.Watched, unit bool) string {
	switch {
	case w.Provider() == nil:
		return "this controller has no provider that could switch it"
	case m.Provided == nil:
		return "no provider knows it"
	case m.Provided.PowerType == "" || m.Provided.PowerType == "manual":
		return "its power type is manual"
	case unit && !w.Config().MAAS.PowerUnits:
		return "machines that carry a unit are not to be switched (option power-units)"
	case unit && !w.placed(ctx, m):
		return "nothing confirms that its unit is on the provider's machine " + m.Provided.ID + " (the product UUID or a MAC address has to agree)"
	case !unit && m.Provided.Holder != cert.ThisLab:
		return "somebody else holds it at the provider"
	}
	return ""
}

// placed reports whether the hardware confirms that the unit is on that machine: its own word is a file on a disk, and disks are moved and cloned.
func (w *Watch) placed(ctx context.Context, m *sqlite.Watched) bool {
	return w.Placed != nil && w.Placed(ctx, m.Machine, *m.Provided).Confirmed
}

// giveUp ends the run whose machine cannot be got back.
func (w *Watch) giveUp(ctx context.Context, m *sqlite.Watched, c *cert.PowerCycle, why string) error {
	if booting, err := w.booting(ctx, m); err != nil {
		return err
	} else if booting {
		return w.giveUpKernel(ctx, m, c, why)
	}
	c.Step, c.Since = cert.CycleGivenUp, w.Now()
	if m.Run != "" { // else its run is over, and whoever has the machine next finds out
		c.Hands = "it was lost in " + jobText(c.Job) + " and does not come back: " + why
	}
	text := fmt.Sprintf("run %s has lost its machine in %s: %s; what the machine delivers after all is taken", c.Run, jobText(c.Job), why)
	return w.store(ctx, m, c, "given-up", text, func(t *sqlite.FleetTx) error {
		return t.ChangeRun(c.Run, func(run *cert.Run) (bool, error) {
			return run.LoseMachine("its machine kept silent in "+jobText(c.Job)+" and could not be got back: "+why+
				" (look at the machine, then run it again)", w.Now()), nil
		})
	})
}

// store stores a step together with what it means: an event in the machine's log if there is a text, a notice if somebody has to go there.
func (w *Watch) store(ctx context.Context, m *sqlite.Watched, c *cert.PowerCycle, kind, text string, also func(*sqlite.FleetTx) error) error {
	now := w.Now()
	err := w.DB.ChangeFleet(ctx, func(t *sqlite.FleetTx) error {
		if err := t.PutCycle(*c); err != nil {
			return err
		}
		if text != "" {
			if err := t.Event(cert.MachineEvent{Machine: c.Machine, At: now, Kind: kind, Who: "certlab", Text: text}); err != nil {
				return err
			}
		}
		if c.Final() && c.Hands != "" {
			n := cert.NewNotice(cert.NoticeNeedsHands, c.Machine+c.Run+c.At.Format(time.RFC3339Nano), now, m.Hostname+": "+c.Hands+cert.Where(m.Dossier.Rack, m.Dossier.Position))
			n.Machine, n.Hostname = c.Machine, m.Hostname
			if err := t.Notice(n); err != nil {
				return err
			}
		}
		if also != nil {
			return also(t)
		}
		return nil
	})
	if err == nil && text != "" {
		w.Logger.Warn("a machine is silent", "machine", m.Hostname, "run", c.Run, "step", c.Step, "text", text)
	}
	return err
}

// booting reports whether the last that was heard of a machine is that it goes down into a kernel that is under test.
func (w *Watch) booting(ctx context.Context, m *sqlite.Watched) (bool, error) {
	if m.Run == "" || m.Attempt == 0 {
		return false, nil
	}
	run, err := w.DB.Run(ctx, m.Run)
	return err == nil && run.Booting(), err
}

// giveUpKernel ends the run whose machine does not come up with the kernel that was selected. That says something about the kernel, and nothing
// about the machine: who has it next finds it as its provider makes it.
func (w *Watch) giveUpKernel(ctx context.Context, m *sqlite.Watched, c *cert.PowerCycle, why string) error {
	if c.Step != cert.CycleBegun || c.Console == "" {
		after := *c
		after.Number++ // a file of its own: what the console says since the power came
		c.Console = w.saveConsole(ctx, &after, m)
	}
	if !strings.Contains(why, c.Console) {
		why += "; " + c.Console
	}
	c.Step, c.Since = cert.CycleGivenUp, w.Now()
	run, err := w.DB.Run(ctx, c.Run)
	if err != nil {
		return err
	}
	kernel := run.Spec.Subject.Source + " " + run.Spec.Subject.Version
	if release := run.Spec.Subject.Release(); release != "" {
		kernel = release + " (" + kernel + ")"
	}
	if m.Provided == nil || c.Unit || m.Unit {
		// Somebody has to go there. It is not quarantined for that.
		c.Step, c.Hands = cert.CycleHands, "kernel "+kernel+" does not boot on it: "+why
	}
	text := fmt.Sprintf("run %s ends: kernel %s was selected, and the machine does not come up with it: %s; what it delivers after all is taken", c.Run, kernel, why)
	return w.store(ctx, m, c, "given-up", text, func(t *sqlite.FleetTx) error {
		return t.ChangeRun(c.Run, func(run *cert.Run) (bool, error) {
			return run.LoseKernel(fmt.Sprintf("kernel %s was selected, and the machine did not come up with it: %s", kernel, why), w.Now()), nil
		})
	})
}

// when says what the machine was at when it fell silent.
func when(m *sqlite.Watched, c *cert.PowerCycle) string {
	if c.Attempt == 0 {
		return "since run " + m.Run + " was handed out to it"
	}
	if m.Progress.Phase == string(order.Booting) {
		return "while it was to boot what is under test"
	}
	return "during " + jobText(c.Job)
}

func attemptText(c *cert.PowerCycle) string {
	if c.Attempt == 0 {
		return "run " + c.Run + ", which was not reported yet"
	}
	return fmt.Sprintf("attempt %d of run %s", c.Attempt, c.Run)
}

func jobText(job string) string {
	if job == "" {
		return "no job"
	}
	return "job " + job
}

func ordinal(n int) string { return fmt.Sprintf("power cycle %d", n) }

func first(all ...string) string {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
}
