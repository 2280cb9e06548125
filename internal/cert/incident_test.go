package cert

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var ruleNow = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// trials returns n trials at a place, from number on.
func trials(from, n int, zone, rack, release, failure string) []Trial {
	out := make([]Trial, n)
	for i := range out {
		id := fmt.Sprintf("m%d", from+i)
		out[i] = Trial{ID: "d" + id, Place: Place{Machine: id, Hostname: id, Zone: zone, Rack: rack, Release: release}, At: ruleNow.Add(-time.Minute), Failure: failure}
	}
	return out
}

func join(all ...[]Trial) (out []Trial) {
	for _, t := range all {
		out = append(out, t...)
	}
	return out
}

func open(all []Trial) []Trial {
	for n := range all {
		all[n].Open = true
	}
	return all
}

func at(all []Trial, at time.Time) []Trial {
	for n := range all {
		all[n].At = at
	}
	return all
}

// TestTheNarrowestScopeExplains holds which incident, if any, is seen in what happened.
func TestTheNarrowestScopeExplains(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		trials []Trial
		want   string // scope and name; empty: no incident
		n, of  int
	}{
		"four are not enough":               {trials: trials(0, 4, "z1", "r1", "noble", FailBoot)},
		"five of one rack":                  {trials: join(trials(0, 5, "z1", "r1", "noble", FailBoot), trials(10, 20, "z1", "r2", "noble", "")), want: "rack r1", n: 5, of: 5},
		"a whole zone of several racks":     {trials: join(trials(0, 5, "z1", "r1", "noble", FailBoot), trials(5, 5, "z1", "r2", "noble", FailBoot), trials(20, 30, "z2", "r9", "noble", "")), want: "zone z1", n: 10, of: 10},
		"a zone whose racks nobody knows":   {trials: join(trials(0, 6, "z1", "", "noble", FailSilent), trials(20, 9, "z2", "", "noble", "")), want: "zone z1", n: 6, of: 6},
		"a release, where others go well":   {trials: join(trials(0, 6, "z1", "", "noble", FailDeploy), trials(20, 6, "z1", "", "jammy", "")), want: "release noble", n: 6, of: 6},
		"nothing says that it is a release": {trials: trials(0, 6, "z1", "", "noble", FailDeploy), want: "zone z1", n: 6, of: 6},
		"silence is no matter of a release": {trials: join(trials(0, 6, "z1", "", "noble", FailSilent), trials(20, 6, "z1", "", "jammy", "")), want: "zone z1", n: 6, of: 12},
		"everywhere":                        {trials: join(trials(0, 5, "z1", "", "noble", FailPower), trials(5, 5, "z2", "", "jammy", FailPower)), want: "provider ", n: 10, of: 10},
		"fewer than a tenth":                {trials: join(trials(0, 5, "z1", "", "noble", FailPower), open(trials(20, 50, "z1", "", "noble", "")))},
		"a tenth":                           {trials: join(trials(0, 5, "z1", "", "noble", FailPower), open(trials(20, 45, "z1", "", "noble", ""))), want: "zone z1", n: 5, of: 50},
		"others go well there all the same": {trials: join(trials(0, 5, "z1", "", "noble", FailPower), trials(20, 15, "z1", "", "noble", ""))},
		"five that fail in five ways":       {trials: join(trials(0, 1, "z1", "", "n", FailBoot), trials(1, 1, "z1", "", "n", FailPower), trials(2, 1, "z1", "", "n", FailDeploy), trials(3, 1, "z1", "", "n", FailEnrol), trials(4, 1, "z1", "", "n", FailPrepare))},
		"one machine five times":            {trials: join(trials(0, 1, "z1", "", "n", FailBoot), trials(0, 1, "z1", "", "n", FailBoot), trials(0, 1, "z1", "", "n", FailBoot), trials(0, 1, "z1", "", "n", FailBoot), trials(0, 1, "z1", "", "n", FailBoot))},
		"five over a day":                   {trials: join(trials(0, 3, "z1", "", "n", FailBoot), at(trials(3, 3, "z1", "", "n", FailBoot), ruleNow.Add(-time.Hour)))},
		"a machine that went well since":    {trials: join(at(trials(0, 5, "z1", "", "n", FailBoot), ruleNow.Add(-2*time.Minute)), trials(0, 1, "z1", "", "n", ""))},
		"two dead ones among healthy ones":  {trials: join(trials(0, 2, "z1", "r1", "noble", FailPower), trials(10, 40, "z1", "r1", "noble", ""))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := IncidentRule{Machines: 5, Percent: 10, Within: 15 * time.Minute}.Find(c.trials, ruleNow)
			if c.want == "" {
				require.Nil(t, found)
				return
			}
			require.NotNil(t, found)
			require.Equal(t, c.want, found.Scope+" "+found.Name)
			require.Len(t, found.Machines, c.n)
			require.Equal(t, c.of, found.Of)
			require.Contains(t, found.Text, "taken for a fault of the lab, not of the machines")
		})
	}
}

