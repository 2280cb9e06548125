package review

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"certlab/internal/cert"
	"certlab/internal/judge"
	"certlab/internal/sqlite"
)

// maxWaived bounds how many findings one request waives.
const maxWaived = 20_000

// Decide takes a decision: on machines, on findings, or on a campaign as a whole, and then gives its verdict.
func (r *Review) Decide(ctx context.Context, name string, d cert.NewDecision, by string, role cert.Role) (cert.Decided, error) {
	if err := d.Validate(r.Now()); err != nil {
		return cert.Decided{}, err
	}
	fleet, err := r.fleet(ctx, d.Filter.Query != "")
	if err != nil {
		return cert.Decided{}, err
	}
	if _, err := r.CompareAll(ctx); err != nil { // what is here is decided upon
		r.Logger.Warn("cannot compare what waits before a decision", "error", err)
	}
	var out cert.Decided
	err = r.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error {
		out = cert.Decided{Decisions: []cert.Decision{}}
		c, err := tx.Campaign(name)
		if err != nil {
			return err
		}
		facts, err := factsOf(inTx{tx}, c, r.Now())
		if err != nil {
			return err
		}
		assessed := judge.Assess(facts)
		machines, findings, err := choose(tx, &facts, &assessed, d, fleet)
		if err != nil {
			return err
		}
		if err := unchanged(tx, &facts, d, machines, findings); err != nil {
			return err
		}
		whole := len(d.Machines) == 0 && !d.All && len(d.Findings) == 0 && d.Action != cert.Waive
		if whole && d.Action == cert.Approve {
			if err := allReviewed(tx, &c); err != nil {
				return err
			}
		}
		drafts, skipped, err := judge.Decide(facts, d, machines, findings, by, role)
		if err != nil {
			return err
		}
		out.Skipped = named(&facts, skipped)
		if out.Decisions, err = r.append(tx, &facts, drafts); err != nil {
			return err
		}
		if whole && d.Action != cert.Reopen {
			v, err := r.giveVerdict(tx, &facts, string(verdictOf(d.Action)), by, d.Reason)
			if err != nil {
				return err
			}
			out.Verdict, out.Standing = &v, standingOf(v.Outcome)
			return nil
		}
		out.Standing = judge.Assess(facts).Standing
		return nil
	})
	if err != nil {
		return cert.Decided{}, err
	}
	r.woken()
	r.Nudge()
	return out, nil
}

func verdictOf(action string) cert.CampaignState {
	if action == cert.Approve {
		return cert.CampaignApproved
	}
	return cert.CampaignRejected
}

func standingOf(outcome string) string {
	if outcome == string(cert.CampaignApproved) {
		return cert.StandApproved
	}
	return cert.StandRejected
}

// allReviewed refuses an approval while something that has come in was not compared.
func allReviewed(tx *sqlite.CampaignTx, c *cert.Campaign) error {
	waiting, err := tx.UnreviewedTargets(c.ID, "", 3)
	if err != nil || len(waiting) == 0 {
		return err
	}
	var names []string
	for _, id := range waiting {
		t, err := tx.Target(id)
		if err != nil {
			return err
		}
		names = append(names, t.Hostname)
	}
	return cert.Errorf(cert.Conflict, "cannot approve %s: what %s delivered was not compared yet (try again in some seconds; if it stays so, see the submission's state)",
		c.Name, strings.Join(names, ", "))
}

// append seals decisions and adds them to the log, with what they do to findings and to the campaign's log. facts knows them afterwards.
func (r *Review) append(tx *sqlite.CampaignTx, facts *judge.Facts, drafts []cert.Decision) ([]cert.Decision, error) {
	out := []cert.Decision{}
	prev, err := tx.LastEntry()
	if err != nil {
		return nil, err
	}
	for _, draft := range drafts {
		d := judge.Seal(prev, draft)
		data, err := json.Marshal(d)
		if err != nil {
			return nil, fmt.Errorf("cannot encode a decision: %w", err)
		}
		if err := tx.AddDecision(d, string(data)); err != nil {
			return nil, err
		}
		out = append(out, d)
		prev = &out[len(out)-1]
		facts.Decisions = append(facts.Decisions, d)
		if err := tx.Note(cert.CampaignEvent{Campaign: d.Campaign, At: d.At, Kind: kindOf(&d), Who: d.By, Target: targetOn(facts, d.Machine), Text: sentence(facts, &d)}); err != nil {
			return nil, err
		}
	}
	return out, r.waive(tx, facts)
}

// waive brings the findings of a campaign up to the waivers that are in force.
func (r *Review) waive(tx *sqlite.CampaignTx, facts *judge.Facts) error {
	in := judge.Waivers(facts.Decisions, facts.Now)
	for n := range facts.Findings {
		f := &facts.Findings[n]
		if f.Waived == in[f.ID] {
			continue
		}
		whole, err := tx.Finding(f.ID)
		if err != nil {
			return err
		}
		whole.Waived, f.Waived = in[f.ID], in[f.ID]
		if err := tx.PutFinding(whole); err != nil {
			return err
		}
	}
	return nil
}

// kindOf is a decision's kind in a campaign's log.
func kindOf(d *cert.Decision) string {
	switch d.Action {
	case cert.Approve:
		return "approved"
	case cert.Reject:
		return "rejected"
	case cert.Waive:
		return "waived"
	}
	return "reopened"
}

