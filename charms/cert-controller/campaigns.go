package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"certlab/internal/hooks"
)

// Actions about campaigns: what an operator or a script starts, looks at and ends. What a person has to answer for by name, approvals, rejections and
// waivers, is not among them: Juju does not tell a charm who runs an action, and the service refuses decisions over its socket.

const aCampaign = "a campaign's id or name, as list-campaigns shows them"

// maxListed bounds how many names a parameter may list.
const maxListed = 1000

func campaignPath(name string, more ...string) string {
	return strings.Join(append([]string{"/api/v1/campaigns", url.PathEscape(name)}, more...), "/")
}

type startCampaignParams struct {
	Kind       string `param:"kind"`
	Kernel     string `param:"kernel"`
	Image      string `param:"image"`
	AsItIs     bool   `param:"as-it-is"`
	Series     string `param:"series"`
	Flavour    string `param:"flavour"`
	Stream     string `param:"stream"`
	Pocket     string `param:"pocket"`
	PPA        string `param:"ppa"`
	Tracker    string `param:"tracker"`
	Spin       int64  `param:"spin"`
	Cycle      string `param:"cycle"`
	Query      string `param:"query"`
	Machines   string `param:"machines"`
	OfBaseline bool   `param:"of-baseline"`
	Except     string `param:"except"`
	Name       string `param:"name"`
	Policy     string `param:"policy"`
	Plan       string `param:"plan"`
	Baseline   string `param:"baseline"`
	Due        string `param:"due"`
	Priority   int64  `param:"priority"`
	AtOnce     int64  `param:"at-once"`
	Reason     string `param:"reason"`
	DryRun     bool   `param:"dry-run"`
}

// request is the API's body. What makes a subject, a query or a policy's name is the service's to say.
func (p startCampaignParams) request(task string) (map[string]any, error) {
	for name, value := range map[string]string{
		"kernel": p.Kernel, "image": p.Image, "series": p.Series, "flavour": p.Flavour, "stream": p.Stream, "pocket": p.Pocket, "ppa": p.PPA, "tracker": p.Tracker,
		"cycle": p.Cycle, "query": p.Query, "name": p.Name, "policy": p.Policy, "baseline": p.Baseline,
	} {
		if err := hooks.CheckLine(name, value, maxLine); err != nil {
			return nil, err
		}
	}
	if p.Plan != "" && (len(p.Plan) > maxLine || !printable(p.Plan) || !planID.MatchString(p.Plan)) {
		return nil, fmt.Errorf("cannot use plan %s: want a full id, such as com.canonical.certification::sru-server", hooks.Shown(p.Plan))
	}
	if err := checkReason(p.Reason, false); err != nil {
		return nil, err
	}
	subject, err := p.subject()
	if err != nil {
		return nil, err
	}
	machines, err := p.machines()
	if err != nil {
		return nil, err
	}
	body := map[string]any{"kind": p.Kind, "subject": subject, "machines": machines, "reason": p.Reason}
	if p.Reason == "" {
		body["reason"] = "start-campaign, task " + task
	}
	for key, value := range map[string]string{"name": p.Name, "policy": p.Policy, "plan": p.Plan, "baseline": p.Baseline} {
		if value != "" {
			body[key] = value
		}
	}
	for key, value := range map[string]int64{"priority": p.Priority, "at_once": p.AtOnce} {
		if value != 0 {
			body[key] = value
		}
	}
	if p.Due != "" {
		due, err := dueTime(p.Due)
		if err != nil {
			return nil, err
		}
		body["due"] = due.Format(time.RFC3339)
	}
	return body, nil
}

// dueTime reads a time, or a day as its end.
func dueTime(text string) (time.Time, error) {
	due, err := parseTime(text)
	if err != nil {
		return due, fmt.Errorf("cannot use due %s: want a day or a time, such as 2026-12-01 or 2026-12-01T12:00:00Z", hooks.Shown(text))
	}
	if len(text) == len(time.DateOnly) {
		due = due.AddDate(0, 0, 1).Add(-time.Second)
	}
	return due, nil
}

