package provision

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// list reads all machines.
func (f *Fleet) list(ctx context.Context, provider cert.Provider) error {
	f.mu.Lock()
	started := f.seq
	f.nextList = f.Now().Add(f.Full)
	known := f.about != nil
	f.mu.Unlock()
	all, err := provider.List(ctx)
	if err != nil {
		f.lost(err, true)
		return ctx.Err()
	}
	if !known {
		// Who we are there changes rarely; a failure is told by the next call.
		if about, err := provider.About(ctx); err == nil {
			f.mu.Lock()
			f.about = &about
			f.mu.Unlock()
		}
	}
	if err := f.take(ctx, all, nil, started); err != nil {
		f.mu.Lock()
		f.nextList = f.Now().Add(maxBackoff)
		f.mu.Unlock()
		return err
	}
	f.mu.Lock()
	f.listed = f.Now()
	f.mu.Unlock()
	if err := f.found(ctx); err != nil {
		return err
	}
	return f.strays(ctx)
}

// take stores what the provider says of machines. asked are those that it was asked for; nil: all. What is older than a change that was made
// meanwhile is left out.
func (f *Fleet) take(ctx context.Context, got []cert.Provided, asked []string, started int64) error {
	rows, err := f.DB.FleetRows(ctx)
	if err != nil {
		return err
	}
	byKey := make(map[string]*sqlite.FleetRow, len(rows))
	for n := range rows {
		byKey[rows[n].Machine.Key] = &rows[n]
	}
	listed := make(map[string]bool, len(got))
	type change struct {
		p    *cert.Provided // nil: gone
		m    *sqlite.FleetRow
		gone bool
	}
	var changes []change
	f.mu.Lock()
	stale := func(m *sqlite.FleetRow) bool { return m != nil && f.touched[m.Machine.ID] > started }
	for n := range got {
		p := &got[n]
		key := machineKey(p.ID)
		listed[key] = true
		m := byKey[key]
		if stale(m) || m != nil && m.Provider != "" && m.Gone == nil && m.Provided != nil && reflect.DeepEqual(*m.Provided, *p) && named(m, p) {
			continue
		}
		changes = append(changes, change{p: p, m: m})
	}
	if asked == nil {
		for key, m := range byKey {
			if m.Provider != "" && m.Gone == nil && !listed[key] && !stale(m) {
				changes = append(changes, change{m: m, gone: true})
			}
		}
	} else {
		for _, id := range asked {
			if m := byKey[machineKey(id)]; m != nil && m.Gone == nil && !listed[machineKey(id)] && !stale(m) {
				changes = append(changes, change{m: m, gone: true})
			}
		}
	}
	f.mu.Unlock()
	if len(changes) == 0 {
		return nil
	}
	err = f.DB.ChangeFleet(ctx, func(tx *sqlite.FleetTx) error {
		for _, c := range changes {
			if err := f.takeOne(tx, c.p, c.m, c.gone); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		f.ring()
	}
	return err
}

func machineKey(id string) string { return cert.Identity{SystemID: id}.Key() }

// named reports whether the machine is called what its provider calls it. What a unit or an agent says of it holds before that.
func named(m *sqlite.FleetRow, p *cert.Provided) bool {
	return m.Machine.Unit != "" || m.Machine.Hostname == p.Hostname && m.Machine.Architecture == p.Architecture && m.Machine.ProductUUID == p.ProductUUID
}

func (f *Fleet) takeOne(tx *sqlite.FleetTx, p *cert.Provided, known *sqlite.FleetRow, gone bool) error {
	now := f.Now()
	e := edit{tx: tx, now: now}
	var err error
	if known == nil {
		m := cert.Machine{ID: cert.NewID(cert.MachineID, now), Key: machineKey(p.ID), Origin: cert.OriginMAAS, Hostname: p.Hostname, Architecture: p.Architecture,
			SystemID: p.ID, ProductUUID: p.ProductUUID, Created: now}
		if err := tx.AddMachine(m); err != nil {
			return err
		}
		e.m = sqlite.FleetRow{Machine: m}
	} else if e.m, err = tx.Machine(known.Machine.ID); err != nil {
		return err
	}
	if e.d, err = tx.OpenDeployment(e.m.Machine.ID); err == nil {
		e.r, err = tx.Reservation(e.d.Reservation)
	} else if cert.CodeOf(err) == cert.NotFound {
		e.d, err = cert.Deployment{}, nil
	}
	if err != nil {
		return err
	}
	return f.store(&e, func(e *edit) error {
		if gone {
			e.m.Gone = &now
			e.log("gone", "maas", "its provider does not list it any more")
			return nil
		}
		switch {
		case e.m.Provider == "":
			e.log("listed", "maas", fmt.Sprintf("its provider lists it: %s, %s, pool %s, zone %s", p.Hostname, p.StatusName, p.Pool, p.Zone))
		case e.m.Gone != nil:
			e.log("back", "maas", "its provider lists it again: "+p.StatusName)
		}
		if was := e.m.Provided; was != nil && e.d.ID == "" && (was.Status != p.Status || was.Holder != p.Holder) {
			e.log("provider", "maas", fmt.Sprintf("it went from %s to %s%s", was.StatusName, p.StatusName, heldBy(p)))
		}
		e.m.Provider, e.m.Provided, e.m.Gone, e.m.Read = "maas", p, nil, now
		if !named(&e.m, p) {
			e.m.Machine.Hostname, e.m.Machine.Architecture, e.m.Machine.ProductUUID = p.Hostname, p.Architecture, p.ProductUUID
			return e.tx.NameMachine(e.m.Machine)
		}
		return nil
	})
}

func heldBy(p *cert.Provided) string {
	switch p.Holder {
	case cert.AJuju:
		return ", held by Juju model " + p.JujuModel
	case cert.Otherwise:
		return ", held by " + first(p.Owner, "somebody else")
	}
	return ""
}

// orphanAfter is how long a machine that this lab holds for nobody is left alone: after a restore an agent may still be at work on it.
const orphanAfter = 24 * time.Hour

// strays finds machines that this lab holds and that no reservation here knows of, and deployments whose machine is not theirs any more.
func (f *Fleet) strays(ctx context.Context) error {
	p, err := f.look(ctx)
	if err != nil {
		return err
	}
	now := f.Now()
	for n := range p.rows {
		m := &p.rows[n]
		d := p.deploying[m.Machine.ID]
		mine := m.Provided != nil && m.Gone == nil && m.Provided.Holder == cert.ThisLab
		switch {
		case d != nil && d.Phase == cert.PhaseReady && (!mine || m.Provided.Status != cert.StatusDeployed):
			// Looked at alone first: the list may be older than what was done since.
			if err := f.vanished(ctx, *d); err != nil {
				return err
			}
		case d != nil && d.Phase == cert.PhaseReady && d.Step == "" && f.unlocked(d.ID, m.Provided.Locked):
			err = f.advance(ctx, *d, func(e *edit) error { e.d.Step = stepLock; return nil })
			if errors.Is(err, errMoved) {
				err = nil
			}
		case d == nil && mine && m.Quarantine == nil && m.Orphan == nil:
			err = f.editMachine(ctx, m.Machine.ID, func(e *edit) error {
				e.m.Orphan = &now
				e.log("orphan", "certlab", "this lab holds it at the provider, and no reservation here knows of it; it is left alone for a day, for an agent may be at work on it "+
					"(to release it before, release it by name)")
				return nil
			})
		case (d != nil || !mine) && m.Orphan != nil:
			err = f.editMachine(ctx, m.Machine.ID, func(e *edit) error { e.m.Orphan = nil; return nil })
		case d == nil && mine && m.Orphan != nil && now.Sub(*m.Orphan) >= orphanAfter:
			_, err = f.adopt(ctx, m.Machine.ID, "certlab", "no reservation here has known of it for a day")
		}
		if err != nil && !sqlite.Doubled(err) {
			return err
		}
	}
	return nil
}

// relockAfter is how long a machine that is in use may be unlocked: whoever switches it unlocks it for that.
const relockAfter = 5 * time.Minute

// unlocked notes whether the machine of a deployment that is in use is locked. It reports whether it was unlocked for too long, and begins to wait
// anew then: a provider may refuse to lock it.
func (f *Fleet) unlocked(deployment string, locked bool) bool {
	now := f.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	since, noted := f.open[deployment]
	switch {
	case locked:
		delete(f.open, deployment)
	case !noted:
		f.open[deployment] = now
		if again := now.Add(relockAfter); again.Before(f.nextList) {
			f.nextList = again
		}
	case now.Sub(since) >= relockAfter:
		f.open[deployment] = now
		return true
	}
	return false
}

// editMachine changes a machine on which no deployment is, or which is not about it.
func (f *Fleet) editMachine(ctx context.Context, machine string, fn func(*edit) error) error {
	err := f.DB.ChangeFleet(ctx, func(tx *sqlite.FleetTx) error {
		e, err := f.begin(tx, machine)
		if err != nil {
			return err
		}
		return f.store(&e, fn)
	})
	if err == nil {
		f.ring()
	}
	return err
}

// touch notes that something was changed at the provider for a machine: what was asked before is out of date.
func (f *Fleet) touch(machine string) {
	f.mu.Lock()
	f.seq++
	f.touched[machine] = f.seq
	f.mu.Unlock()
}
