package sqlite

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

// ordered adds a run that waits for its machine.
func ordered(t *testing.T, db *DB, m cert.Machine, at time.Time) string {
	r := cert.Run{ID: cert.NewID(cert.RunID, at), Machine: m.ID, Origin: cert.FromOrder, Spec: cert.Spec{Plan: "a::b"}, State: cert.Queued, Created: at}
	require.NoError(t, db.AddRun(t.Context(), r))
	return r.ID
}

func over(t *testing.T, db *DB, run string) {
	_, err := db.UpdateRun(t.Context(), run, nil, func(r *cert.Run) (bool, error) {
		r.State = cert.Failed
		return true, nil
	})
	require.NoError(t, err)
}

func TestWhatOneRunHasOthersWaitFor(t *testing.T) {
	t.Parallel()
	db := open1(t)
	a, b, c := machine(t, db, "a"), machine(t, db, "b"), machine(t, db, "c")
	now := epoch
	hand := func(run string, shared ...string) bool {
		given, err := db.HandOutRun(t.Context(), run, HandOut{Shared: shared, Now: now})
		require.NoError(t, err)
		r, err := db.Run(t.Context(), run)
		require.NoError(t, err)
		require.Equal(t, given, r.HandedOut != nil, "given and recorded together")
		return given
	}
	waits := func(run string) string {
		r, err := db.Run(t.Context(), run)
		require.NoError(t, err)
		return r.Waits
	}
	first, second, third := ordered(t, db, a, now), ordered(t, db, b, now), ordered(t, db, c, now)
	require.True(t, hand(first, "iperf-a"))
	require.False(t, hand(third, "iperf-a", "ap-1"), "it asked first")
	now = now.Add(time.Second)
	require.False(t, hand(second, "iperf-a"))
	require.Equal(t, "iperf-a, held by run "+first+" on a", waits(second))
	require.True(t, hand(ordered(t, db, b, now), "iperf-b"), "another thing is free")
	machines, err := db.WaitingMachines(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, []string{b.ID, c.ID}, machines)

	// Free again, it goes to who has waited longest, although another asks first.
	over(t, db, first)
	require.False(t, hand(second, "iperf-a"))
	require.Equal(t, "iperf-a, for which others have waited longer", waits(second))
	require.True(t, hand(third, "iperf-a", "ap-1"))
	require.Empty(t, waits(third))
	over(t, db, third)
	require.True(t, hand(second, "iperf-a"))
	require.True(t, hand(second, "iperf-a"), "once more is the same")
}

func TestAMachineThatDoesNotAskKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	db := open1(t)
	a, b, c := machine(t, db, "a"), machine(t, db, "b"), machine(t, db, "c")
	first, silent, last := ordered(t, db, a, epoch), ordered(t, db, b, epoch), ordered(t, db, c, epoch)
	ask := func(run string, at time.Time) bool {
		given, err := db.HandOutRun(t.Context(), run, HandOut{Shared: []string{"x"}, Now: at})
		require.NoError(t, err)
		return given
	}
	require.True(t, ask(first, epoch))
	require.False(t, ask(silent, epoch))
	over(t, db, first)
	require.False(t, ask(last, epoch.Add(time.Minute)))
	require.True(t, ask(last, epoch.Add(askTime+time.Minute)))
}

// TestFaultARunThatIsCancelledUnseenKeepsWhatItHas: its agent may have begun it.
func TestFaultARunThatIsCancelledUnseenKeepsWhatItHas(t *testing.T) {
	t.Parallel()
	db := open1(t)
	a, b := machine(t, db, "a"), machine(t, db, "b")
	first, second := ordered(t, db, a, epoch), ordered(t, db, b, epoch)
	ask := func(run string) bool {
		given, err := db.HandOutRun(t.Context(), run, HandOut{Shared: []string{"x"}, Now: epoch})
		require.NoError(t, err)
		return given
	}
	require.True(t, ask(first))
	change := func(fn func(r *cert.Run) (bool, error)) {
		_, err := db.UpdateRun(t.Context(), first, nil, fn)
		require.NoError(t, err)
	}
	change(func(r *cert.Run) (bool, error) { return r.Cancel(epoch) })
	report := cert.Report{Attempt: 1, Sequence: 1, Origin: cert.FromOrder, State: cert.Running}
	change(func(r *cert.Run) (bool, error) { return r.Report(report, epoch), nil })
	require.False(t, ask(second), "the agent had begun it all the same")
	change(func(r *cert.Run) (bool, error) {
		report.Sequence, report.State = 2, cert.Cancelled
		return r.Report(report, epoch), nil
	})
	require.True(t, ask(second))
}

func TestFaultResultsThatWantedAManifestAreCountedApart(t *testing.T) {
	t.Parallel()
	db := open1(t)
	m := machine(t, db, "a")
	for _, none := range []bool{false, true} {
		r := cert.Run{ID: cert.NewID(cert.RunID, epoch), Machine: m.ID, Origin: cert.FromOrder, State: cert.Completed, Created: epoch, Finished: &epoch, NoManifest: none}
		require.NoError(t, db.AddRun(t.Context(), r))
		f, err := db.AddFile(t.Context(), r.ID, cert.File{Attempt: 1, Kind: cert.KindSubmission, Name: "s", SHA256: cert.HashSecret(r.ID), Size: 1, Received: epoch})
		require.NoError(t, err)
		require.NoError(t, db.SaveIndex(t.Context(), f.Submission, cert.Index{Version: 1, Counts: cert.Counts{"pass": 1, "not-supported": 2}, Results: []cert.Result{
			{Index: 0, Section: cert.SectionResults, ID: "x::pass", Outcome: "pass"},
			{Index: 1, Section: cert.SectionResults, ID: "x::camera", Outcome: "not-supported", Comments: `job cannot be started: resource expression "manifest.has_camera == 'True'" evaluates to false`},
			{Index: 2, Section: cert.SectionResults, ID: "x::other", Outcome: "not-supported", Comments: `job cannot be started: resource expression "cpuinfo.type == 'x'" evaluates to false`},
		}}))
		run, err := db.Run(t.Context(), r.ID)
		require.NoError(t, err)
		results, _, err := db.Results(t.Context(), ResultFilter{Run: r.ID}, Page{Limit: 10})
		require.NoError(t, err)
		require.Equal(t, []bool{false, none, false}, []bool{results[0].NoManifest, results[1].NoManifest, results[2].NoManifest})
		require.Equal(t, none, run.NoManifest)
		if none {
			require.Equal(t, cert.Counts{"pass": 1, "not-supported": 1, cert.OutcomeNoManifest: 1}, run.Counts)
			require.False(t, run.Counts.Clean())
		} else {
			require.Equal(t, cert.Counts{"pass": 1, "not-supported": 2}, run.Counts)
		}
	}
}

// TestAMachineThatNoProviderListsHasNoZone: such as one that a unit sits on, of which the fleet keeps a row all the same.
func TestAMachineThatNoProviderListsHasNoZone(t *testing.T) {
	t.Parallel()
	db := open1(t)
	m := machine(t, db, "a")
	for range 2 { // without a row, and with one
		site, err := db.Site(t.Context(), m.ID)
		require.NoError(t, err)
		require.Empty(t, site.Zone.Zone)
		require.NoError(t, db.ChangeFleet(t.Context(), func(tx *FleetTx) error { return tx.PutMachine(FleetRow{Machine: m}) }))
	}
}
