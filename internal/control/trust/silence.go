package trust

import (
	"context"
	"fmt"
	"slices"

	"certlab/internal/cert"
)

// Silence takes in of which machines something is heard now and of which not. Several that fall silent together are an incident; it is over
// when half of them, or the one that is tried first, are heard again.
func (t *Trust) Silence(ctx context.Context, now []cert.Trial) error {
	if err := t.load(ctx); err != nil {
		return err
	}
	t.deciding.Lock()
	defer t.deciding.Unlock()
	at := t.Now()
	t.mu.Lock()
	t.silence = now
	t.mu.Unlock()
	covered := func(p cert.Place) bool { return false }
	for _, i := range t.incidents() {
		if i.Failure != cert.FailSilent {
			continue
		}
		grown, heard := false, 0
		for _, trial := range now {
			member := slices.Contains(i.Machines, trial.Place.Machine)
			switch {
			case trial.Failure == cert.FailSilent && !member && i.Covers(trial.Place) && trial.At.After(i.Opened.Add(-t.rule().Within)):
				i.Machines, grown = append(i.Machines, trial.Place.Machine), true
				i.Of = max(i.Of, len(i.Machines))
			case trial.Failure == "" && member && trial.At.After(i.Opened):
				heard++
				if trial.Place.Machine == i.Canary {
					heard = len(i.Machines)
				}
			}
		}
		why := fmt.Sprintf("%d of its %s answer again", min(heard, len(i.Machines)), plural(len(i.Machines), "machine"))
		var err error
		switch {
		case heard*2 >= len(i.Machines) && heard > 0:
			err = t.close(ctx, i, why, "")
		case grown:
			err = t.put(ctx, i, "", "", nil, nil)
		}
		if err != nil {
			return err
		}
		before := covered
		covered = func(p cert.Place) bool { return before(p) || i.Covers(p) }
	}
	var left []cert.Trial
	for _, trial := range now {
		if !covered(trial.Place) {
			left = append(left, trial)
		}
	}
	if found := t.rule().Find(left, at); found != nil {
		_, err := t.begin(ctx, *found, at)
		return err
	}
	return nil
}
