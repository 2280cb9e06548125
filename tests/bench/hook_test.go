package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/tests/bench/report"
	"certlab/tests/lab"
)

// What a charm of three lines costs that is written in Python with ops, for a hook that changes nothing: seen on a real Juju 4.0.15.
const (
	pythonProcessor = 190 // ms
	pythonTools     = 8
)

// hookScript is for `juju exec`, which gives it the surroundings of a hook: it runs the charm's dispatch so often, tells what processor time
// that took with all hook tools, and then how many hook tools one dispatch calls.
const hookScript = `cd "$CHARM_DIR" || exit 1
for i in $(seq %[1]d); do ./dispatch || exit 1; done
times
dir=$(mktemp -d) tools=$(dirname "$(command -v config-get)")
for tool in "$tools"/*; do
 printf '#!/bin/sh\necho x >> %%s/count\nexec %%s "$@"\n' "$dir" "$tool" > "$dir/$(basename "$tool")"
done
chmod +x "$dir"/*; touch "$dir/count"
PATH=$dir:$PATH ./dispatch || exit 1
echo tools $(wc -l < "$dir/count")
rm -r "$dir"
`

// BenchmarkHook is a hook with nothing to do: the packed charms' dispatch, with hook tools that are processes and ask the unit agent of a
// local lab over its socket.
func BenchmarkHook(b *testing.B) {
	const hooks = 20
	root, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(b, err)
	l, err := lab.New(root, "")
	require.NoError(b, err)
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Minute)
	defer cancel()
	b.Cleanup(func() { require.NoError(b, l.Down(context.Background(), true)) })
	require.NoError(b, l.Up(ctx))
	require.NoError(b, l.Deploy(ctx, 1, nil))
	waitActive(ctx, b, l, "cert-controller/0", "checkbox/0")
	for _, unit := range []string{"cert-controller/0", "checkbox/0"} {
		out, err := l.Juju(ctx, "exec", "--unit", unit, fmt.Sprintf(hookScript, hooks))
		require.NoError(b, err)
		charm, _, _ := strings.Cut(unit, "/")
		report.Add(b, report.Row{Measure: "A hook with nothing to do: processor time", Case: charm, Value: childrenTime(b, out) / hooks, Unit: "ms",
			Against: "a Python ops charm of three lines, on a real Juju", Baseline: pythonProcessor, Goal: report.RatioAtMost(0.1)})
		report.Add(b, report.Row{Measure: "A hook with nothing to do: hook tools", Case: charm, Value: float64(toolCount(b, out)), Unit: "tools",
			Against: "the same Python charm", Baseline: pythonTools, Goal: report.AtMost(6)})
	}
}

// waitActive waits until the units have the status active.
func waitActive(ctx context.Context, b *testing.B, l *lab.Lab, units ...string) {
	for {
		s, err := l.Status(ctx)
		require.NoError(b, err)
		missing := ""
		for _, unit := range units {
			if u := s.Units()[unit]; u.Workload.Current != "active" || u.Agent.Current != "idle" {
				missing = fmt.Sprintf("%s is %+v", unit, u)
			}
		}
		if missing == "" {
			return
		}
		select {
		case <-ctx.Done():
			require.FailNow(b, missing)
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// timesLine is a line that the shell's `times` prints: user, then system.
var timesLine = regexp.MustCompile(`(?m)^(\d+)m([\d.]+)s (\d+)m([\d.]+)s$`)

// childrenTime is the processor time of the script's children, in milliseconds: what `times` prints in its second line.
func childrenTime(b *testing.B, out string) float64 {
	lines := timesLine.FindAllStringSubmatch(out, -1)
	require.Len(b, lines, 2, out)
	total := 0.0
	for i := 1; i < 5; i += 2 {
		minutes, err := strconv.ParseFloat(lines[1][i], 64)
		require.NoError(b, err)
		seconds, err := strconv.ParseFloat(lines[1][i+1], 64)
		require.NoError(b, err)
		total += (minutes*60 + seconds) * 1000
	}
	return total
}

func toolCount(b *testing.B, out string) int {
	_, rest, ok := strings.Cut(out, "\ntools ")
	require.True(b, ok, out)
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	require.NoError(b, err)
	return n
}
