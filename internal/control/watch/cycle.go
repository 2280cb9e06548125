package watch

import (
	"context"
	"fmt"
	"time"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// stepLimit is how long a BMC may take until a machine is off, or on.
const stepLimit = 10 * time.Minute

// work does for a power cycle what can be done now. m is nil if nothing is expected of the machine any more.
func (w *Watch) work(ctx context.Context, c cert.PowerCycle, m *sqlite.Watched) error {
	m, err := w.complete(ctx, &c, m)
	if err != nil {
		return err
	}
	if m.State == cert.ReservationReleasing { // who releases it switches it
		c.Step, c.Since = cert.CycleGivenUp, w.Now()
		return w.store(ctx, m, &c, "silent", "its reservation is over: the lab's watch leaves it to be released", nil)
	}
	for {
		step := c.Step
		switch step {
		case cert.CycleBegun:
			err = w.switchOff(ctx, &c, m)
		case cert.CycleOff:
			err = w.switchOn(ctx, &c, m)
		case cert.CycleOn:
			err = w.await(ctx, &c, m)
		}
		if err != nil || c.Step == step || c.Final() {
			return err
		}
	}
}

// complete completes what is known of the machine: its run may be over by now. Then m.Run is empty.
func (w *Watch) complete(ctx context.Context, c *cert.PowerCycle, m *sqlite.Watched) (*sqlite.Watched, error) {
	if m != nil && m.Run == c.Run && m.Attempt == c.Attempt {
		return m, nil
	}
	now := sqlite.Watched{Machine: c.Machine}
	if m != nil {
		now = *m
	}
	if m == nil {
		row, err := w.DB.FleetRow(ctx, c.Machine)
		if err != nil {
			return nil, err
		}
		now.Hostname, now.Seen, now.Provided = row.Machine.Hostname, row.Machine.Seen, row.Provided
	}
	run, err := w.DB.Run(ctx, c.Run)
	if err != nil {
		return nil, err
	}
	now.Run, now.BootID, now.Reported = "", "", time.Time{}
	if !run.State.Final() {
		now.Run = c.Run
	}
	for _, a := range run.Attempts {
		if a.Number == c.Attempt {
			now.Attempt, now.BootID, now.Reported = a.Number, a.BootID, a.Updated
		}
	}
	return &now, nil
}

func (w *Watch) switchOff(ctx context.Context, c *cert.PowerCycle, m *sqlite.Watched) error {
	if back, err := w.back(ctx, c, m); back || err != nil {
		return err
	}
	if c.Console == "" {
		c.Console = w.saveConsole(ctx, c, m)
		if err := w.store(ctx, m, c, "", "", nil); err != nil {
			return err
		}
	}
	if !c.Sent {
		c.Sent, c.Since = true, w.Now()
		if err := w.store(ctx, m, c, "power", fmt.Sprintf("switched off, for %s; %s", ordinal(c.Number), c.Console), nil); err != nil {
			return err
		}
	}
	off, err := w.power(ctx, c, m, cert.SwitchOff, cert.PowerOff)
	if !off || err != nil {
		return err
	}
	// From here on the job is lost, whatever becomes of the machine.
	c.Step, c.Since, c.Problem = cert.CycleOff, w.Now(), ""
	return w.store(ctx, m, c, "", "", w.lost(c))
}

func (w *Watch) switchOn(ctx context.Context, c *cert.PowerCycle, m *sqlite.Watched) error {
	on, err := w.power(ctx, c, m, cert.SwitchOn, cert.PowerOn)
	if !on || err != nil {
		return err
	}
	c.Step, c.Since, c.Problem = cert.CycleOn, w.Now(), ""
	return w.store(ctx, m, c, "power", fmt.Sprintf("switched on, for %s: its agent is waited for", ordinal(c.Number)), nil)
}

// back ends a power cycle whose machine was heard before it was off.
func (w *Watch) back(ctx context.Context, c *cert.PowerCycle, m *sqlite.Watched) (bool, error) {
	heard := m.Seen != nil && m.Seen.After(c.Heard) || m.Reported.After(c.Heard)
	if !heard {
		return false, nil
	}
	if boot := w.boot(c, m); c.Sent && boot != "" && boot != c.Boot {
		return true, w.resumed(ctx, c, m, boot)
	}
	if c.Sent && w.boot(c, m) == "" && w.Now().Sub(c.Since) < stepLimit {
		return true, nil // it says which boot it is soon
	}
	c.Step, c.Since = cert.CycleBack, w.Now()
	return true, w.store(ctx, m, c, "silent", fmt.Sprintf("heard again after %s by itself: it is not power-cycled", silence(heardAt(m).Sub(c.Heard))), nil)
}

func heardAt(m *sqlite.Watched) time.Time {
	if m.Seen != nil && m.Seen.After(m.Reported) {
		return *m.Seen
	}
	return m.Reported
}

// boot returns the boot id that the machine has named: a new one since it fell silent, or the one before since the cycle's step began, when it
// should be off. Empty: neither.
func (w *Watch) boot(c *cert.PowerCycle, m *sqlite.Watched) string {
	from := c.Since
	if c.Step == cert.CycleBegun {
		from = c.Heard
	}
	for _, said := range []struct {
		boot string
		at   time.Time
	}{{m.BootID, m.Reported}, {m.Boot, m.Said}} {
		if said.boot != "" && (said.at.After(from) || said.boot != c.Boot && said.at.After(c.Heard)) {
			return said.boot
		}
	}
	return ""
}

// await waits for the agent with a new boot id.
func (w *Watch) await(ctx context.Context, c *cert.PowerCycle, m *sqlite.Watched) error {
	now := w.Now()
	heard := heardAt(m).After(c.Since)
	switch boot := w.boot(c, m); {
	case boot != "" && boot != c.Boot, heard && c.Boot == "", heard && m.Run == "":
		return w.resumed(ctx, c, m, boot)
	case boot != "": // the same: the power was never off
		c.Step, c.Since = cert.CycleGivenUp, now
		c.Hands = "its BMC lies: it said that the machine was off and on again, and the machine goes on with the same boot"
		return w.store(ctx, m, c, "power", c.Hands, func(t *sqlite.FleetTx) error { return t.DropLostJob(c.Run, c.Attempt, c.Job, c.At) })
	}
	limit := w.patience()
	if heard {
		limit *= 2 // it is up
	}
	if now.Sub(w.from(c.Since)) < limit {
		return nil
	}
	why := fmt.Sprintf("after %s nothing was heard of it for %s", ordinal(c.Number), silence(now.Sub(c.Since)))
	if m.Run == "" {
		return w.giveUp(ctx, m, c, why)
	}
	if c.Number >= w.Config().Limits.Defaults().PowerCycles {
		return w.giveUp(ctx, m, c, why+", and no more power cycles are allowed for an attempt (power-cycles)")
	}
	if w.Gate != nil && w.Gate.MayCycle(place(m)) != nil {
		return nil
	}
	next := *c
	next.At, next.Step, next.Number, next.Since, next.Sent, next.Console, next.Problem = now, cert.CycleBegun, c.Number+1, now, false, "", ""
	c.Step, c.Since = cert.CycleGivenUp, now
	err := w.store(ctx, m, c, "silent", why+": it is power-cycled again", func(t *sqlite.FleetTx) error { return t.PutCycle(next) })
	return err
}

// patience is how long a machine that was told to boot may take until it is heard.
func (w *Watch) patience() time.Duration {
	limits := w.Config().Limits.Defaults()
	if limits.BootSeconds > 0 {
		return time.Duration(limits.BootSeconds) * time.Second
	}
	return time.Duration(limits.BootMinutes) * time.Minute
}

// resumed ends a power cycle whose machine is back.
func (w *Watch) resumed(ctx context.Context, c *cert.PowerCycle, m *sqlite.Watched, boot string) error {
	c.Step, c.Since, c.NewBoot, c.Problem = cert.CycleResumed, w.Now(), boot, ""
	if c.Attempt == 0 {
		return w.store(ctx, m, c, "resumed", fmt.Sprintf("back after %s; run %s is handed out again", ordinal(c.Number), c.Run), nil)
	}
	return w.store(ctx, m, c, "resumed", fmt.Sprintf("back after %s; %s counts as machine-lost", ordinal(c.Number), jobText(c.Job)), w.lost(c))
}

// lost records the job in which the machine was lost.
func (w *Watch) lost(c *cert.PowerCycle) func(*sqlite.FleetTx) error {
	if c.Attempt == 0 { // no job is known to have begun
		return nil
	}
	l := cert.LostJob{Job: c.Job, At: c.At, Boots: []string{c.Boot}, Power: ordinal(c.Number), Text: "the machine kept silent in this job for longer than it may and was power-cycled"}
	if c.Job == "" {
		l.Text = "the machine kept silent for longer than it may and was power-cycled"
	}
	if c.NewBoot != "" {
		l.Boots = append(l.Boots, c.NewBoot)
		l.Text += ", and came back"
	}
	return func(t *sqlite.FleetTx) error { return t.PutLostJob(c.Run, c.Attempt, l) }
}
