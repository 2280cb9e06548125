package web

import (
	"context"
	"fmt"
	"net/http"
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
	return p.render(w, r, http.StatusOK, "campaign", view{Title: v.Campaign.Name, Here: "campaigns", Refresh: v.Campaign.State == cert.CampaignActive, Data: v})
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

// subjectText is what a campaign tests, in a few words.
func subjectText(s cert.Subject) string {
	var parts []string
	for _, part := range []string{s.Source, s.Version, s.Series, s.Flavour, s.Stream} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if s.Kind == cert.SubjectImage {
		parts = append(parts, "image "+s.Serial)
	}
	if s.Kind == cert.SubjectMachine {
		parts = append(parts, "the machine as it is")
	}
	for _, q := range s.Packages {
		parts = append(parts, q.Name+"="+q.Version)
	}
	switch {
	case s.PPA != "":
		parts = append(parts, "from "+s.PPA)
	case s.Archive != nil:
		parts = append(parts, "from "+s.Archive.URI)
	case s.Pocket != "":
		parts = append(parts, "from "+s.Pocket)
	}
	return strings.Join(parts, " ")
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
