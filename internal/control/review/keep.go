package review

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"certlab/internal/cert"
	"certlab/internal/judge"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// Who is said to have done what nobody has asked for.
const lab = "certlab"

// keep stores what a target's facts come to, and what follows from that, in one transaction. It fails as errChanged if the target is not what it
// was any more.
func (r *Review) keep(ctx context.Context, g *gathered) error {
	left, err := r.keepAll(ctx, []*gathered{g})
	if err == nil && len(left) > 0 {
		err = errChanged
	}
	return err
}

// keepAll is keep for several targets in one transaction. It returns those that were not what they were any more.
func (r *Review) keepAll(ctx context.Context, all []*gathered) (left []*gathered, err error) {
	err = r.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error {
		left = nil
		for _, g := range all {
			err := r.keepIn(tx, g)
			if errors.Is(err, errChanged) { // before anything was stored
				left = append(left, g)
				continue
			}
			if err != nil {
				return fmt.Errorf("cannot keep what target %s came to: %w", g.target.ID, err)
			}
		}
		return nil
	})
	return left, err
}

func (r *Review) keepIn(tx *sqlite.CampaignTx, g *gathered) error {
	now := r.Now()
	t, err := tx.Target(g.target.ID)
	if err != nil {
		return err
	}
	if !same(&g.target, &t) {
		return errChanged
	}
	c, err := tx.Campaign(t.Campaign)
	if err != nil {
		return err
	}
	g.campaign = c
	before := t
	t = g.target
	t.Tries = slices.Clone(t.Tries)
	g.settle(&t)
	t.Updated = now
	changes, err := g.putFindings(tx)
	if err != nil {
		return err
	}
	if err := tx.PutTarget(t); err != nil {
		return err
	}
	if err := tx.Reviewed(t.ID, len(t.Tries)); err != nil {
		return err
	}
	if before.State == cert.TargetComparing || changes.added > 0 || changes.dropped > 0 {
		if err := tx.Note(cert.CampaignEvent{Campaign: c.ID, At: now, Kind: "compared", Who: lab, Target: t.ID, Text: g.summary(&t, changes)}); err != nil {
			return err
		}
	}
	if c.State == cert.CampaignApproved || c.State == cert.CampaignRejected {
		return r.tellLate(tx, &c, &t, changes.late)
	}
	if c.State.Final() {
		return nil
	}
	return r.reopen(tx, &c, t.Machine)
}

// settle gives a target the state that its comparison leads to.
func (g *gathered) settle(t *cert.Target) {
	out := &g.result
	good := out.Counted > 0 && (out.Compared.Proof.OK || !out.Compared.Proof.Needed)
	t.Compared = nil
	if out.Counted > 0 {
		compared := out.Compared
		t.Compared = &compared
	}
	t.Counted, t.Submission = 0, ""
	if good {
		t.Counted, t.Submission = out.Counted, out.Compared.Submission
	}
	if t.State != cert.TargetComparing {
		return
	}
	switch {
	case t.Then != "":
		t.State, t.Then = t.Then, ""
	case good:
		t.State, t.Why = cert.TargetDone, ""
	default:
		g.refuse(t)
		t.State = cert.TargetWaiting
	}
}

// refuse marks the last try for the whole plan as one that says nothing of the subject.
func (g *gathered) refuse(t *cert.Target) {
	for n := len(t.Tries) - 1; n >= 0; n-- {
		try := &t.Tries[n]
		if try.Partial() || try.Purpose == cert.TryConfirm || try.Submission == "" {
			continue
		}
		at := slices.IndexFunc(g.attempts, func(a judge.Attempt) bool { return a.Try.Number == try.Number })
		if at < 0 {
			continue
		}
		a := &g.attempts[at]
		f := cert.Failure{Type: order.FailUnproved, Message: "the results are not proved to be of the subject: " + cmp.Or(a.Proof.Why, "nothing says what ran")}
		switch {
		case a.Unreadable != "":
			f = cert.Failure{Type: order.FailBadArchive, Message: "its submission cannot be read: " + a.Unreadable}
		case a.Side.Plan != t.Plan:
			f = cert.Failure{Type: order.FailWrongPlan, Message: fmt.Sprintf("its submission is of plan %q, not of %s", a.Side.Plan, t.Plan)}
		}
		if try.Failure == nil {
			try.Failure = &f
		}
		try.Infra = true
		t.Why = f.Message
		return
	}
	t.Why = "there is no submission of the plan to compare"
}

// changes are what comparing has changed about a target's findings.
type changes struct {
	added, dropped int
	open           int
	late           []cert.Finding
}

