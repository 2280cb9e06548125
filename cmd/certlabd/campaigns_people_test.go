package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/client"
	"certlab/internal/sqlite"
)

// storedCampaign is what storeCampaign has stored.
type storedCampaign struct {
	cert.Campaign
	finding, issue string
	findings       int
}

// storeCampaign stores a campaign that is over, of one target on a machine and so many findings, which all want to be markup.
func (l *lab) storeCampaign(name, machine, run, submission string, findings int) storedCampaign {
	const attack = `<script>document.title="owned"</script><b>`
	l.t.Helper()
	at := now().Add(-time.Hour)
	out := storedCampaign{findings: findings, finding: cert.NewID(cert.FindingID, at), issue: cert.NewID(cert.IssueID, at), Campaign: cert.Campaign{
		ID: cert.NewID(cert.CampaignID, at), Name: name, Kind: cert.KindSRU, State: cert.CampaignRejected, Created: at, Finished: &at, By: "ada", Due: &at,
		Subject: cert.Subject{Kind: cert.SubjectKernel, Series: "noble", Release: "24.04", Source: "linux", Flavour: "generic", Version: "6.8.0-51.52", Pocket: "proposed", Spin: 2,
			Tracker: "https://bugs.launchpad.net/bugs/1"},
		Policy: cert.PolicyRef{Name: "sru", Version: 1}, Rules: cert.DefaultPolicy(cert.KindSRU), Baseline: cert.Baseline{Rule: "released", Version: "6.8.0-50.51", Why: attack}}}
	c := out.Campaign
	target := cert.Target{ID: cert.NewID(cert.TargetID, at), Campaign: c.ID, Machine: machine, Hostname: "node0", Plan: "com.example.lab::" + attack, Required: true, State: cert.TargetDone,
		Counted: 1, Submission: submission, Updated: at, Tries: []cert.Try{{Number: 1, Purpose: cert.TryFirst, Machine: machine, Hostname: "node0", Run: run, By: "ada", Created: at,
			State: cert.Completed, Submission: submission, Ended: &at}},
		Compared: &cert.Compared{Submission: submission, At: at, Planned: 139, Ran: 137, Manifest: true, Proof: cert.Proof{OK: true, Needed: true, Kernel: "6.8.0-51-generic"},
			Counts: map[string]int{cert.ClassRegression: findings}, Changes: []cert.Change{{What: "firmware", Before: "1", After: attack}}}}
	verdict := cert.Verdict{Campaign: c.ID, Outcome: cert.StandRejected, Subject: c.Subject, By: "ada", Reason: "it does " + attack, At: at, Policy: c.Policy, Digest: strings.Repeat("ab", 32)}
	text, err := json.Marshal(verdict)
	require.NoError(l.t, err)
	require.NoError(l.t, l.service.db.ChangeCampaigns(l.t.Context(), func(tx *sqlite.CampaignTx) error {
		if err := tx.AddCampaign(c, c.Subject.Key()); err != nil {
			return err
		}
		if err := tx.PutTarget(target); err != nil {
			return err
		}
		for n := range findings {
			f := cert.Finding{ID: out.finding, Campaign: c.ID, Target: target.ID, Machine: machine, Hostname: "node0", HWClass: "xps " + attack, Plan: target.Plan, Class: cert.ClassRegression,
				Job: fmt.Sprintf("com.example.lab::job-%03d-%s", n, attack), Blocker: n%2 == 0, New: true, Attention: true, Outcome: "fail", Before: "pass", Text: "it fails now " + attack,
				Run: run, Submission: submission, Index: 0, OldIndex: -1, Found: at}
			if n > 0 {
				f.ID = cert.NewID(cert.FindingID, at)
			}
			if err := tx.PutFinding(f); err != nil {
				return err
			}
		}
		if err := tx.AddIssue(cert.KnownIssue{ID: out.issue, Version: 1, Title: "known " + name, Link: "https://bugs.launchpad.net/bugs/2", Owner: "ada", Created: at, Updated: at, By: "ada",
			Match: cert.IssueMatch{Job: "com.example.lab::other"}}, now()); err != nil {
			return err
		}
		return tx.AddVerdict(verdict, string(text))
	}))
	return out
}