func (p startCampaignParams) subject() (map[string]any, error) {
	subject := map[string]any{}
	for key, value := range map[string]string{"series": p.Series, "flavour": p.Flavour, "stream": p.Stream, "pocket": p.Pocket, "ppa": p.PPA, "tracker": p.Tracker, "cycle": p.Cycle} {
		if value != "" {
			subject[key] = value
		}
	}
	if p.Spin != 0 {
		subject["spin"] = p.Spin
	}
	chosen := 0
	if p.Kernel != "" {
		source, version, ok := strings.Cut(p.Kernel, "=")
		if !ok || source == "" || version == "" {
			return nil, fmt.Errorf("cannot use kernel %s: want its source package and exact version, such as linux=6.8.0-51.52", hooks.Shown(p.Kernel))
		}
		chosen++
		subject["kind"], subject["source"], subject["version"] = "kernel", source, version
	}
	if p.Image != "" {
		chosen++
		subject["kind"], subject["serial"] = "image", p.Image
	}
	if p.AsItIs {
		chosen++
		subject["kind"] = "machine"
	}
	if chosen != 1 {
		return nil, errors.New("cannot tell what to test: give one of kernel=, image= and as-it-is=true")
	}
	return subject, nil
}

func (p startCampaignParams) machines() (map[string]any, error) {
	chosen := 0
	machines := map[string]any{}
	if p.Query != "" {
		chosen++
		machines["query"] = p.Query
	}
	for parameter, list := range map[string]struct{ key, text string }{"machines": {"names", p.Machines}, "except": {"except", p.Except}} {
		names, err := listed(parameter, list.text)
		if err != nil {
			return nil, err
		}
		if len(names) > 0 {
			machines[list.key] = names
		}
	}
	if machines["names"] != nil {
		chosen++
	}
	if p.OfBaseline {
		chosen++
		machines["of_baseline"] = true
	}
	if chosen != 1 {
		return nil, errors.New("cannot tell which machines: give one of query=, machines= and of-baseline=true")
	}
	return machines, nil
}

// listed reads names that commas separate.
func listed(parameter, text string) ([]string, error) {
	const most = 64 << 10
	if len(text) > most || !printable(text) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, fmt.Errorf("cannot use %s %s: want one line of at most %d bytes", parameter, hooks.Shown(text), most)
	}
	var names []string
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	if len(names) > maxListed {
		return nil, fmt.Errorf("cannot use %s: it lists %d, at most %d are taken (use a query)", parameter, len(names), maxListed)
	}
	return names, nil
}

func (sys system) startCampaign(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params startCampaignParams
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	body, err := params.request(call.ID)
	if err != nil {
		return fail(call, err)
	}
	ask, err := sys.api(u)
	if err != nil {
		return fail(call, err)
	}
	var answer map[string]any
	if params.DryRun {
		if err := ask(ctx, 2*callTime, "POST", "/api/v1/campaigns/plan", body, &answer); err != nil {
			return fail(call, err)
		}
		return set(call, shownPlan(call, answer))
	}
	if err := ask(ctx, 2*callTime, "POST", "/api/v1/campaigns", body, &answer); err != nil {
		return fail(call, err)
	}
	return set(call, shownCampaign(answer))
}

// shownCampaign are the results about a campaign. Its policy, and what it was asked to do, are long, and `certlab campaign show` has them.
func shownCampaign(campaign map[string]any) map[string]any {
	results := map[string]any{"campaign": campaign["id"]}
	short, _ := resultKeys(campaign).(map[string]any)
	for _, key := range []string{"name", "kind", "state", "policy", "due", "ending", "finished", "supersedes", "superseded-by", "url"} {
		if value, ok := short[key]; ok && value != "" {
			results[key] = value
		}
	}
	return results
}

