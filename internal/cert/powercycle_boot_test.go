package cert

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTheSiteSaysHowLongABootTakes has the site's limit go before what the agent announces, for a boot and for nothing else.
func TestTheSiteSaysHowLongABootTakes(t *testing.T) {
	t.Parallel()
	heard := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	q := Quiet{Heard: heard, Reported: heard, Least: time.Minute, Boot: 5 * time.Minute, Progress: Progress{Phase: "booting", QuietSeconds: 900}}
	require.Equal(t, heard.Add(5*time.Minute), q.Until())
	q.Boot = 30 * time.Minute
	require.Equal(t, heard.Add(30*time.Minute), q.Until())
	q.Progress.Phase = "testing"
	require.Equal(t, heard.Add(15*time.Minute), q.Until(), "a job that suspends")
}
