package campaign

import (
	"context"
	"fmt"
	"strings"
	"time"

	"certlab/internal/cert"
)

// measuredRuns is how many of the newest runs, and deployments, an expectation rests on.
const measuredRuns = 50

// A history answers with how long things have taken, and asks the database for each once.
type history struct {
	ctx    context.Context
	e      *Engine
	plans  map[string][]float64
	deploy []float64
	asked  bool
}

func (e *Engine) history(ctx context.Context) *history {
	return &history{ctx: ctx, e: e, plans: map[string][]float64{}}
}

// plan returns how long a run of a plan takes, in seconds, in the middle case, and from how many; 0: nobody knows.
func (h *history) plan(plan string) (float64, int, error) {
	all, known := h.plans[plan]
	if !known {
		var err error
		if all, err = h.e.DB.PlanSeconds(h.ctx, plan, measuredRuns); err != nil {
			return 0, 0, err
		}
		h.plans[plan] = all
	}
	return cert.Quantile(all, 0.5), len(all), nil
}

// ready returns how long a machine takes to be ready, in seconds; 0: nobody knows.
func (h *history) ready() (float64, int, error) {
	if !h.asked {
		var err error
		if h.deploy, err = h.e.DB.DeploySeconds(h.ctx, measuredRuns); err != nil {
			return 0, 0, err
		}
		h.asked = true
	}
	return cert.Quantile(h.deploy, 0.5), len(h.deploy), nil
}

// expected is how long a target takes from its start; 0: nobody knows.
func (h *history) expected(plan string, asFound bool) (time.Duration, error) {
	run, n, err := h.plan(plan)
	if err != nil || n == 0 {
		return 0, err
	}
	if !asFound {
		ready, _, err := h.ready()
		if err != nil {
			return 0, err
		}
		run += ready
	}
	return time.Duration(run * float64(time.Second)), nil
}

// An outlook is when a campaign's runs are likely to be over.
type outlook struct {
	finish *time.Time
	basis  string
	holds  *bool
}

// forecast says when targets that have not begun, counted by plan, and those that run, by when they are likely to end, are over.
func (h *history) forecast(c *cert.Campaign, waiting map[string]int, running []time.Time, now time.Time) (outlook, error) {
	var out outlook
	var longest, total time.Duration
	var basis []string
	count := 0
	last := now
	for _, plan := range sortedKeys(waiting) {
		each, err := h.expected(plan, false)
		if err != nil {
			return out, err
		}
		if each == 0 {
			out.basis = fmt.Sprintf("plan %s has not been run here yet", plan)
			return out, nil
		}
		_, n, _ := h.plan(plan)
		basis = append(basis, fmt.Sprintf("the last %s of %s", plural(n, "run"), plan))
		longest, total, count = max(longest, each), total+each*time.Duration(waiting[plan]), count+waiting[plan]
	}
	for _, end := range running {
		if end.After(last) {
			last = end
		}
	}
	if count > 0 {
		lanes := count + len(running)
		if c.AtOnce > 0 {
			lanes = min(lanes, c.AtOnce)
		}
		for _, end := range running {
			if left := end.Sub(now); left > 0 {
				total += left
			}
		}
		if end := now.Add(max(longest, total/time.Duration(max(lanes, 1)))); end.After(last) {
			last = end
		}
		if _, n, err := h.ready(); err == nil && n > 0 {
			basis = append(basis, fmt.Sprintf("the last %s", plural(n, "deployment")))
		}
		if c.AtOnce > 0 {
			basis = append(basis, fmt.Sprintf("%d at once", c.AtOnce))
		}
	}
	if count == 0 && len(running) == 0 {
		return out, nil
	}
	out.finish, out.basis = &last, strings.Join(basis, ", ")
	if c.Due != nil {
		holds := !last.After(c.Due.Add(-hours(c.Rules.Deadline.DecideHours)))
		out.holds = &holds
	}
	return out, nil
}

// Forecast fills in when a campaign's runs are likely to be over, and whether its due date holds.
func (e *Engine) Forecast(ctx context.Context, v *cert.CampaignView) error {
	c := &v.Campaign
	if c.State.Final() {
		return nil
	}
	now := e.Now()
	waiting, err := e.DB.WaitingPlans(ctx, c.ID)
	if err != nil {
		return err
	}
	began, err := e.DB.RunningSince(ctx, c.ID)
	if err != nil {
		return err
	}
	h := e.history(ctx)
	var running []time.Time
	for _, b := range began {
		each, err := h.expected(b.Plan, b.Started != nil)
		if err != nil {
			return err
		}
		if each == 0 {
			v.Basis = fmt.Sprintf("plan %s has not been run here yet", b.Plan)
			return nil
		}
		from := b.Created
		if b.Started != nil {
			from = *b.Started
		}
		running = append(running, from.Add(each))
	}
	f, err := h.forecast(c, waiting, running, now)
	if err != nil {
		return err
	}
	if f.finish != nil && c.State == cert.CampaignPaused {
		f.finish, f.holds, f.basis = nil, nil, "the campaign is paused"
	}
	v.Finish, v.Basis, v.Holds = f.finish, f.basis, f.holds
	return nil
}
