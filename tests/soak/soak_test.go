package soak

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSoakShort kills parts of a small lab for some seconds and checks that nothing is lost.
func TestSoakShort(t *testing.T) {
	t.Parallel()
	if os.Getenv("SOAK_MINUTES") != "" {
		t.Skip("the long one is asked for")
	}
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	report, err := Run(t.Context(), Options{Seed: 4, Profile: Short(), Root: root, Log: writer{t}})
	if report != nil && report.Kept != "" {
		t.Cleanup(func() { os.RemoveAll(report.Kept) }) // where tests run by themselves, nobody looks there
	}
	require.NoError(t, err)
	t.Log("\n" + report.String())
	require.Zero(t, len(report.Violations), "violations, see the report")
	require.NotZero(t, report.Submission, "no run was completed")
	for _, kind := range []string{"kill-certlabd", "kill-pebble", "kill-agent", "power-cut", "kill-hook"} {
		require.NotZero(t, report.soak.ledger.done[kind], "%s never struck", kind)
	}
}

// TestSoak is what `make soak SEED=n MINUTES=m` runs.
func TestSoak(t *testing.T) {
	minutes, err := strconv.Atoi(os.Getenv("SOAK_MINUTES"))
	if err != nil {
		t.Skip("make soak SEED=1 MINUTES=30 asks for this one")
	}
	seed, err := strconv.ParseUint(os.Getenv("SOAK_SEED"), 10, 64)
	require.NoError(t, err, "SOAK_SEED must be a number")
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	out := filepath.Join(root, "build", "soak")
	report, err := Run(context.Background(), Options{Seed: seed, Profile: Long(time.Duration(minutes) * time.Minute), Root: root, Out: out, Log: os.Stdout})
	if report != nil {
		fmt.Printf("\n%s\nThis report is in %s.\n", report, filepath.Join(out, fmt.Sprintf("report-%d.txt", seed)))
	}
	require.NoError(t, err)
	require.Zero(t, len(report.Violations), "violations, see the report")
}

// A writer passes what happens on to a test's log.
type writer struct{ t *testing.T }

var _ io.Writer = writer{}

func (w writer) Write(p []byte) (int, error) {
	w.t.Helper()
	w.t.Logf("%s", p)
	return len(p), nil
}
