package sqlite

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

// TestLogsGoWithTheLastResultThatHadThem keeps a text that two failures share until both are gone.
func TestLogsGoWithTheLastResultThatHadThem(t *testing.T) {
	t.Parallel()
	db, ctx := open1(t), t.Context()
	m := machine(t, db, "node0")
	for n := range 3 {
		at := epoch.AddDate(0, 0, n)
		_, id := uploaded(t, db, m, at, "fail")
		text := "shared"
		if n == 0 {
			text = "alone"
		}
		require.NoError(t, db.SaveIndex(ctx, id, cert.Index{Version: 1, Plan: "x::y", Results: []cert.Result{{Section: cert.SectionResults, ID: "x::job-0", Outcome: "fail"}},
			Failures: []cert.IndexedFailure{{Outcome: "fail", Excerpt: text}}}))
	}
	logs := func() (n int) {
		for from, more := int64(0), true; more; more = from != 0 {
			var err error
			from, err = db.RemoveUnusedLogs(ctx, from, 1)
			require.NoError(t, err)
		}
		require.NoError(t, db.r.QueryRowContext(ctx, "SELECT count(*) FROM logs").Scan(&n))
		return n
	}
	require.Equal(t, 2, logs())
	for n, left := range []int{1, 1, 0} {
		then := epoch.AddDate(0, 0, n).Add(time.Hour)
		_, _, err := db.RemoveRuns(ctx, then, then, 10)
		require.NoError(t, err)
		require.Equal(t, left, logs(), "after %d", n)
	}
}
