package web

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"certlab/internal/cert"
	"certlab/internal/server/route"
	"certlab/internal/sqlite"
)

// Campaigns is what the pages need of the engine that runs campaigns.
type Campaigns interface {
	Timeline(ctx context.Context, run string) (cert.Timeline, error)
	Forecast(ctx context.Context, v *cert.CampaignView) error
}

// Review is what they need of what compares and explains.
type Review interface {
	Campaigns(ctx context.Context, f sqlite.CampaignFilter, p sqlite.Page) (cert.CampaignList, error)
	View(ctx context.Context, name string) (cert.CampaignView, error)
	Targets(ctx context.Context, name string, f cert.Filter, p sqlite.Page) (cert.TargetList, error)
	Findings(ctx context.Context, name string, f cert.Filter, p sqlite.Page) (cert.FindingList, error)
	Finding(ctx context.Context, id string) (cert.FindingView, error)
}

// CampaignParams are the parameters of the page of campaigns.
var CampaignParams = append([]route.Param{
	{Name: "state", Enum: append([]string{"open"}, cert.CampaignStates...), Help: "only in this state; all that are not final if not given"},
}, PageParams...)

// CampaignsPage is GET /campaigns.
func (p *Web) CampaignsPage(w http.ResponseWriter, r *route.Request) error {
	state := r.Query.Get("state")
	list, err := p.Review.Campaigns(r.Context(), sqlite.CampaignFilter{State: state}, page(r))
	if err != nil {
		return err
	}
	return p.render(w, r, http.StatusOK, "campaigns", view{Title: "Campaigns", Here: "campaigns", Next: more(r, list.Next), Data: struct {
		Campaigns []cert.CampaignSummary
		State     string
		States    []string
	}{list.Campaigns, state, append([]string{"open"}, cert.CampaignStates...)}})
}

// CampaignPage is GET /campaigns/{campaign}. What it shows is one view, bounded whatever the size of the campaign.
func (p *Web) CampaignPage(w http.ResponseWriter, r *route.Request) error {
	v, err := p.Review.View(r.Context(), r.PathValue("campaign"))
	if err != nil {
		return err
	}
	if err := p.Campaigns.Forecast(r.Context(), &v); err != nil {
		return err
	}
	return p.render(w, r, http.StatusOK, "campaign", view{Title: v.Campaign.Name, Here: "campaigns", Refresh: v.Campaign.State == cert.CampaignActive, Data: campaignData{v}})
}

// campaignData is a campaign as its page shows it.
type campaignData struct{ cert.CampaignView }

// Settled reports whether nothing more will happen to the campaign by itself.
func (d campaignData) Settled() bool {
	return d.Campaign.State != cert.CampaignActive && d.Campaign.State != cert.CampaignPaused
}

// Headline is how the campaign stands. Approved is only what has a verdict that says so and that nothing contradicts.
func (d campaignData) Headline() string {
	switch v := d.Verdict; {
	case d.Late > 0 && v != nil:
		return fmt.Sprintf("Needs a decision: it was %s, and %d later findings contradict it", v.Outcome, d.Late)
	case d.Campaign.State == cert.CampaignApproved && v != nil && v.Outcome == cert.StandApproved:
		return "Approved by " + v.By
	case d.Campaign.State == cert.CampaignRejected:
		return "Rejected"
	case d.Campaign.State == cert.CampaignCancelled, d.Campaign.State == cert.CampaignSuperseded:
		return "Ended without a verdict: " + string(d.Campaign.State) + " " + d.Campaign.Ending
	case d.Settled():
		return "Needs a decision"
	case d.Campaign.State == cert.CampaignPaused:
		return "Paused: " + d.Campaign.Ending
	}
	return "Not finished"
}

// Colour is that of the headline.
func (d campaignData) Colour() string {
	if d.Campaign.State == cert.CampaignApproved && d.Verdict != nil && d.Verdict.Outcome == cert.StandApproved && d.Late == 0 {
		return "good"
	}
	return "bad"
}

// OpenGroups are the failures that stand between the campaign and an approval: blockers, or the others.
func (d campaignData) OpenGroups(blockers bool) []cert.FindingGroup {
	var out []cert.FindingGroup
	for _, g := range d.Groups {
		if g.Open && g.Blocker == blockers {
			out = append(out, g)
		}
	}
	return out
}

// Explained counts the groups that stand in nobody's way.
func (d campaignData) Explained() int {
	n := 0
	for _, g := range d.Groups {
		if !g.Open {
			n++
		}
	}
	return n
}

