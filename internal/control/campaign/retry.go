package campaign

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// A wish is what a person wants to have run again for one target.
type wish struct {
	target  string
	machine string // id; empty: the target's
	purpose string
	jobs    []string
	finding string
}

// RetryTargets has targets tried again. With an id of the caller's it can be repeated.
func (e *Engine) RetryTargets(ctx context.Context, name string, r cert.RetryTargets, by string, role cert.Role) (cert.Retried, error) {
	if err := mayRun(role, "have machines tried again"); err != nil {
		return cert.Retried{}, err
	}
	if err := oneReason(r.Reason, "have machines tried again"); err != nil {
		return cert.Retried{}, err
	}
	if r.ID != "" && !cert.ValidID(cert.TargetID, r.ID) {
		return cert.Retried{}, cert.Errorf(cert.Invalid, "cannot use %q as the request's id: it is a g and 26 lower-case letters or digits", r.ID)
	}
	for _, job := range r.Jobs {
		if !strings.Contains(job, "::") || strings.ContainsAny(job, " \n\r\x00") || len(job) > maxReason {
			return cert.Retried{}, cert.Errorf(cert.Invalid, "cannot run job %.80q: name it by its full id, such as com.canonical.certification::disk/detect", job)
		}
	}
	c, err := e.DB.Campaign(ctx, name)
	if err != nil {
		return cert.Retried{}, err
	}
	targets, err := e.DB.Targets(ctx, c.ID)
	if err != nil {
		return cert.Retried{}, err
	}
	chosen, err := e.retried(ctx, c, r, targets)
	if err != nil {
		return cert.Retried{}, err
	}
	var wishes []wish
	for _, g := range chosen {
		wishes = append(wishes, wish{target: g.ID, purpose: cert.TryRerun, jobs: r.Jobs})
	}
	return e.wish(ctx, r.ID, wishes, r.Reason, by)
}

// retried are the targets that a request names.
func (e *Engine) retried(ctx context.Context, c cert.Campaign, r cert.RetryTargets, targets []cert.Target) ([]cert.Target, error) {
	switch r.State {
	case "", string(cert.TargetMissing), string(cert.TargetBlocked), string(cert.TargetDone), string(cert.TargetCancelled):
	default:
		return nil, cert.Errorf(cert.Invalid, "cannot try again what is %q: choose missing, blocked, done or cancelled", r.State)
	}
	if len(r.Machines) == 0 && r.State == "" && r.Issue == "" {
		return nil, cert.Errorf(cert.Invalid, "cannot try again without knowing what: name machines, a state (missing, blocked or done), or a known issue")
	}
	var hit map[string]bool
	if r.Issue != "" {
		hit = map[string]bool{}
		if err := e.DB.EachFinding(ctx, c.ID, sqlite.FindingFilter{Filter: cert.Filter{Issue: r.Issue}}, func(f cert.Finding) error { hit[f.Target] = true; return nil }); err != nil {
			return nil, err
		}
	}
	var out []cert.Target
	var names []string
	for _, g := range targets {
		names = append(names, g.Hostname)
		named := len(r.Machines) == 0 || slices.ContainsFunc(r.Machines, func(m string) bool { return strings.EqualFold(m, g.Hostname) || m == g.Machine })
		if named && (r.State == "" || string(g.State) == r.State) && (hit == nil || hit[g.ID]) {
			out = append(out, g)
		}
	}
	for _, m := range r.Machines {
		if !slices.ContainsFunc(targets, func(g cert.Target) bool { return strings.EqualFold(m, g.Hostname) || m == g.Machine }) {
			return nil, cert.Errorf(cert.NotFound, "campaign %s has no machine %q%s", c.Name, m, meant(m, names))
		}
	}
	if len(out) == 0 {
		return nil, cert.Errorf(cert.Conflict, "cannot try anything again: no machine of campaign %s is what was asked for (certlab campaign show %s)", c.Name, c.Name)
	}
	return out, nil
}

// ConfirmFinding has a finding's job run on the baseline on the same machine, to tell the subject from the machine.
func (e *Engine) ConfirmFinding(ctx context.Context, finding string, x cert.ConfirmFinding, by string, role cert.Role) (cert.Retried, error) {
	if err := mayRun(role, "confirm a finding"); err != nil {
		return cert.Retried{}, err
	}
	f, err := e.DB.Finding(ctx, finding)
	if err != nil {
		return cert.Retried{}, err
	}
	if f.Job == "" {
		return cert.Retried{}, cert.Errorf(cert.Conflict, "cannot confirm finding %s: it is no job's, so that there is nothing to run on the baseline", f.ID)
	}
	c, err := e.DB.Campaign(ctx, f.Campaign)
	if err != nil {
		return cert.Retried{}, err
	}
	if _, err := e.baselineSubject(ctx, c); err != nil {
		return cert.Retried{}, err
	}
	out, err := e.wish(ctx, "", []wish{{target: f.Target, machine: f.Machine, purpose: cert.TryConfirm, jobs: []string{f.Job}, finding: f.ID}}, x.Reason, by)
	if err == nil && len(out.Targets) == 0 {
		for _, why := range out.Skipped {
			return out, cert.Errorf(cert.Conflict, "cannot confirm finding %s now: %s", f.ID, why)
		}
	}
	return out, err
}

