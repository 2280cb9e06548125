package trust

import (
	"context"
	"fmt"
	"slices"
	"time"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// A canary is the first machine that is deployed after the provider has changed its version: until it has passed, nothing else is.
type canary struct {
	Version  string    `json:"version"`
	From     string    `json:"from"`
	Since    time.Time `json:"since"`
	Machine  string    `json:"machine,omitempty"` // that is being tried, or was last
	Deadline time.Time `json:"deadline"`          // then it is trusted without one
	Failed   []string  `json:"failed,omitempty"`  // machines
	Problem  string    `json:"problem,omitempty"` // of the last one
	Next     time.Time `json:"next,omitzero"`     // of the next try
}

const (
	canaryLimit = 6 * time.Hour    // then people have waited long enough for a machine that could be tried
	canaryAgain = 15 * time.Minute // after one that failed
)

func (c *canary) text(machine string) string {
	text := fmt.Sprintf("the provider has changed from version %s to %s", c.From, c.Version)
	switch {
	case c.Problem != "":
		return fmt.Sprintf("%s, and the first machine that was deployed since has failed: %s; another is tried (to go on all the same: certlab machine resume)", text, c.Problem)
	case c.Machine != "":
		return fmt.Sprintf("%s: %s is deployed, checked and released first (to go on all the same: certlab machine resume)", text, machine)
	}
	return fmt.Sprintf("%s: one machine has to be deployed, checked and released first, and none is free for that (to go on all the same: certlab machine resume)", text)
}

func (t *Trust) canaryNow() *canary {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state.Canary == nil {
		return nil
	}
	c := *t.state.Canary
	return &c
}

// tendCanary sees whether the provider has changed its version, and has one machine tried.
func (t *Trust) tendCanary(ctx context.Context) error {
	about, known := t.About(ctx)
	now := t.Now()
	c := t.canaryNow()
	t.mu.Lock()
	trusted := t.state.Version
	t.mu.Unlock()
	switch {
	case !known || about.Version == "":
	case trusted == "" && c == nil:
		return t.save(ctx, func(s *state) { s.Version = about.Version })
	case c != nil && about.Version == trusted: // it has gone back
		return t.trustVersion(ctx, c, "the provider is back at version "+trusted, "")
	case about.Version != trusted && (c == nil || c.Version != about.Version):
		c = &canary{Version: about.Version, From: trusted, Since: now, Deadline: now.Add(canaryLimit)}
		t.Logger.Warn("the provider has changed its version: one machine is tried first", "from", trusted, "to", about.Version)
		if err := t.save(ctx, func(s *state) { s.Canary = c }); err != nil {
			return err
		}
	}
	if c == nil {
		return nil
	}
	if !now.Before(c.Deadline) && len(c.Failed) == 0 {
		return t.trustVersion(ctx, c, fmt.Sprintf("no machine was free for a canary within %s: provider version %s is trusted without", canaryLimit, c.Version), "")
	}
	for _, under := range t.checks() {
		if under.Kind == checkCanary {
			return nil
		}
	}
	if now.Before(c.Next) {
		return nil
	}
	return t.tryCanary(ctx, c)
}

// tryCanary picks the machine: a free one with which deployments went well, and another than those that failed.
func (t *Trust) tryCanary(ctx context.Context, c *canary) error {
	machines, err := t.Fleet().Machines(ctx)
	if err != nil {
		return err
	}
	best, score := "", -1.0
	for n := range machines {
		m := &machines[n]
		if m.State != cert.MachineFree || m.Paused != nil || m.Incident != "" {
			continue
		}
		past, err := t.DB.Deployments(ctx, sqlite.DeploymentFilter{Machine: m.ID}, 20)
		if err != nil {
			return err
		}
		r := cert.ReliabilityOf(past)
		s := (float64(r.Succeeded) + 0.5) / (float64(r.Deployments) + 1)
		if slices.Contains(c.Failed, m.ID) {
			s /= 1000
		}
		if s > score {
			best, score = m.ID, s
		}
		if n >= 200 && best != "" { // good enough
			break
		}
	}
	if best == "" {
		return nil
	}
	if err := t.save(ctx, func(s *state) {
		if s.Canary != nil {
			s.Canary.Machine, s.Canary.Problem = best, ""
		}
	}); err != nil {
		return err
	}
	return t.startCheck(ctx, check{Machine: best, Kind: checkCanary}, "the first one after the provider's change to version "+c.Version)
}

// canaryOver takes in what the canary has shown.
func (t *Trust) canaryOver(ctx context.Context, was check, passed bool, why string) error {
	c := t.canaryNow()
	if c == nil {
		return nil
	}
	name := t.name(was.Machine)
	if passed {
		return t.trustVersion(ctx, c, fmt.Sprintf("%s was deployed, checked and released with provider version %s: the others go on", name, c.Version), "")
	}
	now := t.Now()
	n := cert.NewNotice(cert.NoticeCanary, c.Version+was.Machine+was.Since.Format(time.RFC3339Nano), now,
		fmt.Sprintf("the first machine since the provider has changed from version %s to %s, %s, has failed: %s; new deployments wait", c.From, c.Version, name, why))
	n.Machine, n.Hostname = was.Machine, name
	if err := t.DB.ChangeFleet(ctx, func(tx *sqlite.FleetTx) error { return tx.Notice(n) }); err != nil {
		return err
	}
	return t.save(ctx, func(s *state) {
		if s.Canary != nil && !slices.Contains(s.Canary.Failed, was.Machine) {
			s.Canary.Failed = append(slices.Clone(s.Canary.Failed), was.Machine)
		}
		if s.Canary != nil {
			s.Canary.Problem, s.Canary.Next = name+": "+why, now.Add(canaryAgain)
		}
	})
}

// trustVersion ends the wait for a canary.
func (t *Trust) trustVersion(ctx context.Context, c *canary, text, by string) error {
	n := cert.NewNotice(cert.NoticeCanary, c.Version+c.Since.Format(time.RFC3339Nano), t.Now(), text)
	n.Person = by
	if err := t.DB.ChangeFleet(ctx, func(tx *sqlite.FleetTx) error {
		if c.Machine != "" {
			if err := tx.Event(cert.MachineEvent{Machine: c.Machine, At: t.Now(), Kind: "canary", Who: first(by, "certlab"), Text: text}); err != nil {
				return err
			}
		}
		return tx.Notice(n)
	}); err != nil {
		return err
	}
	t.Logger.Info("the provider's version is trusted", "version", c.Version, "reason", text)
	version := c.Version
	if about, known := t.About(ctx); known && about.Version != "" {
		version = about.Version
	}
	return t.save(ctx, func(s *state) { s.Version, s.Canary = version, nil })
}

func first(all ...string) string {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
}
