package sqlite

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

// TestTrustsQueriesAnswer runs each query about incidents, notices, power cycles and times on a database without rows and on one with some.
func TestTrustsQueriesAnswer(t *testing.T) {
	t.Parallel()
	db, ctx, page := open1(t), t.Context(), Page{Limit: 10}
	all := func() (n int) {
		add := func(found int, err error) {
			require.NoError(t, err)
			n += found
		}
		watched, err := db.Watched(ctx)
		add(len(watched), err)
		cycles, err := db.OpenCycles(ctx)
		add(len(cycles), err)
		cycles, err = db.Cycles(ctx, "r1", 1)
		add(len(cycles), err)
		hands, err := db.HandsNeeded(ctx)
		add(len(hands), err)
		lost, err := db.LostMachines(ctx)
		add(len(lost), err)
		_, samples, err := db.JobSeconds(ctx, "m1", "job")
		add(samples, err)
		notices, _, err := db.Notices(ctx, page)
		add(len(notices), err)
		notices, err = db.DueNotices(ctx, epoch.Add(time.Hour), 10)
		add(len(notices), err)
		waiting, given, err := db.NoticeCounts(ctx)
		add(waiting+given, err)
		incidents, _, err := db.Incidents(ctx, true, page)
		add(len(incidents), err)
		incidents, err = db.OpenIncidents(ctx)
		add(len(incidents), err)
		racks, err := db.Racks(ctx)
		add(len(racks), err)
		usage, err := db.Usage(ctx, epoch, epoch.Add(time.Hour), epoch.Add(time.Hour))
		add(int(usage.Total), err)
		return n
	}
	require.Zero(t, all())
	node := machine(t, db, "node1")
	m := node.ID
	run, _ := uploaded(t, db, node, epoch, "pass")
	require.NoError(t, db.ChangeFleet(ctx, func(tx *FleetTx) error {
		for _, step := range []string{cert.CycleBegun, cert.CycleGivenUp, cert.CycleHands} {
			at := epoch.Add(time.Duration(len(step)) * time.Second)
			require.NoError(t, tx.PutCycle(cert.PowerCycle{Run: run, Attempt: 1, Machine: m, At: at, Since: at, Step: step, Hands: step}))
		}
		require.NoError(t, tx.PutLostJob(run, 1, cert.LostJob{Job: "job", At: epoch}))
		require.NoError(t, tx.SuspectAttempts("i1", []string{m}))
		require.NoError(t, tx.PutIncident(cert.Incident{ID: "i1", Scope: cert.ScopeZone}))
		require.NoError(t, tx.Notice(cert.NewNotice(cert.NoticeEnded, "a", epoch, "text")))
		require.NoError(t, tx.Account(m, cert.MachineFree, cert.UseIdle, "", epoch))
		return nil
	}))
	require.Positive(t, all())
	hands, err := db.HandsNeeded(ctx)
	require.NoError(t, err)
	require.Len(t, hands, 1)
	lost, err := db.LostMachines(ctx)
	require.NoError(t, err)
	require.Len(t, lost, 1)
}

// TestTimesOfAMachineNeitherOverlapNorLeaveGaps holds that also where the clock was set back.
func TestTimesOfAMachineNeitherOverlapNorLeaveGaps(t *testing.T) {
	t.Parallel()
	db, ctx := open1(t), t.Context()
	m := machine(t, db, "node1").ID
	for _, c := range []struct {
		minute   int
		consumer string
		holder   string
	}{{0, cert.UseIdle, ""}, {10, cert.UseIdle, ""}, {20, cert.UseManual, "ada"}, {15, cert.UseIdle, ""}, {60, cert.UseRuns, ""}} {
		require.NoError(t, db.ChangeFleet(ctx, func(tx *FleetTx) error {
			return tx.Account(m, cert.MachineFree, c.consumer, c.holder, epoch.Add(time.Duration(c.minute)*time.Minute))
		}))
	}
	rows, err := list(ctx, db.r, scanMachineTime, "SELECT machine, since, until, state, consumer, holder FROM machine_times ORDER BY since")
	require.NoError(t, err)
	require.Len(t, rows, 4)
	for n := range rows[1:] {
		require.Equal(t, rows[n].Until, rows[n+1].Since)
	}
	u, err := db.Usage(ctx, epoch, epoch.Add(2*time.Hour), epoch.Add(90*time.Minute))
	require.NoError(t, err)
	require.InDelta(t, 1.5, u.Total, 1e-5)
	require.InDelta(t, 0.5, u.Consumers[cert.UseRuns], 1e-5)
}