// shownPlan prints what a campaign would do, and returns the results.
func shownPlan(call *hooks.ActionCall, plan map[string]any) map[string]any {
	targets, _ := plan["targets"].([]any)
	excluded := 0
	for _, entry := range targets {
		target, _ := entry.(map[string]any)
		if target["state"] == "excluded" {
			excluded++
		}
		target["machine"] = nil
		fmt.Fprintln(call.Output, words(target, "hostname", "class", "plan", "state", "why"))
	}
	warnings, _ := plan["warnings"].([]any)
	for _, warning := range warnings {
		fmt.Fprintf(call.Output, "warning: %v\n", warning)
	}
	plans, _ := plan["plans"].(map[string]any)
	results := map[string]any{"targets": len(targets) - excluded, "excluded": excluded, "plans": len(plans), "warnings": len(warnings)}
	for _, key := range []string{"finish", "holds", "basis"} {
		if value := plan[key]; value != nil && value != "" {
			results[key] = value
		}
	}
	return results
}

func (sys system) listCampaigns(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params struct {
		State string `param:"state"`
		Limit int64  `param:"limit"`
	}
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	ask, err := sys.api(u)
	if err != nil {
		return fail(call, err)
	}
	query := url.Values{"limit": {fmt.Sprint(params.Limit)}}
	if params.State != anyState {
		query.Set("state", params.State)
	}
	var page map[string]any
	if err := ask(ctx, callTime, "GET", "/api/v1/campaigns?"+query.Encode(), nil, &page); err != nil {
		return fail(call, err)
	}
	campaigns, _ := page["campaigns"].([]any)
	for _, entry := range campaigns {
		summary, _ := entry.(map[string]any)
		campaign, _ := summary["campaign"].(map[string]any)
		coverage, _ := summary["coverage"].(map[string]any)
		fmt.Fprintf(call.Output, "%s  %s  %v of %v done, %v missing, %v open findings, %v of them blockers  %s\n", words(campaign, "id", "name", "kind", "state"),
			words(summary, "standing"), number(coverage["done"]), number(coverage["required"]), number(coverage["missing"]), number(summary["open"]), number(summary["blockers"]),
			words(campaign, "due=due"))
	}
	next, _ := page["next"].(string)
	return set(call, map[string]any{"count": len(campaigns), "more": next != ""})
}

// number is a number of an answer as people read it.
func number(v any) string {
	if n, ok := v.(float64); ok {
		return fmt.Sprintf("%.0f", n)
	}
	return "0"
}

type campaignParam struct {
	Campaign string `param:"campaign"`
}

func (sys system) showCampaign(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params campaignParam
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	if err := checkName("campaign", params.Campaign, aCampaign); err != nil {
		return fail(call, err)
	}
	ask, err := sys.api(u)
	if err != nil {
		return fail(call, err)
	}
	var view map[string]any
	if err := ask(ctx, callTime, "GET", campaignPath(params.Campaign), nil, &view); err != nil {
		return fail(call, err)
	}
	return set(call, shownView(call, view))
}

// shownView prints what stands between a campaign and its verdict, and what it has found, and returns the rest as results.
func shownView(call *hooks.ActionCall, view map[string]any) map[string]any {
	campaign, _ := view["campaign"].(map[string]any)
	results := shownCampaign(campaign)
	if subject, ok := campaign["subject"].(map[string]any); ok {
		delete(subject, "archive") // it may have a key
		delete(subject, "packages")
		results["subject"] = resultKeys(subject)
	}
	if coverage, ok := view["coverage"].(map[string]any); ok {
		delete(coverage, "why") // reasons are no keys
		results["coverage"] = resultKeys(coverage)
	}
	for key, name := range map[string]string{"standing": "standing", "by": "by", "blockers": "blockers", "others": "others", "late": "late", "days_left": "days-left",
		"finish": "finish", "holds": "holds", "basis": "basis"} {
		if value := view[key]; value != nil && value != "" {
			results[name] = value
		}
	}
	needs, _ := view["needs"].([]any)
	for _, entry := range needs {
		need, _ := entry.(map[string]any)
		fmt.Fprintf(call.Output, "needed: %s\n", words(need, "what"))
		commands, _ := need["commands"].([]any)
		for _, command := range commands {
			fmt.Fprintf(call.Output, "        %v\n", command)
		}
	}
	groups, _ := view["groups"].([]any)
	for _, entry := range groups {
		group, _ := entry.(map[string]any)
		mark := ""
		for _, flag := range []string{"open", "blocker", "new"} {
			if group[flag] == true {
				mark += flag + ", "
			}
		}
		fmt.Fprintf(call.Output, "finding: %s%s  on %s of %s machines  %s\n", mark, words(group, "class", "job"), number(group["machines"]), number(group["of"]), words(group, "text", "issue_link"))
	}
	more, _ := view["more_groups"].(float64)
	results["needs"], results["groups"] = len(needs), len(groups)+int(more)
	if verdict, ok := view["verdict"].(map[string]any); ok {
		results["verdict"] = map[string]any{"outcome": verdict["outcome"], "by": verdict["by"], "at": verdict["at"], "digest": verdict["digest"]}
	}
	return results
}

