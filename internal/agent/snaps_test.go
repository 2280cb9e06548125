package agent

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSnapsOfARunAreReleasedAndThoseOfOthersAreNot(t *testing.T) {
	t.Parallel()
	var ran []string
	notes := "classic"
	a := &Agent{opts: Options{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}}
	a.opts.Run = func(_ context.Context, _ []string, name string, args ...string) (string, error) {
		ran = append(ran, strings.Join(append([]string{name}, args...), " "))
		return "Name Version Rev Tracking Publisher Notes\ncheckbox 7.3.0 1 24.04/stable ce-certification-qa " + notes + "\n", nil
	}
	a.holdSnaps(t.Context(), 24*time.Hour)
	a.holdSnaps(t.Context(), 24*time.Hour) // after a power cut
	a.releaseSnaps()
	a.releaseSnaps()
	const hold, release = "snap refresh --hold=24h checkbox", "snap refresh --unhold checkbox"
	require.Equal(t, []string{"snap list", hold, release, "snap list", hold, release}, ran)
	require.NoFileExists(t, filepath.Join(a.opts.Dir, heldFile))

	ran, notes = nil, "classic,held"
	a.holdSnaps(t.Context(), 24*time.Hour)
	a.releaseSnaps()
	require.Equal(t, []string{"snap list"}, ran)
}
