package review

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"certlab/internal/judge"
)

// Turn does what there is to do now: it compares what waits, ends what has run out, and has the policy decide where it may. What fails holds up
// nothing else, but no policy decides while something could not be done.
func (r *Review) Turn(ctx context.Context) error {
	if err := r.DB.Writable(); err != nil {
		return err
	}
	n, compared := r.CompareAll(ctx)
	if first := !r.warmed.Swap(true); first || n > 0 {
		compared = errors.Join(compared, r.warm(ctx))
	}
	err := errors.Join(compared, r.EndIssues(ctx), r.Relink(ctx), r.EndWaivers(ctx), r.Recompute(ctx))
	if err != nil {
		return err
	}
	return r.DecideAll(ctx)
}

// warm counts over the results of campaigns that are not final, so that who looks at one does not wait for it.
func (r *Review) warm(ctx context.Context) error {
	open, err := r.DB.OpenCampaigns(ctx)
	if err != nil {
		return err
	}
	for n := range open[:min(len(open), talliesKept/2)] {
		if err := r.tallyOf(ctx, open[n].ID, func(*tally) {}); err != nil {
			return err
		}
	}
	return nil
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
		ids, err := r.DB.StaleTargets(ctx, rules, after, together)
		if err != nil || len(ids) == 0 {
			return err
		}
		after = ids[len(ids)-1]
		if err := r.compareTogether(ctx, ids); err != nil {
			return fmt.Errorf("cannot compare anew: %w", err)
		}
	}
}

// together is how many targets are compared before they are stored in one transaction.
const together = 40

// compareTogether compares targets, two at a time, and stores what they come to in one transaction.
func (r *Review) compareTogether(ctx context.Context, ids []string) error {
	all, errs := make([]*gathered, len(ids)), make([]error, len(ids))
	next := make(chan int, len(ids))
	for n := range ids {
		next <- n
	}
	close(next)
	var wait sync.WaitGroup
	for range 2 {
		wait.Go(func() {
			for n := range next {
				all[n], errs[n] = r.gather(ctx, ids[n])
			}
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(g *gathered) bool { return g == nil })
	left, err := r.keepAll(ctx, all)
	if err != nil {
		return err
	}
	for _, g := range left {
		if _, err := r.CompareTarget(ctx, g.target.ID); err != nil {
			return err
		}
	}
	return nil
}