// TestPeopleAskAboutCampaigns goes through the routes that show a campaign, with the client that people use, and holds the answers to the description.
func TestPeopleAskAboutCampaigns(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 0)
	l := newLab(t, a)
	o := newOpenAPI(t, l)
	viewer := l.person(cert.Viewer)
	sub := indexed(t, viewer, a.deliver(runID(), sample(t, "head-small.tar.xz")).Submission)
	c := l.storeCampaign("noble-linux-6.8.0-51.52", sub.Machine, sub.Run, sub.ID, 3)

	v, err := viewer.Campaign(t.Context(), c.Name)
	require.NoError(t, err)
	require.Equal(t, c.ID, v.Campaign.ID)
	require.Equal(t, l.url()+"/campaigns/"+c.ID, strings.Replace(v.Campaign.URL, "https://127.0.0.1/", l.url()+"/", 1))
	require.Equal(t, cert.StandRejected, v.Verdict.Outcome)
	list, err := viewer.Campaigns(t.Context(), url.Values{"state": {"rejected"}}, 0)
	require.NoError(t, err)
	require.Len(t, list, 1)
	open, err := viewer.Campaigns(t.Context(), url.Values{"state": {"open"}}, 0)
	require.NoError(t, err)
	require.Empty(t, open)
	findings, err := viewer.Findings(t.Context(), c.Name, url.Values{"blocker": {"true"}}, 0)
	require.NoError(t, err)
	require.Len(t, findings, 2)
	targets, err := viewer.Targets(t.Context(), c.Name, url.Values{"state": {"done"}}, 0)
	require.NoError(t, err)
	require.Len(t, targets, 1)
	none, err := viewer.Targets(t.Context(), c.Name, url.Values{"state": {"missing"}}, 0)
	require.NoError(t, err)
	require.Empty(t, none)
	f, err := viewer.Finding(t.Context(), c.finding)
	require.NoError(t, err)
	require.Equal(t, "node0", f.Finding.Hostname)
	verdict, err := viewer.Verdict(t.Context(), c.Name)
	require.NoError(t, err)
	require.Equal(t, "ada", verdict.By)
	var csv strings.Builder
	require.NoError(t, viewer.Export(t.Context(), c.Name, "csv", &csv))
	require.Contains(t, csv.String(), "job-001")
	log, err := viewer.Decisions(t.Context(), "", true, 10)
	require.NoError(t, err)
	require.True(t, *log.Intact)
	policies, err := viewer.Policies(t.Context())
	require.NoError(t, err)
	require.Len(t, policies.Policies, len(cert.CampaignKinds))
	timeline, err := viewer.Timeline(t.Context(), sub.Run)
	require.NoError(t, err)
	require.Equal(t, sub.Run, timeline.Run.ID)

	values := strings.NewReplacer("{campaign}", c.ID, "{finding}", c.finding, "{issue}", c.issue, "{policy}", "sru", "{run}", sub.Run)
	checked := 0
	for _, rt := range l.service.server.Routes() {
		if rt.Method != http.MethodGet || rt.Doc.Response == nil || !strings.Contains(rt.Path, "campaign") && !strings.Contains(rt.Path, "finding") && !strings.Contains(rt.Path, "issue") &&
			!strings.Contains(rt.Path, "decisions") && !strings.Contains(rt.Path, "polic") && !strings.Contains(rt.Path, "kernels") && !strings.Contains(rt.Path, "timeline") {
			continue
		}
		var body json.RawMessage
		require.Equal(t, http.StatusOK, l.call(l.socket(), "GET", "http://local"+values.Replace(rt.Path), nil, &body), "%s: %s", rt.Path, body)
		o.check(rt, "200", body)
		checked++
	}
	require.Equal(t, 15, checked)
}

