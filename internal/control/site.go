package control

import (
	"context"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// handOut leaves those orders that can be given to the machine's agent now, and records that they were given. What they use of the lab for
// themselves is theirs from then on, in the same transaction, until they are over: see sqlite.HandOut. Orders that have to wait stay where they are,
// and those behind them go ahead if they need nothing of it.
func (l *Lab) handOut(ctx context.Context, machine string, out *News) error {
	if len(out.Orders) == 0 {
		return nil
	}
	site, err := l.DB.Site(ctx, machine)
	if err != nil {
		return err
	}
	out.Manifest, out.Environment = site.Dossier.Manifest, cert.SiteEnvironment(site.Dossier, site.Zone)
	how := sqlite.HandOut{Shared: cert.SharedBy(site.Dossier, site.Zone), NoManifest: !site.Dossier.HasManifest(), Now: l.Now()}
	ready := out.Orders[:0]
	for _, r := range out.Orders {
		if r.HandedOut == nil {
			given, err := l.DB.HandOutRun(ctx, r.ID, how)
			if err != nil {
				return err
			}
			if !given {
				continue
			}
		}
		ready = append(ready, r)
	}
	out.Orders = ready
	return nil
}

// Freed wakes the machines that wait for what a run had for itself, once it is over.
func (l *Lab) Freed(ctx context.Context) {
	machines, err := l.DB.WaitingMachines(ctx)
	if err != nil {
		l.Logger.Error("cannot wake who waits for shared things", "error", err) // they ask again by themselves
		return
	}
	for _, m := range machines {
		l.hub.wake(m)
	}
}