type cancelCampaignParams struct {
	Campaign string `param:"campaign"`
	Reason   string `param:"reason"`
}

func (sys system) cancelCampaign(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params cancelCampaignParams
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	if err := cmp.Or(checkName("campaign", params.Campaign, aCampaign), checkCampaignReason(params.Reason)); err != nil {
		return fail(call, err)
	}
	ask, err := sys.api(u)
	if err != nil {
		return fail(call, err)
	}
	var answer map[string]any
	if err := ask(ctx, callTime, "POST", campaignPath(params.Campaign, "cancel"), map[string]any{"reason": params.Reason}, &answer); err != nil {
		return fail(call, err)
	}
	return set(call, shownCampaign(answer))
}

func checkCampaignReason(reason string) error {
	if strings.TrimSpace(reason) == "" {
		return errors.New("cannot do that without a reason: give reason=\"…\"; it is kept in the campaign's history")
	}
	return checkReason(reason, false)
}

type retryCampaignParams struct {
	Campaign string `param:"campaign"`
	Machines string `param:"machines"`
	State    string `param:"state"`
	Issue    string `param:"issue"`
	Jobs     string `param:"jobs"`
	Reason   string `param:"reason"`
}

func (p retryCampaignParams) request() (map[string]any, error) {
	if err := checkName("campaign", p.Campaign, aCampaign); err != nil {
		return nil, err
	}
	if err := checkCampaignReason(p.Reason); err != nil {
		return nil, err
	}
	if err := hooks.CheckLine("issue", p.Issue, maxLine); err != nil {
		return nil, err
	}
	body := map[string]any{"reason": p.Reason}
	chosen := 0
	machines, err := listed("machines", p.Machines)
	if err != nil {
		return nil, err
	}
	if len(machines) > 0 {
		chosen++
		body["machines"] = machines
	}
	if p.State != "none" {
		chosen++
		body["state"] = p.State
	}
	if p.Issue != "" {
		chosen++
		body["issue"] = p.Issue
	}
	if chosen == 0 {
		return nil, errors.New("cannot run it again: say on which machines (machines=, state= or issue=)")
	}
	jobs, err := listed("jobs", p.Jobs)
	if err != nil {
		return nil, err
	}
	if len(jobs) > 0 {
		body["jobs"] = jobs
	}
	return body, nil
}

func (sys system) retryCampaign(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params retryCampaignParams
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	body, err := params.request()
	if err != nil {
		return fail(call, err)
	}
	ask, err := sys.api(u)
	if err != nil {
		return fail(call, err)
	}
	var answer map[string]any
	if err := ask(ctx, 2*callTime, "POST", campaignPath(params.Campaign, "retry"), body, &answer); err != nil {
		return fail(call, err)
	}
	targets, _ := answer["targets"].([]any)
	runs, _ := answer["runs"].([]any)
	skipped, _ := answer["skipped"].(map[string]any)
	for _, machine := range sortedKeys(skipped) {
		fmt.Fprintf(call.Output, "skipped: %s  %v\n", machine, skipped[machine])
	}
	return set(call, map[string]any{"targets": len(targets), "runs": len(runs), "skipped": len(skipped)})
}