// RerunIssue does again what a known issue hit, in campaigns that are not final: the jobs that it recognised, on the machines where it did.
func (e *Engine) RerunIssue(ctx context.Context, issue, reason, by string, role cert.Role) (cert.Retried, error) {
	if err := mayRun(role, "run again what an issue hit"); err != nil {
		return cert.Retried{}, err
	}
	if err := oneReason(reason, "run again what an issue hit"); err != nil {
		return cert.Retried{}, err
	}
	if _, err := e.DB.Issue(ctx, issue); err != nil {
		return cert.Retried{}, err
	}
	open, err := e.DB.OpenCampaigns(ctx)
	if err != nil {
		return cert.Retried{}, err
	}
	var wishes []wish
	for _, c := range open {
		if err := e.DB.EachFinding(ctx, c.ID, sqlite.FindingFilter{Filter: cert.Filter{Issue: issue}}, func(f cert.Finding) error {
			n := slices.IndexFunc(wishes, func(w wish) bool { return w.target == f.Target })
			switch {
			case n < 0:
				w := wish{target: f.Target, purpose: cert.TryRerun}
				if f.Job != "" {
					w.jobs = []string{f.Job}
				}
				wishes = append(wishes, w)
			case f.Job == "":
				wishes[n].jobs = nil
			case len(wishes[n].jobs) > 0 && !slices.Contains(wishes[n].jobs, f.Job):
				wishes[n].jobs = append(wishes[n].jobs, f.Job)
			}
			return nil
		}); err != nil {
			return cert.Retried{}, err
		}
	}
	if len(wishes) == 0 {
		return cert.Retried{}, cert.Errorf(cert.Conflict, "cannot run again what issue %s hit: it hit nothing in a campaign that is open", issue)
	}
	return e.wish(ctx, "", wishes, reason, by)
}

// derivedID makes an id from a request's and a target's: the same request asks for the same runs.
func derivedID(prefix byte, request, target string) string {
	const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	sum := sha256.Sum256([]byte(string(prefix) + " " + request + " " + target))
	out := []byte(request)
	out[0] = prefix
	for n := 11; n < len(out); n++ { // what comes before is the time
		out[n] = alphabet[sum[n]&31]
	}
	return string(out)
}

// wish has targets tried again as persons want it. Those that cannot be are answered with the reason.
func (e *Engine) wish(ctx context.Context, request string, wishes []wish, reason, by string) (cert.Retried, error) {
	now := e.Now()
	if request == "" {
		request = cert.NewID(cert.TargetID, now)
	}
	var out cert.Retried
	err := e.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error {
		out = cert.Retried{Targets: []string{}, Runs: []string{}, Skipped: map[string]string{}}
		campaigns := map[string]cert.Campaign{}
		for _, w := range wishes {
			g, err := tx.Target(w.target)
			if err != nil {
				return err
			}
			c, known := campaigns[g.Campaign]
			if !known {
				if c, err = tx.Campaign(g.Campaign); err != nil {
					return err
				}
				campaigns[c.ID] = c
			}
			run := derivedID(cert.RunID, request, g.ID)
			if promised(g, run) {
				out.Targets, out.Runs = append(out.Targets, g.ID), append(out.Runs, run)
				continue
			}
			if c.State.Final() {
				return cert.Errorf(cert.Conflict, "cannot run anything more in campaign %s: it is %s (start a new one)", c.Name, c.State)
			}
			if why := e.refusal(&g, w); why != "" {
				out.Skipped[g.Hostname] = why
				continue
			}
			next := cert.Try{Purpose: w.purpose, Machine: w.machine, Run: run, Reservation: derivedID(cert.ReservationID, request, g.ID), Jobs: w.jobs, Finding: w.finding, By: by}
			if len(w.jobs) > 0 || g.State == cert.TargetDone {
				g.Then = g.State
			}
			g.State, g.Why, g.Next, g.NotBefore, g.Updated = cert.TargetWaiting, because("asked for by "+by, reason), &next, nil, now
			if err := tx.PutTarget(g); err != nil {
				return err
			}
			text := fmt.Sprintf("%s: the whole plan is to be run again", g.Hostname)
			if len(w.jobs) > 0 {
				text = fmt.Sprintf("%s: %s to be run again: %s", g.Hostname, plural(len(w.jobs), "job"), some(w.jobs))
			}
			if w.finding != "" {
				text = fmt.Sprintf("%s: %s is to be run on the baseline %s, to confirm finding %s", g.Hostname, w.jobs[0], c.Baseline.Version, w.finding)
			}
			if err := tx.Note(cert.CampaignEvent{Campaign: c.ID, At: now, Kind: "asked", Who: by, Target: g.ID, Text: because(text, reason)}); err != nil {
				return err
			}
			if c.State == cert.CampaignDeciding {
				c.State = cert.CampaignActive
				campaigns[c.ID] = c
				if err := tx.PutCampaign(c); err != nil {
					return err
				}
			}
			out.Targets, out.Runs = append(out.Targets, g.ID), append(out.Runs, run)
		}
		return nil
	})
	if err != nil {
		return cert.Retried{}, err
	}
	e.Wake()
	return out, nil
}

// promised reports whether a target has, or is to have, a run.
func promised(g cert.Target, run string) bool {
	return g.Next != nil && g.Next.Run == run || slices.ContainsFunc(g.Tries, func(t cert.Try) bool { return t.Run == run })
}

// refusal says why a target cannot be tried again now; empty: it can be.
func (e *Engine) refusal(g *cert.Target, w wish) string {
	switch {
	case g.State == cert.TargetExcluded:
		return "it is excluded: " + g.Why
	case !g.State.Settled():
		return fmt.Sprintf("it is %s: wait until that is over", g.State)
	case len(g.Tries) >= cert.MaxTriesKept:
		return fmt.Sprintf("it was tried %d times, and that is as often as may be", len(g.Tries))
	case len(w.jobs) > 0 && g.State == cert.TargetCancelled:
		return "it was never run: have the whole plan run"
	}
	return ""
}