// TestUsageCountsWhatOverlaps holds how hours are counted at the edges of a period.
func TestUsageCountsWhatOverlaps(t *testing.T) {
	t.Parallel()
	day := ruleNow.Truncate(24 * time.Hour)
	h := func(n int) time.Time { return day.Add(time.Duration(n) * time.Hour) }
	rows := []MachineTime{
		{Machine: "a", Since: h(-5), Until: h(2), Consumer: UseManual, Holder: "ada"},
		{Machine: "a", Since: h(2), Until: h(3), Consumer: UseIdle},
		{Machine: "a", Since: h(3), Consumer: UseManual, Holder: "bob"}, // still
		{Machine: "b", Since: h(23), Until: h(40), Consumer: UseRuns},
		{Machine: "c", Since: h(-9), Until: h(0), Consumer: UseBroken},
	}
	u := UsageOf(rows, h(0), h(24), h(10))
	require.Equal(t, 10.0, u.Total)
	require.Equal(t, map[string]float64{UseManual: 9, UseIdle: 1, UseRuns: 0, UseBroken: 0, UseChecks: 0, UseForeign: 0}, u.Consumers)
	require.Equal(t, map[string]float64{"ada": 2, "bob": 7}, u.Holders)
	require.Equal(t, 25.0, UsageOf(rows, h(0), h(24), h(30)).Total, "a's day, and b's last hour")
}

// TestReliabilityLeavesSuspectsOut holds what counts as a failure in a row, and which times count.
func TestReliabilityLeavesSuspectsOut(t *testing.T) {
	t.Parallel()
	d := func(hour int, failure, suspect string, seconds ...float64) Deployment {
		out := Deployment{ID: fmt.Sprint(hour), Started: ruleNow.Add(time.Duration(hour) * time.Hour), Phase: PhaseOver, Suspect: suspect}
		for n, s := range seconds {
			out.Phases = append(out.Phases, PhaseTime{Phase: []DeployPhase{PhaseAcquire, PhaseDeploy, PhaseEnrol}[n], Seconds: s})
		}
		if failure != "" {
			out.Failure = &Failure{Type: failure}
		}
		return out
	}
	r := ReliabilityOf([]Deployment{d(4, FailBoot, "", 3, 900), d(1, FailBoot, "", 1, 100), d(2, "", "", 2, 200, 20), d(3, FailBoot, "i1", 1, 9999), d(5, FailAcquire, "", 1), d(6, "", "", 1, 100)})
	require.Equal(t, 4, r.Deployments, "one that was cancelled is neither")
	require.Equal(t, 1, r.Succeeded)
	require.Equal(t, 1, r.Suspect)
	require.Equal(t, 1, r.InARow, "the failure before the success does not count, nor that somebody was faster")
	require.Equal(t, PhaseSum{Count: 4, Median: 1, P90: 3}, r.Phases[PhaseAcquire])
	require.Equal(t, PhaseSum{Count: 2, Median: 100, P90: 200}, r.Phases[PhaseDeploy].only(2))
}

// only leaves what was seen when there are n of it.
func (p PhaseSum) only(n int) PhaseSum {
	if p.Count < n {
		return PhaseSum{}
	}
	return p
}
