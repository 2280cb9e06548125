package provision

import (
	"context"
	"fmt"
	"slices"
	"time"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// drain waits until the machine holds nothing that is not stored, or somebody has discarded it.
func (a *at) drain(ctx context.Context) (bool, error) {
	if a.d.Enrolled != nil && a.r.Discard == "" && a.m.Gone == nil && a.p.Holder == cert.ThisLab {
		holds, over, err := a.holds(ctx)
		if err != nil {
			return false, err
		}
		if holds != "" {
			a.f.putOff(a.d.ID, a.f.Poll)
			return false, a.blockDrain(ctx, holds)
		}
		if len(over) == 0 { // else why it is silent is known
			if wait, err := a.silent(ctx); wait || err != nil {
				return false, err
			}
		}
	}
	if a.m.Gone != nil || a.p.Holder == cert.AJuju || a.p.Holder == cert.Otherwise {
		_, text := a.back()
		return a.over(ctx, text)
	}
	err := a.f.advance(ctx, a.d, func(e *edit) error {
		if e.r.Discard == "" && e.d.Enrolled != nil && a.p.Holder == cert.ThisLab {
			names, said, err := unstored(e.d, func(machine string) ([]string, error) { return e.tx.BegunRuns(machine, e.now.Add(-settleFor)) }, e.tx.AgentStatus)
			if err != nil {
				return err
			}
			names, over, err := sift(names, a.heard(said), e.now, e.tx.Run)
			if err != nil {
				return err
			}
			if len(names) > 0 {
				return errMoved // begun meanwhile
			}
			for _, s := range over {
				e.log("given-up", "certlab", s.why)
			}
		}
		if e.r.Discard != "" && e.d.Enrolled != nil {
			e.log("discarded", e.r.Discard, "what it holds and was not stored is discarded")
		}
		e.d.AgentKey, e.d.TokenHash = "", ""
		if e.r.Deployment == e.d.ID {
			e.r.Blocked = ""
		}
		e.step(stepUnlock, 0)
		return nil
	})
	if err == nil && a.d.AgentKey != "" {
		a.f.Lab.Wake(a.d.Machine)
	}
	return true, err
}

// Bounds of the wait for an agent that is not heard.
const (
	heardFor    = 2 * time.Minute  // an agent that was heard so short a time ago has told what it holds
	silentLimit = 15 * time.Minute // how long one is waited for that was not
	settleFor   = time.Minute      // one that comes back tells what it holds within that
)

// silent waits for the agent of a machine that was in use, if it was not heard for a while: it may hold what it could not tell of, because the
// controller or the network was away. It reports whether it has to be waited for.
func (a *at) silent(ctx context.Context) (bool, error) {
	f := a.f
	if f.Heard == nil || !arrived(a.d) || a.expired() {
		return false, nil
	}
	now := f.Now()
	heard := f.Heard(a.d.Machine)
	if a.d.Enrolled.After(heard) {
		heard = *a.d.Enrolled
	}
	if said, ok, err := f.DB.AgentStatus(ctx, a.d.Machine); err != nil {
		return false, err
	} else if ok && said.At.After(heard) {
		heard = said.At
	}
	current := now.Sub(heard) <= heardFor
	deadline := now.Add(silentLimit)
	switch {
	case a.d.Deadline == nil && current:
		return false, nil
	case a.d.Deadline != nil && current && a.d.Deadline.After(now.Add(settleFor)):
		deadline = now.Add(settleFor)
	case a.d.Deadline != nil:
		deadline = *a.d.Deadline
	}
	if a.d.Deadline == nil || !a.d.Deadline.Equal(deadline) {
		if err := f.advance(ctx, a.d, func(e *edit) error { e.d.Deadline = &deadline; return nil }); err != nil {
			return false, err
		}
	}
	f.putOff(a.d.ID, f.Poll)
	return true, a.block(ctx, fmt.Sprintf("machine %s is not released yet: its agent was silent since %s, and may hold what it could not tell of; it is waited for until %s "+
		"(to release it before, name the machine: certlab machine release %s --discard %s)", a.m.Machine.Hostname, heard.UTC().Format(time.RFC3339), deadline.UTC().Format(time.RFC3339), a.r.ID,
		a.m.Machine.Hostname))
}

// holds says what the machine holds that is not stored, empty: nothing; and of which runs nothing is waited for.
func (a *at) holds(ctx context.Context) (string, []spent, error) {
	names, said, err := unstored(a.d, func(machine string) ([]string, error) {
		return a.f.DB.BegunRuns(ctx, machine, a.f.Now().Add(-settleFor))
	},
		func(machine string) (sqlite.AgentSaid, bool, error) { return a.f.DB.AgentStatus(ctx, machine) })
	if err != nil {
		return "", nil, err
	}
	names, over, err := sift(names, a.heard(said), a.f.Now(), func(id string) (cert.Run, error) { return a.f.DB.Run(ctx, id) })
	if err != nil || len(names) == 0 {
		return "", over, err
	}
	return fmt.Sprintf("machine %s is not released yet: it holds what is not stored, of %s; it is released once that is here (to discard it, name the machine: "+
		"certlab machine release %s --discard %s)", a.m.Machine.Hostname, runsText(names), a.r.ID, a.m.Machine.Hostname), over, nil
}

// unstored returns the runs of which a deployment's machine holds something that is not stored, and what its agent said last.
func unstored(d cert.Deployment, begun func(machine string) ([]string, error), status func(machine string) (sqlite.AgentSaid, bool, error)) ([]string, sqlite.AgentSaid, error) {
	names, err := begun(d.Machine)
	if err != nil {
		return nil, sqlite.AgentSaid{}, err
	}
	said, found, err := status(d.Machine)
	if err != nil || !found || said.Key != d.ID {
		return names, said, err
	}
	for _, id := range append(slices.Clone(said.Status.Undelivered), said.Status.Running) {
		if id != "" && !slices.Contains(names, id) {
			names = append(names, id)
		}
	}
	return names, said, nil
}

// blockDrain says what a release waits for, also to the site.
func (a *at) blockDrain(ctx context.Context, text string) error {
	if a.r.Blocked == text {
		return nil
	}
	_, err := a.f.edit(ctx, a.d.ID, func(e *edit) error {
		if e.r.Deployment == e.d.ID && !e.r.Final() {
			e.r.Blocked = text
		}
		e.log("waiting", "certlab", text)
		return e.tx.Notice(a.f.notice(cert.NoticeBlocked, e, text))
	})
	return err
}
