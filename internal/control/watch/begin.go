package watch

import (
	"context"
	"fmt"
	"time"

	"certlab/internal/cert"
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
	if why := w.handless(ctx, m, c.Unit); why != "" {
		c.Step, c.Hands = cert.CycleHands, fmt.Sprintf("nothing was heard of it for %s %s, and %s: look at it, and switch it off and on", long, when(m, &c), why)
		return nil, w.store(ctx, m, &c, "silent", c.Hands, nil)
	}
	if limit := w.Config().Limits.Defaults().PowerCycles; done >= limit {
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

// when says what the machine was at when it fell silent.
func when(m *sqlite.Watched, c *cert.PowerCycle) string {
	if c.Attempt == 0 {
		return "since run " + m.Run + " was handed out to it"
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
