package soak

import (
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
)

// newChecker returns a checker of a lab that is not there, for what is compared without it.
func newChecker() *checker {
	s := &Soak{Options: Options{Log: io.Discard, Profile: Short()}, ledger: newLedger(), began: time.Now()}
	s.report = newReport(s)
	s.monitor = newMonitor(s)
	return &checker{Soak: s, runs: map[string]cert.Run{}, subs: map[string][]cert.Submission{}, byTitle: map[string][]string{},
		requests: map[string]*Request{}, jobs: map[string]map[string]string{}}
}

// kinds returns the kinds of what was found so far.
func (c *checker) kinds() []string {
	var kinds []string
	for _, v := range c.report.Violations {
		kinds = append(kinds, v.Kind)
	}
	c.report.Violations = nil
	return kinds
}

func TestARunThatWasOverStaysAsItWas(t *testing.T) {
	t.Parallel()
	over := cert.Run{ID: "r1", State: cert.Completed, Submission: "s1", Counts: cert.Counts{"pass": 1}, Attempts: []cert.Attempt{{Number: 1}}}
	for name, later := range map[string]cert.Run{
		"state":      {ID: "r1", State: cert.Failed, Submission: "s1", Counts: over.Counts},
		"submission": {ID: "r1", State: cert.Completed, Submission: "s2", Counts: over.Counts},
		"counts":     {ID: "r1", State: cert.Completed, Submission: "s1", Counts: cert.Counts{"pass": 2}},
	} {
		c := newChecker()
		c.monitor.remember([]cert.Run{over})
		c.monitor.remember([]cert.Run{over})
		require.Empty(t, c.kinds())
		c.monitor.remember([]cert.Run{later})
		require.Equal(t, []string{"not final"}, c.kinds(), name)
	}
	c := newChecker()
	c.monitor.remember([]cert.Run{over})
	c.monitor.remember(nil)
	require.Equal(t, []string{"lost"}, c.kinds())
}

func TestAcknowledgedRunsAreThereOnce(t *testing.T) {
	t.Parallel()
	c := newChecker()
	c.requests = map[string]*Request{"t": {Title: "t", ID: "r1", Acked: true}}
	c.acknowledgedRuns()
	require.Equal(t, []string{"lost"}, c.kinds())
	c.byTitle["t"] = []string{"r1", "r2"}
	c.acknowledgedRuns()
	require.Equal(t, []string{"twice"}, c.kinds())
	c.byTitle["t"] = []string{"r2"}
	c.acknowledgedRuns()
	require.Equal(t, []string{"twice"}, c.kinds())
	c.byTitle["t"] = []string{"r1"}
	c.acknowledgedRuns()
	require.Empty(t, c.kinds())
}

func TestRunsEndAsTheirPlansDo(t *testing.T) {
	t.Parallel()
	failed := func(kind string) *cert.Failure { return &cert.Failure{Type: kind} }
	boots := func(n int) []cert.Attempt { return []cert.Attempt{{Interruptions: make([]cert.Interruption, n)}} }
	for name, test := range map[string]struct {
		plan, title string
		run         cert.Run
		want        []string
	}{
		"unknown":              {"demo-quick", "another", cert.Run{State: cert.Cancelled}, []string{"unknown"}},
		"open":                 {"demo-quick", "t", cert.Run{State: cert.Running}, []string{"open"}},
		"cancelled by nobody":  {"demo-quick", "t", cert.Run{State: cert.Cancelled}, []string{"outcome"}},
		"failed":               {"demo-quick", "t", cert.Run{State: cert.Failed, Failure: failed(order.FailAgent)}, []string{"outcome"}},
		"failed as it should":  {"demo-manual", "t", cert.Run{State: cert.Failed, Failure: failed(order.FailInteractive)}, nil},
		"failed otherwise":     {"demo-manual", "t", cert.Run{State: cert.Failed, Failure: failed(order.FailTimeout)}, []string{"outcome"}},
		"interrupted often":    {"demo-quick", "t", cert.Run{State: cert.Failed, Failure: failed(order.FailInterrupted), Attempts: boots(21)}, nil},
		"interrupted seldom":   {"demo-quick", "t", cert.Run{State: cert.Failed, Failure: failed(order.FailInterrupted), Attempts: boots(20)}, []string{"outcome"}},
		"hung and completed":   {"demo-hang", "t", cert.Run{State: cert.Completed}, []string{"outcome", "lost"}},
		"hung and was ended":   {"demo-hang", "t", cert.Run{State: cert.Completed, Attempts: []cert.Attempt{{Interruptions: []cert.Interruption{{Job: namespace + "hang"}}}}}, []string{"lost"}},
		"completed of nothing": {"demo-quick", "t", cert.Run{State: cert.Completed}, []string{"lost"}},
		"two files":            {"demo-manual", "t", cert.Run{State: cert.Failed, Failure: failed(order.FailInteractive), Files: []cert.File{{Kind: "submission"}}}, []string{"twice"}},
		"on another machine":   {"demo-manual", "t", cert.Run{State: cert.Failed, Failure: failed(order.FailInteractive), Hostname: "machine-2"}, []string{"wrong"}},
	} {
		c := newChecker()
		c.requests["t"] = &Request{Title: "t", Machine: "1", Plan: namespace + test.plan, Origin: cert.FromOrder}
		test.run.ID, test.run.Origin = "r1", cert.FromOrder
		test.run.Spec = cert.Spec{Plan: namespace + test.plan, Title: test.title}
		if test.run.Hostname == "" {
			test.run.Hostname = "machine-1"
		}
		c.run(t.Context(), test.run)
		require.Equal(t, test.want, c.kinds(), name)
	}
}

