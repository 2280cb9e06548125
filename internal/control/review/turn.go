package review

import (
	"context"
	"errors"
	"fmt"

	"certlab/internal/cert"
	"certlab/internal/judge"
)

// Turn does what there is to do now: it compares what waits, ends what has run out, and has the policy decide where it may. What fails holds up
// nothing else, but no policy decides while something could not be done.
func (r *Review) Turn(ctx context.Context) error {
	if err := r.DB.Writable(); err != nil {
		return err
	}
	_, compared := r.CompareAll(ctx)
	err := errors.Join(compared, r.EndIssues(ctx), r.Relink(ctx), r.EndWaivers(ctx), r.Recompute(ctx))
	if err != nil {
		return err
	}
	return r.DecideAll(ctx)
}

// Recompute compares anew what was compared by older rules, target by target, in campaigns that are not final. When it is stopped, what it has done
// stays done.
func (r *Review) Recompute(ctx context.Context) error {
	return r.recompute(ctx, judge.Version)
}

// RecomputeAll compares everything in campaigns that are not final anew.
func (r *Review) RecomputeAll(ctx context.Context) error { return r.recompute(ctx, -1) }

func (r *Review) recompute(ctx context.Context, rules int) error {
	r.again.Lock()
	defer r.again.Unlock()
	after := ""
	for {
		ids, err := r.DB.StaleTargets(ctx, rules, after, batch)
		if err != nil || len(ids) == 0 {
			return err
		}
		for _, id := range ids {
			after = id
			if _, err := r.CompareTarget(ctx, id); err != nil && cert.CodeOf(err) != cert.NotFound {
				return fmt.Errorf("cannot compare target %s anew: %w", id, err)
			}
		}
	}
}
