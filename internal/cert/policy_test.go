package cert_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"certlab/internal/cert"
	"certlab/internal/order"
)

func TestDefaultPoliciesAreGoodAndSurviveYAML(t *testing.T) {
	t.Parallel()
	for _, kind := range cert.CampaignKinds {
		p := cert.DefaultPolicy(cert.CampaignKind(kind))
		require.NoError(t, p.Validate(), kind)
		text, err := yaml.Marshal(p)
		require.NoError(t, err)
		again, err := cert.ParsePolicy(text)
		require.NoError(t, err, "%s", text)
		require.Equal(t, p, again)
		short, err := cert.ParsePolicy([]byte("kind: " + kind + "\n"))
		require.NoError(t, err)
		require.Equal(t, p, short, "what is not said is the default")
	}
	server, ok := cert.DefaultPolicy(cert.KindSRU).PlanFor(&cert.FleetMachine{Tags: []string{"server"}})
	require.True(t, ok)
	require.Equal(t, cert.PlanSRUServer, server)
	other, ok := cert.DefaultPolicy(cert.KindSRU).PlanFor(&cert.FleetMachine{})
	require.True(t, ok)
	require.Equal(t, cert.PlanSRU, other)
}

func TestPolicySaysOnlyWhatDiffers(t *testing.T) {
	t.Parallel()
	p, err := cert.ParsePolicy([]byte("kind: sru\nretries: {infrastructure: 0}\ndecide: {auto: false}\njobs:\n  required: ['a::b', 'a::c/*']\n"))
	require.NoError(t, err)
	require.Equal(t, cert.PolicyRetries{Infrastructure: 0, KernelBoot: 1}, p.Retries)
	require.Equal(t, cert.PolicyDecide{Approve: "signer"}, p.Decide)
	require.Equal(t, "", p.Lacks("x::y", []order.PlannedJob{{ID: "a::b"}, {ID: "a::c/1"}}))
	require.Equal(t, "the policy requires a::c/*, and plan x::y has no such job on this machine (change jobs.required of the policy, or the plan)",
		p.Lacks("x::y", []order.PlannedJob{{ID: "a::b"}}))
}

func TestFaultPoliciesThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, says string }{
		{"", "it is empty"},
		{"- a\n", "line 1: it has to be keys and values"},
		{"kind: [", "line 1: did not find"},
		{"plans: []\n", "does not say its kind"},
		{"kind: srue\n", `kind "srue" (did you mean sru?)`},
		{"kind: sru\nmachine:\n  required: all\n", `line 2: there is no key "machine" (did you mean machines?)`},
		{"kind: sru\nmachines:\n  manifest: true\n", `line 3: there is no key "manifest" in machines (did you mean manifests?)`},
		{"kind: sru\nplans:\n  - machine: x\n", `line 3: there is no key "machine" in plans (did you mean machines?)`},
		{"kind: sru\nkind: sru\n", "kind is there twice"},
		{"kind: sru\nexclude:\n", "line 2: exclude has no value"},
		{"kind: sru\nfailover: maybe\n", "where there has to be true or false"},
		{"kind: sru\nexclude: 3\n", "where there has to be a list"},
		{"kind: sru\nretries: {infrastructure: many}\n", "where there has to be a whole number"},
		{"kind: sru\nexclude: &a [x]\nmatch: *a\n", "anchors and aliases"},
		{"kind: sru\n---\nkind: sru\n", "more than one document"},
		{"kind: sru\nplans: []\n", "a policy without plans"},
		{"kind: sru\nplans: [{plan: sru}]\n", "named by its full id"},
		{"kind: sru\nplans: [{plan: 'a::b'}, {plan: 'a::c'}]\n", "put it last"},
		{"kind: sru\nplans: [{machines: 'colour=red', plan: 'a::b'}]\n", "cannot use the machines of plans"},
		{"kind: certification\nexclude: [x]\n", "cannot use exclude in a policy of kind certification: a certificate wants the whole plan"},
		{"kind: certification\nmatch: [x]\n", "cannot use match"},
		{"kind: certification\njobs: {non_blockers: ['a::b']}\n", "cannot use jobs.non_blockers"},
		{"kind: certification\ndecide: {approve: engineer}\n", "cannot let role \"engineer\" approve"},
		{"kind: sru\ndecide: {approve: viewer}\n", "cannot let role \"viewer\" approve"},
		{"kind: sru\nexclude: ['(a']\n", "not a regular expression that can be used"},
		{"kind: sru\nexclude: ['a)(b']\n", "not a regular expression that can be used"},
		{"kind: sru\nexclude: ['(?=a)']\n", "no lookaround"},
		{"kind: sru\nexclude: ['((a{1,100}){1,100})b']\n", "not a regular expression that can be used"},
		{"kind: sru\nexclude: ['(ab|cd|efg){900}']\n", "it would take too long"},
		{"kind: sru\njobs: {required: [disk/read]}\n", "put its namespace before it"},
		{"kind: sru\nexclude: ['a::.*']\njobs: {required: ['a::b']}\n", "exclude and match leave it out"},
		{"kind: sru\njobs: {blockers: ['a::b'], non_blockers: ['a::b']}\n", "as a blocker and as none"},
		{"kind: sru\nmachines: {required: ''}\n", "a verdict would rest on nothing"},
		{"kind: sru\nretries: {infrastructure: 11}\n", "from 0 to 10"},
		{"kind: sru\ndeadline: {days: 1, decide_hours: 24}\n", "nothing could run"},
		{"kind: sru\ndeadline: {days: .nan}\n", "deadline.days NaN"},
		{"kind: sru\nbaseline: {rule: release}\n", "did you mean released?"},
		{"kind: sru\nbaseline: {rule: none}\n", "cannot need a baseline and have none"},
		{"kind: sru\n#" + strings.Repeat("x", cert.MaxPolicyText), "bytes, at most"},
	} {
		_, err := cert.ParsePolicy([]byte(test.text))
		require.Equal(t, cert.Invalid, cert.CodeOf(err), "%.60s", test.text)
		require.ErrorContains(t, err, test.says)
	}
}

