package agent

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/agent/checkbox"
	"certlab/internal/order"
)

const aDay = 24 * time.Hour

// TestFaultClockJumpsDuringARun sets the machine's clock again and again, also while the agent is away and over a reboot: no deadline
// is missed or met because of that, and the operator is told.
func TestFaultClockJumpsDuringARun(t *testing.T) {
	t.Parallel()
	g, _ := scriptedRig(t, script{Version: "7.3.0", Plan: example + "killed-nb", Running: example + "killer",
		Jobs:    []checkbox.Job{{ID: example + "killer", Plugin: "shell"}},
		Console: "console/killed-then-resumed.txt", Archive: "archives/head-killed-nb.tar.xz"})
	g.desired.TimeoutSeconds, g.desired.SilenceSeconds = 600, 600
	c := newController(t)
	c.enrol(g)
	g.clock(-56 * 365 * aDay) // never set
	g.start()
	id := g.run(order.Spec{Plan: example + "killed-nb"})
	g.in(id, example+"killer", "")
	g.says("this machine's clock is 20440 days behind the controller's (set it, or let it be set by the network; times that the machine tells are wrong, its results are not)")
	g.clock(aDay)
	g.says("this machine's clock is 24 hours ahead of the controller's")
	r, err := g.client.Run(context.Background(), id, 0)
	require.NoError(t, err)
	require.Equal(t, order.Running, r.State)
	g.kill() // the agent starts anew
	g.clock(-aDay)
	g.start()
	g.says("this machine's clock is 24 hours behind the controller's")
	g.in(id, example+"killer", "")
	g.killAll()
	g.clock(2 * aDay)
	g.boot("boot-2")
	g.start()
	r = g.delivered(id)
	require.Nil(t, r.Failure)
	require.Equal(t, order.Completed, r.State)
	require.Equal(t, order.Counts{"pass": 2, "crash": 1}, r.Counts)
	require.Len(t, r.Interruptions, 1)
	require.Equal(t, 1970, r.Started.Year(), "times are told as the machine's clock had them")
	require.WithinDuration(t, time.Now().Add(2*aDay), r.Finished, time.Hour)
	g.says("this machine's clock is 2 days ahead of the controller's")
	g.clock(0)
	g.untroubled()
	g.until("the controller is told the right time", 30*time.Second, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		last, err := time.Parse(time.RFC3339, c.times[len(c.times)-1])
		require.NoError(t, err)
		return time.Since(last).Abs() < time.Hour
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	first, err := time.Parse(time.RFC3339, c.times[0])
	require.NoError(t, err)
	require.Equal(t, 1970, first.Year())
}

func TestFaultClockJumpsBetweenStarts(t *testing.T) {
	t.Parallel()
	a, _ := lone(t, obedient)
	r := &run{rec: record{Start: 3, Run: order.Run{Report: order.Report{Run: "r1", Attempt: 1}}}}
	a.bootID = "boot-1"
	now := uptime()
	wall := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for n, k := range []kept{
		{BootID: "boot-0", Uptime: 1000, Elapsed: 10_000, Started: wall, Beat: wall},
		{BootID: "boot-0", Uptime: 16_000, Elapsed: 20_000, Started: wall.Add(aDay), Beat: wall.Add(aDay)}, // 5 s after the first ended
		{BootID: "boot-1", Uptime: now.Milliseconds() - 40_000, Elapsed: 30_000, Started: wall.Add(-aDay), Beat: wall.Add(-2 * aDay)},
	} {
		dir := a.startDir(&r.rec, n+1)
		require.NoError(t, os.MkdirAll(dir, 0o700))
		require.NoError(t, writeJSON(filepath.Join(dir, keepFile), k, 0o600))
	}
	spent := (&attempt{agent: a, run: r}).spent(r.rec)
	require.InDelta(t, (10+5+20+30+10)*time.Second, spent, float64(30*time.Second), "what was measured, and what lay between within a boot")
	// The keeper of an agent that was refreshed during the run does not say when it began.
	older := kept{BootID: "boot-1", Elapsed: 30_000}
	require.NoError(t, writeJSON(filepath.Join(a.startDir(&r.rec, 3), keepFile), older, 0o600))
	a.bootID = "boot-1"
	require.Equal(t, (10+5+20+30)*time.Second, (&attempt{agent: a, run: r}).spent(r.rec))
	a.bootID = "boot-2" // rebooted since: how long that took, no clock has measured
	spent = (&attempt{agent: a, run: r}).spent(r.rec)
	require.InDelta(t, (10+5+20+30)*time.Second, spent, float64(30*time.Second))
}

func TestFaultClockGoesBackBetweenRuns(t *testing.T) {
	t.Parallel()
	opts := Options{Dir: t.TempDir()}
	now := time.Now()
	opts.Now = func() time.Time { return now }
	opts.defaults()
	a, err := open(opts)
	require.NoError(t, err)
	for _, id := range []string{"r1", "r2", "r3"} {
		_, err := a.add(id, order.FromAction, time.Time{}, order.Spec{Plan: small.Plan})
		require.NoError(t, err)
		now = now.Add(-aDay)
	}
	a, err = open(opts)
	require.NoError(t, err)
	require.Equal(t, []string{"r1", "r2", "r3"}, a.order, "they are run as they were asked for")
	last, err := a.find("last")
	require.NoError(t, err)
	require.Equal(t, "r3", last.rec.Run.Run)
}

func TestDeliveredFilesAreKeptWhileThereIsRoomAndTime(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	opts := Options{Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(&log, nil)), KeepFree: 1}
	now := time.Now()
	opts.Now = func() time.Time { return now }
	opts.defaults()
	size := int64(len("archive of r1"))
	opts.KeepBytes = 3 * size
	a, err := open(opts)
	require.NoError(t, err)
	deliver := func(id string) {
		r := a.ended(t, id)
		require.NoError(t, a.update(r, func(rec *record) { rec.Run.Delivered, rec.Kept, rec.DeliveredAt = true, true, a.now() }))
	}
	kept := func() string {
		a.shed()
		again, err := open(opts) // it is the same for the agent that comes next
		require.NoError(t, err)
		var ids []string
		for _, id := range again.order {
			path := again.runs[id].rec.Run.SubmissionPath
			require.Equal(t, path != "", exists(a.spoolDir(id)))
			if path != "" {
				ids = append(ids, id)
			}
		}
		return strings.Join(ids, " ")
	}
	for _, id := range []string{"r1", "r2", "r3", "r4"} {
		deliver(id)
	}
	undelivered := a.ended(t, "r5")
	require.Equal(t, "r2 r3 r4 r5", kept(), "the oldest goes when there are too many")
	now = now.Add(-2 * aDay)
	require.Equal(t, "r2 r3 r4 r5", kept(), "a clock that goes back harms nothing")
	now = now.Add(6 * aDay)
	deliver("r6")
	now = now.Add(2 * aDay)
	require.Equal(t, "r5 r6", kept(), "old ones go, and what is not delivered never")
	a.opts.KeepFree = 1 << 60
	require.Equal(t, "r5", kept(), "nothing is kept on a disk that is short")
	require.FileExists(t, undelivered.rec.Run.SubmissionPath)

	// Delivered when the clock had never been set: they are not as old as that.
	a.opts.KeepFree = 1
	now = time.Unix(0, 0)
	deliver("r7")
	now = time.Now()
	require.Equal(t, "r5 r7", kept())
}