// TestFaultRequestsAboutCampaigns: what cannot be done about a campaign is refused with the reason, and nothing comes of it.
func TestFaultRequestsAboutCampaigns(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 0)
	l := newLab(t, a)
	viewer, engineer, admin := l.person(cert.Viewer), l.person(cert.Engineer), l.person(cert.Admin)
	sub := indexed(t, viewer, a.deliver(runID(), sample(t, "head-small.tar.xz")).Submission)
	c := l.storeCampaign("noble-linux-6.8.0-51.52", sub.Machine, sub.Run, sub.ID, 1)
	ctx := t.Context()
	refused := func(err error, code cert.Code, message string) {
		t.Helper()
		var answer *client.Error
		require.ErrorAs(t, err, &answer)
		require.Equal(t, code, answer.Code, answer.Message)
		require.Contains(t, answer.Message, message)
	}
	_, err := viewer.Campaign(ctx, "noble-linux-6.8.0-51.25")
	refused(err, cert.NotFound, "did you mean noble-linux-6.8.0-51.52?")
	_, err = engineer.CancelCampaign(ctx, "nobel-linux-6.8.0-51.52", "x")
	refused(err, cert.NotFound, "did you mean noble-linux-6.8.0-51.52?")
	_, err = viewer.Campaign(ctx, "\x1b[2J")
	refused(err, cert.NotFound, "there is no campaign")
	_, err = viewer.Finding(ctx, "f0")
	refused(err, cert.NotFound, "there is no finding")
	_, err = viewer.StartCampaign(ctx, cert.NewCampaign{})
	refused(err, cert.Forbidden, "this needs the role engineer")
	_, err = engineer.StartCampaign(ctx, cert.NewCampaign{ID: "c1"})
	refused(err, cert.Invalid, `cannot use campaign id "c1"`)
	_, err = engineer.Decide(ctx, c.Name, cert.NewDecision{Action: cert.Approve, Reason: "I like it"})
	require.Error(t, err, "one that is over is not decided again")
	_, err = engineer.Decide(ctx, c.Name, cert.NewDecision{Action: cert.Approve})
	refused(err, cert.Invalid, "cannot decide: say why (reason)")
	_, err = engineer.Decide(ctx, c.Name, cert.NewDecision{Action: cert.Waive, Findings: []string{c.finding}, Reason: "x"})
	refused(err, cert.Invalid, "cannot waive without an end")
	_, err = engineer.ChangeCampaign(ctx, c.Name, cert.ChangeCampaign{})
	refused(err, cert.Invalid, "cannot change the campaign: say what (priority, at_once, due or paused)")
	_, err = engineer.RetryTargets(ctx, c.Name, cert.RetryTargets{Reason: "again"})
	refused(err, cert.Invalid, "cannot run it again: say which machines")
	_, err = viewer.Findings(ctx, c.Name, url.Values{"class": {"regresion"}}, 0)
	refused(err, cert.Invalid, "did you mean regression?")
	_, err = engineer.SavePolicy(ctx, "sru", []byte("kind: sru\n"))
	refused(err, cert.Forbidden, "this needs the role admin")
	_, err = admin.SavePolicy(ctx, "my sru", []byte("kind: sru\n"))
	refused(err, cert.Invalid, `cannot use the policy's name "my sru"`)
	_, err = admin.SavePolicy(ctx, "sru", []byte("kind: sru\ncolour: red\n"))
	refused(err, cert.Invalid, "colour")
	_, err = admin.SavePolicy(ctx, "sru", []byte(strings.Repeat("#", 300<<10)))
	refused(err, cert.TooLarge, "cannot read the policy: it is larger than 262144 bytes")
	_, err = engineer.CheckPolicy(ctx, []byte("kind: sru\ncolour: red\n"))
	refused(err, cert.Invalid, "colour")
	_, err = engineer.SaveIssue(ctx, cert.KnownIssue{ID: "k1", Version: 1, Title: "x", Link: "https://a.example/1", Owner: "a", Match: cert.IssueMatch{Job: "a::b"}})
	refused(err, cert.NotFound, "there is no known issue")
	_, err = engineer.ReadKernels(ctx, []byte("<html>"))
	require.Error(t, err)

	// Root over the socket is nobody whose name a decision could have.
	var body json.RawMessage
	require.Equal(t, http.StatusForbidden, l.call(l.socket(), "POST", "http://local/api/v1/campaigns/"+c.ID+"/decisions", cert.NewDecision{Action: cert.Approve, Reason: "x"}, &body))
	require.Contains(t, string(body), "cannot decide as root over the socket: a decision has a person's name")

	log, err := viewer.Decisions(ctx, "", true, 10)
	require.NoError(t, err)
	require.Empty(t, log.Decisions)
	v, err := viewer.Campaign(ctx, c.ID)
	require.NoError(t, err)
	require.Equal(t, cert.CampaignRejected, v.Campaign.State)
}