func TestAJobThatWasStruckHasNotPassed(t *testing.T) {
	t.Parallel()
	c := newChecker()
	run := cert.Run{ID: "r1", Attempts: []cert.Attempt{{Interruptions: []cert.Interruption{{Job: "a"}, {Job: "b", Expected: true}}}}}
	c.interrupted(run, map[string]string{"a": "crash", "b": "pass", "c": "pass"})
	require.Empty(t, c.kinds())
	c.interrupted(run, map[string]string{"a": "pass"})
	require.Equal(t, []string{"passed"}, c.kinds())
	c.cut([]Cut{{Run: "r1", Job: "c"}})
	c.interrupted(run, map[string]string{"a": "fail", "c": "pass"})
	require.Equal(t, []string{"passed"}, c.kinds())
}

func TestSubmissionsOfAPlanHaveTheSameJobs(t *testing.T) {
	t.Parallel()
	c := newChecker()
	run := cert.Run{ID: "r1", Spec: cert.Spec{Plan: namespace + "demo-quick"}}
	c.sameJobs(run, map[string]string{"a": "pass", "b": "fail"})
	c.sameJobs(run, map[string]string{"a": "pass", "b": "fail"})
	require.Empty(t, c.kinds())
	c.sameJobs(run, map[string]string{"a": "pass"})
	require.Equal(t, []string{"lost"}, c.kinds())
	c.sameJobs(run, map[string]string{"a": "pass", "b": "crash"})
	require.Equal(t, []string{"outcome"}, c.kinds())
	run.Attempts = []cert.Attempt{{Interruptions: []cert.Interruption{{Job: "b"}}}}
	c.sameJobs(run, map[string]string{"a": "pass", "b": "crash"})
	require.Empty(t, c.kinds())
}

func TestWhatAgentsHaveDeliveredIsThere(t *testing.T) {
	t.Parallel()
	record := agentRun{Step: "ended", Run: order.Run{Report: order.Report{Run: "r1", State: order.Completed}, Delivered: true, Files: []order.File{{SHA256: "x"}}}}
	c := newChecker()
	c.delivered("1", record)
	require.Equal(t, []string{"lost"}, c.kinds())
	c.runs["r1"] = cert.Run{ID: "r1", State: cert.Completed}
	c.delivered("1", record)
	require.Equal(t, []string{"lost"}, c.kinds())
	c.runs["r1"] = cert.Run{ID: "r1", State: cert.Failed, Files: []cert.File{{SHA256: "x"}}}
	c.delivered("1", record)
	require.Equal(t, []string{"wrong"}, c.kinds())
	c.runs["r1"] = cert.Run{ID: "r1", State: cert.Completed, Files: []cert.File{{SHA256: "x"}}}
	c.delivered("1", record)
	require.Empty(t, c.kinds())
	record.Run.Delivered = false
	c.delivered("1", record)
	require.Equal(t, []string{"open"}, c.kinds())
}

func TestMemoryThatGrowsIsSeen(t *testing.T) {
	t.Parallel()
	c := newChecker()
	steady, growing := []memoryPoint{}, []memoryPoint{}
	for n := range 100 {
		at := time.Duration(n) * 10 * time.Second
		steady = append(steady, memoryPoint{at, int64(30+n%5) << 20})
		growing = append(growing, memoryPoint{at, int64(30+2*n) << 20})
	}
	c.monitor.life["steady"] = steady
	c.monitor.judge()
	require.Empty(t, c.kinds())
	c.monitor.life["growing"] = growing
	c.monitor.judge()
	require.Equal(t, []string{"memory"}, c.kinds())
}