// FindingParams are the parameters of the page of a campaign's findings.
var FindingParams = append([]route.Param{
	{Name: "class", Help: "only of this class"},
	{Name: "job", Help: "only of this job"},
	{Name: "signature", Help: "only those whose log is alike"},
	{Name: "open", Kind: route.Boolean, Help: "only those that stand between the campaign and an approval"},
	{Name: "machine", Help: "only of this machine"},
}, PageParams...)

// FindingsPage is GET /campaigns/{campaign}/findings.
func (p *Web) FindingsPage(w http.ResponseWriter, r *route.Request) error {
	f := cert.Filter{Class: r.Query.Get("class"), Job: r.Query.Get("job"), Signature: r.Query.Get("signature"), Machine: r.Query.Get("machine")}
	if text := r.Query.Get("open"); text != "" {
		open := text == "true"
		f.Open = &open
	}
	name := r.PathValue("campaign")
	list, err := p.Review.Findings(r.Context(), name, f, page(r))
	if err != nil {
		return err
	}
	return p.render(w, r, http.StatusOK, "findings", view{Title: "Findings of " + name, Here: "campaigns", Next: more(r, list.Next), Data: struct {
		Campaign string
		Findings []cert.Finding
		Filter   cert.Filter
	}{name, list.Findings, f}})
}

// TargetParams are the parameters of the page of a campaign's machines.
var TargetParams = append([]route.Param{
	{Name: "state", Enum: cert.TargetStates, Help: "only in this state"},
}, PageParams...)

// TargetsPage is GET /campaigns/{campaign}/machines.
func (p *Web) TargetsPage(w http.ResponseWriter, r *route.Request) error {
	name := r.PathValue("campaign")
	list, err := p.Review.Targets(r.Context(), name, cert.Filter{State: r.Query.Get("state")}, page(r))
	if err != nil {
		return err
	}
	return p.render(w, r, http.StatusOK, "targets", view{Title: "Machines of " + name, Here: "campaigns", Next: more(r, list.Next), Data: struct {
		Campaign string
		Targets  []cert.Target
		State    string
		States   []string
	}{name, list.Targets, r.Query.Get("state"), cert.TargetStates}})
}

// FindingPage is GET /findings/{finding}.
func (p *Web) FindingPage(w http.ResponseWriter, r *route.Request) error {
	v, err := p.Review.Finding(r.Context(), r.PathValue("finding"))
	if err != nil {
		return err
	}
	f := v.Finding
	title := f.Class + " on " + f.Hostname
	if f.Job != "" {
		title = f.Job + " on " + f.Hostname
	}
	return p.render(w, r, http.StatusOK, "finding", view{Title: title, Here: "campaigns", Data: v})
}

// daysText is how long it is until something is due.
func daysText(days *float64) string {
	switch {
	case days == nil:
		return "no due date"
	case *days < 0:
		return fmt.Sprintf("%.1f days over", -*days)
	}
	return fmt.Sprintf("%.1f days left", *days)
}

// settledTargets is how many of the required targets nothing more happens to.
func settledTargets(c cert.Coverage) int { return c.Done + c.Blocked + c.Missing }

// provable is how many targets have something that can be proved.
func provable(c cert.Coverage) int { return c.Done + c.Blocked }

// otherFindings is how many open findings of a campaign are no blockers.
func otherFindings(s cert.CampaignSummary) int { return s.Open - s.Blockers }

// someNames lists names of so many machines.
func someNames(names []string, of int) string {
	const most = 5
	shown := names[:min(len(names), most)]
	text := strings.Join(shown, ", ")
	if more := of - len(shown); more > 0 && len(shown) > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// firstOf is the first of a list, if there is one.
func firstOf(list []string) []string { return list[:min(len(list), 1)] }

// countedText lists numbers by name.
func countedText(counts map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[name], name))
	}
	return strings.Join(parts, ", ")
}

// findingStands says whether a finding is in the way of an approval, and if not, why.
func findingStands(f cert.Finding) string {
	switch {
	case f.Late:
		return "came after the verdict"
	case f.Waived != 0:
		return fmt.Sprintf("waived by decision %d", f.Waived)
	case f.Excused:
		return "excused by known issue " + f.Issue
	case f.Open():
		return "open"
	}
	return "no matter"
}

// phaseTook is how long a phase took, if it is over.
func phaseTook(p cert.TimelinePhase) string {
	if p.Ended == nil {
		return "goes on"
	}
	return formatDuration(p.Ended.Sub(p.Started).Seconds())
}