// sentence says what was decided.
func sentence(facts *judge.Facts, d *cert.Decision) string {
	on := "the campaign"
	switch {
	case d.Action == cert.Waive:
		on = fmt.Sprintf("%d findings until %s", len(d.Findings), d.Until.Format("2006-01-02 15:04"))
		if len(d.Findings) == 1 {
			on = "finding " + d.Findings[0] + on[len("1 findings"):]
		}
	case d.Machine != "":
		on = d.Machine
		for n := range facts.Targets {
			if facts.Targets[n].Machine == d.Machine {
				on = facts.Targets[n].Hostname
			}
		}
	}
	return fmt.Sprintf("%s %s %s: %s", d.By, kindOf(d), on, d.Reason)
}

func targetOn(facts *judge.Facts, machine string) string {
	for n := range facts.Targets {
		if machine != "" && facts.Targets[n].Machine == machine {
			return facts.Targets[n].ID
		}
	}
	return ""
}

// named names machines that were passed over.
func named(facts *judge.Facts, skipped map[string]string) map[string]string {
	if len(skipped) == 0 {
		return nil
	}
	out := make(map[string]string, len(skipped))
	for id, why := range skipped {
		out[hostOf(facts, id)] = why
	}
	return out
}

func hostOf(facts *judge.Facts, machine string) string {
	for n := range facts.Targets {
		if facts.Targets[n].Machine == machine {
			return facts.Targets[n].Hostname
		}
	}
	return machine
}

// choose finds the machines and findings that a decision is about, by their ids.
func choose(tx *sqlite.CampaignTx, facts *judge.Facts, assessed *judge.Assessment, d cert.NewDecision, fleet map[string]*cert.FleetMachine) (machines, findings []string, err error) {
	for _, name := range d.Machines {
		id := machineNamed(facts.Targets, name)
		if id == "" {
			return nil, nil, cert.Errorf(cert.NotFound, "there is no machine %q in campaign %s", name, facts.Campaign.Name)
		}
		if !slices.Contains(machines, id) {
			machines = append(machines, id)
		}
	}
	switch {
	case len(d.Findings) > 0:
		found, err := tx.FindingsByID(facts.Campaign.ID, d.Findings)
		if err != nil {
			return nil, nil, err
		}
		for _, id := range d.Findings {
			if !slices.ContainsFunc(found, func(f cert.Finding) bool { return f.ID == id }) {
				return nil, nil, cert.Errorf(cert.NotFound, "there is no finding %q in campaign %s", id, facts.Campaign.Name)
			}
		}
		return machines, d.Findings, nil
	case d.Action == cert.Waive:
		f := d.Filter
		yes := true
		if f.Open == nil {
			f.Open = &yes
		}
		chosen, err := chosenMachines(tx, facts, assessed, f, fleet, machines)
		if err != nil {
			return nil, nil, err
		}
		findings, err = tx.FindingIDs(facts.Campaign.ID, sqlite.FindingFilter{Filter: f, Machines: chosen})
		if len(findings) > maxWaived {
			return nil, nil, cert.Errorf(cert.Invalid, "cannot waive %d findings at once: at most %d are waived with one reason (choose fewer, by job or class)", len(findings), maxWaived)
		}
		if err == nil && len(findings) == 0 {
			err = cert.Errorf(cert.NotFound, "there is no open finding in campaign %s that the filter fits", facts.Campaign.Name)
		}
		return nil, findings, err
	case d.All:
		machines, err = chosenMachines(tx, facts, assessed, d.Filter, fleet, nil)
		if err == nil && len(machines) == 0 {
			err = cert.Errorf(cert.NotFound, "there is no machine in campaign %s that the filter fits", facts.Campaign.Name)
		}
	}
	return machines, findings, err
}

// chosenMachines returns the ids of a campaign's machines that a filter fits; nil where it asks for nothing of machines and none are given.
func chosenMachines(tx *sqlite.CampaignTx, facts *judge.Facts, assessed *judge.Assessment, f cert.Filter, fleet map[string]*cert.FleetMachine, given []string) ([]string, error) {
	var query *cert.Query
	if f.Query != "" {
		q, err := cert.ParseQuery(f.Query)
		if err != nil {
			return nil, err
		}
		q = q.AnyState()
		query = &q
	}
	var with map[string]bool // those with such findings
	if f.Class != "" || f.Job != "" || f.Issue != "" || f.Signature != "" || f.Open != nil || f.Blocker != nil || f.New != nil {
		ids, err := tx.FindingMachines(facts.Campaign.ID, sqlite.FindingFilter{Filter: f})
		if err != nil {
			return nil, err
		}
		with = make(map[string]bool, len(ids))
		for _, id := range ids {
			with[id] = true
		}
	}
	standing := make(map[string]string, len(assessed.Machines))
	for _, m := range assessed.Machines {
		standing[m.Machine] = m.Standing
	}
	out := []string{}
	for n := range facts.Targets {
		t := &facts.Targets[n]
		switch {
		case t.State == cert.TargetExcluded || slices.Contains(out, t.Machine):
		case len(given) > 0 && !slices.Contains(given, t.Machine):
		case f.Machine != "" && f.Machine != t.Hostname && f.Machine != t.Machine:
		case f.Target != "" && f.Target != t.ID:
		case f.Standing != "" && standing[t.Machine] != f.Standing:
		case query != nil && (fleet[t.Machine] == nil || query.Match(fleet[t.Machine]) != ""):
		case with != nil && !with[t.Machine]:
		default:
			out = append(out, t.Machine)
		}
	}
	return out, nil
}

func machineNamed(targets []cert.Target, name string) string {
	for n := range targets {
		if targets[n].Hostname == name || targets[n].Machine == name {
			return targets[n].Machine
		}
	}
	return ""
}