func TestPatternsOfJobs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		pattern, id string
		want        bool
	}{
		{"a::b", "a::b", true}, {"a::b", "a::bc", false}, {"a::*", "a::bc", true}, {"*", "x", true}, {"*b", "a::b", true}, {"a*b*c", "abc", true}, {"a*b*c", "acb", false},
		{"a*a", "a", false}, {"ab*ba", "aba", false}, {"ab*ba", "abba", true}, {"*x*", "y", false}, {"a::b", "", false}, {"", "", true}, {"a**b", "ab", true},
	} {
		require.Equal(t, test.want, cert.MatchJob(test.pattern, test.id), "%s on %s", test.pattern, test.id)
	}
}

func TestFaultRulesThatWouldTakeForEver(t *testing.T) {
	t.Parallel()
	for pattern, says := range map[string]string{
		`(x+x+)+y`:           "", // no backtracking: it is linear
		`(?i)error.*timeout`: "",
		`((a{1,99}){1,99})z`: "not a regular expression",
		`(ab|cd|efg){900}`:   "it would take too long on a large log",
		`(a)\1`:              "no backreferences",
		`x*`:                 "it fits every log",
		strings.Repeat("a", cert.MaxIssuePattern+1): "at most 1000 bytes",
	} {
		err := cert.IssueMatch{Log: pattern}.Validate()
		if says != "" {
			require.ErrorContains(t, err, says)
			continue
		}
		require.NoError(t, err)
		re, err := cert.IssueMatch{Log: pattern}.CompileLog()
		require.NoError(t, err)
		require.False(t, re.MatchString(strings.Repeat("x", 100_000)), "and it comes back")
	}
	for says, m := range map[string]cert.IssueMatch{
		"neither a job, a template nor a log":  {Plan: "a::b"},
		"it would recognise everything":        {Job: "*::*"},
		"there are none between them":          {Job: "a::b", From: "6.8.0-52.53", To: "6.8.0-51.52"},
		`the outcome "failed" (did you mean f`: {Job: "a::b", Outcomes: []string{"failed"}},
		"cannot use the machines of the rule":  {Job: "a::b", Machines: "x=y"},
	} {
		require.ErrorContains(t, m.Validate(), says)
	}
}

func TestFaultCampaignsThatAreRefused(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	good := cert.NewCampaign{Kind: cert.KindSRU, Subject: kernel(nil), Machines: cert.MachineChoice{Query: "arch=amd64"}}
	require.NoError(t, good.Validate(now))
	for _, test := range []struct {
		change func(*cert.NewCampaign)
		says   string
	}{
		{func(c *cert.NewCampaign) { c.Machines = cert.MachineChoice{} }, "cannot start a campaign over no machines"},
		{func(c *cert.NewCampaign) { c.Machines.OfBaseline = true }, "more than one way"},
		{func(c *cert.NewCampaign) { c.Kind = cert.KindCertification; c.Exclude = []string{"x"} }, "a certificate wants the whole plan"},
		{func(c *cert.NewCampaign) { c.Kind = cert.KindCertification; c.Plan = "a::b" }, "a certificate wants the whole plan"},
		{func(c *cert.NewCampaign) { c.Subject = cert.Subject{Kind: cert.SubjectMachine} }, "its subject is a kernel or packages"},
		{func(c *cert.NewCampaign) { c.Name = "a b" }, "a name is one word"},
		{func(c *cert.NewCampaign) { c.Due = &now }, "that is over"},
		{func(c *cert.NewCampaign) { c.Kind = "" }, "of kind \"\""},
		{func(c *cert.NewCampaign) { c.AtOnce = -1 }, "0 for no cap"},
	} {
		c := good
		test.change(&c)
		require.ErrorContains(t, c.Validate(now), test.says)
	}
}

func TestFaultDecisionsThatAreRefusedAtOnce(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	later, late := now.Add(time.Hour), now.AddDate(3, 0, 0)
	for says, d := range map[string]cert.NewDecision{
		`cannot decide "aprove" (did you mean approve?)`: {Action: "aprove", Reason: "x"},
		"cannot do it without a reason":                  {Action: cert.Approve, Reason: "  "},
		"give one of them":                               {Action: cert.Approve, Reason: "x", All: true, Machines: []string{"a"}},
		"say --all as well":                              {Action: cert.Approve, Reason: "x", Filter: cert.Filter{Standing: cert.StandUndecided}},
		"cannot waive a whole campaign":                  {Action: cert.Waive, Reason: "x", Until: &later},
		"cannot waive without an end":                    {Action: cert.Waive, Reason: "x", Findings: []string{"f"}},
		"that is over":                                   {Action: cert.Waive, Reason: "x", Findings: []string{"f"}, Until: &now},
		"at most two years":                              {Action: cert.Waive, Reason: "x", Findings: []string{"f"}, Until: &late},
		"cannot approve findings":                        {Action: cert.Approve, Reason: "x", Findings: []string{"f"}},
	} {
		require.ErrorContains(t, d.Validate(now), says)
	}
	require.NoError(t, cert.NewDecision{Action: cert.Waive, Reason: "x", Findings: []string{"f"}, Until: &later}.Validate(now))
}