// putFindings stores the findings in place of those that there were; what people and reruns have added to them stays. After a verdict nothing goes
// away any more: what is new is late.
func (g *gathered) putFindings(tx *sqlite.CampaignTx) (changes, error) {
	var out changes
	stored, err := tx.TargetFindings(g.target.ID)
	if err != nil {
		return out, err
	}
	waived, err := g.waivers(tx)
	if err != nil {
		return out, err
	}
	was := make(map[string]cert.Finding, len(stored))
	for _, f := range stored {
		was[f.ID] = f
	}
	final := g.campaign.State.Final()
	for _, f := range g.result.Findings {
		old, known := was[f.ID]
		delete(was, f.ID)
		if known {
			f.Found, f.Confirm, f.Late = old.Found, old.Confirm, old.Late
		} else {
			out.added++
			f.Late = final
		}
		f.Waived = waived[f.ID]
		if final && known {
			f.Waived, f.Issue, f.IssueLink, f.Excused = old.Waived, old.Issue, old.IssueLink, old.Excused
		} else {
			g.recognise(&f)
		}
		g.confirm(&f)
		if f.Open() {
			out.open++
			if f.Late {
				out.late = append(out.late, f)
			}
		}
		if known && reflect.DeepEqual(old, f) {
			continue
		}
		if err := tx.PutFinding(f); err != nil {
			return out, err
		}
	}
	if final {
		return out, nil
	}
	for id := range was {
		out.dropped++
		if err := tx.DropFinding(id); err != nil {
			return out, err
		}
	}
	tx.Touch(g.campaign.ID)
	return out, nil
}

// waivers returns which decisions waive what in the campaign, if any does.
func (g *gathered) waivers(tx *sqlite.CampaignTx) (map[string]int64, error) {
	waives, err := tx.Waivers(g.campaign.ID)
	if err != nil || len(waives) == 0 {
		return nil, err
	}
	all, err := tx.CampaignDecisions(g.campaign.ID) // reopenings among them
	if err != nil {
		return nil, err
	}
	return judge.Waivers(all, g.result.Compared.At), nil
}

// confirm adds to a finding what the tries that were to confirm it have come to, the last one.
func (g *gathered) confirm(f *cert.Finding) {
	for n := range g.confirms {
		c := &g.confirms[n]
		if f.Job == "" || c.try.Finding != f.ID && !slices.Contains(c.try.Jobs, f.Job) || c.side.Machine != f.Machine {
			continue
		}
		f.Confirm = &cert.Confirm{Run: c.try.Run, State: c.try.State, Kernel: c.side.Kernel, Says: "unclear", Text: "the job was not run there"}
		for i := range c.side.Results {
			res := &c.side.Results[i]
			if res.ID != f.Job {
				continue
			}
			f.Confirm.Outcome = res.Outcome
			switch {
			case res.MachineLost:
				f.Confirm.Outcome, f.Confirm.Says = cert.OutcomeLost, "machine"
				f.Confirm.Text = "the machine is lost in it on " + c.side.Kernel + " too: it is the machine"
			case res.Outcome == "pass" && res.Doubt == "":
				f.Confirm.Says, f.Confirm.Text = "subject", "passes on "+c.side.Kernel+": it is the subject"
			case res.Outcome == "fail" || res.Outcome == "crash":
				f.Confirm.Says, f.Confirm.Text = "machine", "fails on "+c.side.Kernel+" too: it is not the subject"
			default:
				f.Confirm.Text = fmt.Sprintf("says nothing on %s: its outcome is %s", c.side.Kernel, res.Outcome)
			}
			if c.side.Kernel == "" || c.side.Kernel == g.newestKernel() {
				f.Confirm.Says, f.Confirm.Text = "unclear", fmt.Sprintf("ran on %s, which is not proved to be the released kernel", cmp.Or(c.side.Kernel, "a kernel that nothing names"))
			}
		}
	}
}

func (g *gathered) newestKernel() string {
	if a := g.newest(); a != nil {
		return a.Side.Kernel
	}
	return ""
}

// summary says in one sentence what comparing came to.
func (g *gathered) summary(t *cert.Target, ch changes) string {
	var parts []string
	switch {
	case t.Counted == 0 && t.Why != "":
		parts = append(parts, t.Why)
	case t.Counted == 0:
		parts = append(parts, "no submission counts")
	case t.Compared != nil && t.Compared.Baseline == nil:
		parts = append(parts, "there is no baseline on this machine")
	}
	parts = append(parts, fmt.Sprintf("%d findings, %d open", len(g.result.Findings), ch.open))
	parts = append(parts, g.result.Warnings...)
	return t.Hostname + ": " + strings.Join(parts, "; ")
}

// tellLate has it told that what came after the verdict contradicts it. The verdict stays.
func (r *Review) tellLate(tx *sqlite.CampaignTx, c *cert.Campaign, t *cert.Target, late []cert.Finding) error {
	v, err := tx.Verdict(c.ID)
	if err != nil || v.Outcome != string(cert.CampaignApproved) || len(late) == 0 {
		if cert.CodeOf(err) == cert.NotFound {
			return nil
		}
		return err
	}
	first := &late[0]
	text := fmt.Sprintf("%s was approved by %s, and what %s has delivered since contradicts that: %s (%d findings; the verdict stays, and a person should look: certlab campaign show %s)",
		c.Name, v.By, t.Hostname, first.Text, len(late), c.Name)
	n := cert.NewNotice(cert.NoticeContradicted, c.ID+"/"+first.ID, r.Now(), text)
	n.Machine, n.Hostname = t.Machine, t.Hostname
	if err := tx.Notice(n); err != nil {
		return err
	}
	return tx.Note(cert.CampaignEvent{Campaign: c.ID, At: r.Now(), Kind: "contradicted", Who: lab, Target: t.ID, Text: text})
}
