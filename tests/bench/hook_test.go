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

// The baseline where Python's package index cannot be reached: a charm of three lines that is written in
// Python with ops, for a hook that changes nothing, seen on a real Juju 4.0.15.
const (
	pythonProcessor = 190 // ms
	pythonTools     = 8
)

// hookScript is for `juju exec`, which gives it the surroundings of a hook. It finds out which hook tools one dispatch calls, runs dispatch so
// often, and then just those tools as often; after each of the two it prints the processor time until then.
const hookScript = `cd "$CHARM_DIR" || exit 1
export JUJU_DISPATCH_PATH=hooks/update-status JUJU_HOOK_NAME=update-status
dir=$(mktemp -d) tools=$(dirname "$(command -v config-get)")
for tool in "$tools"/*; do
 printf '#!/bin/bash\n{ printf "%%%%q " %%s "$@"; echo; } >> %%s/calls\nexec %%s "$@"\n' "$tool" "$dir" "$tool" > "$dir/$(basename "$tool")"
done
chmod +x "$dir"/*; touch "$dir/calls"
PATH=$dir:$PATH ./dispatch >&2 || exit 1
sed 's|$|</dev/null >/dev/null|' "$dir/calls" > "$dir/replay"
times
for i in $(seq %[1]d); do ./dispatch >&2 || exit 1; done
times
for i in $(seq %[1]d); do . "$dir/replay"; done
times
echo tools $(wc -l < "$dir/calls")
rm -r "$dir"
`

// A hookCost is what one hook of a unit cost.
type hookCost struct {
	whole, tools float64 // ms of processor time: of dispatch with its hook tools, and of those alone
	calls        int
}

// BenchmarkHook is a hook with nothing to do: the packed charms' dispatch, with hook tools that are processes and ask the unit agent of a
// local lab over its socket. A charm in Python does the same beside them, in turn.
func BenchmarkHook(b *testing.B) {
	const rounds, hooks = 4, 5
	root, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(b, err)
	l, err := lab.New(root, "")
	require.NoError(b, err)
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Minute)
	defer cancel()
	b.Cleanup(func() { require.NoError(b, l.Down(context.Background(), true)) })
	require.NoError(b, l.Up(ctx))
	require.NoError(b, l.Deploy(ctx, 1, nil))
	waitFor(ctx, b, l, "active", "cert-controller/0", "checkbox/0")
	units := []string{"cert-controller/0", "checkbox/0"}
	against, python := "a Python ops charm of three lines, on a real Juju", hookCost{whole: pythonProcessor, calls: pythonTools}
	charm, err := pythonCharm(ctx, root, l.Dir)
	if err == nil {
		_, err := l.Juju(ctx, "deploy", charm, "three-lines", "--to", "0")
		require.NoError(b, err)
		waitFor(ctx, b, l, "unknown", "three-lines/0")
		units, against = append(units, "three-lines/0"), "a Python charm of three lines, ops "+opsVersion
	} else {
		b.Logf("without a Python charm to compare with: %v", err)
	}
	costs := map[string]hookCost{}
	for range rounds {
		for _, unit := range units {
			cost := runHooks(ctx, b, l, unit, hooks)
			costs[unit] = hookCost{costs[unit].whole + cost.whole/rounds, costs[unit].tools + cost.tools/rounds, cost.calls}
		}
	}
	measured, ok := costs["three-lines/0"]
	if ok {
		python = measured
		report.Add(b, report.Row{Measure: "A hook with nothing to do: dispatch without its hook tools", Case: "three-lines, in Python",
			Value: python.whole - python.tools, Unit: "ms"})
	}
	for _, unit := range units[:2] {
		name, _, _ := strings.Cut(unit, "/")
		cost := costs[unit]
		report.Add(b, report.Row{Measure: "A hook with nothing to do: processor time", Case: name, Value: cost.whole, Unit: "ms",
			Against: against, Baseline: python.whole, Goal: report.RatioAtMost(0.1)})
		report.Add(b, report.Row{Measure: "A hook with nothing to do: dispatch without its hook tools", Case: name, Value: cost.whole - cost.tools, Unit: "ms"})
		report.Add(b, report.Row{Measure: "A hook with nothing to do: hook tools", Case: name, Value: float64(cost.calls), Unit: "tools",
			Against: against, Baseline: float64(python.calls), Goal: report.AtMost(6)})
	}
}

// runHooks has a unit run so many hooks, and returns what one of them cost.
func runHooks(ctx context.Context, b *testing.B, l *lab.Lab, unit string, hooks int) hookCost {
	out, err := l.Juju(ctx, "exec", "--unit", unit, fmt.Sprintf(hookScript, hooks))
	require.NoError(b, err)
	times := childrenTimes(b, out)
	require.Len(b, times, 3, out)
	n := float64(hooks)
	return hookCost{(times[1] - times[0]) / n, (times[2] - times[1]) / n, toolCount(b, out)}
}

// waitFor waits until the units have that status and nothing to do.
func waitFor(ctx context.Context, b *testing.B, l *lab.Lab, workload string, units ...string) {
	for {
		s, err := l.Status(ctx)
		require.NoError(b, err)
		missing := ""
		for _, unit := range units {
			if u := s.Units()[unit]; u.Workload.Current != workload || u.Agent.Current != "idle" {
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

// childrenTimes are the processor times of the script's children so far, in milliseconds: what each `times` prints in its second line.
func childrenTimes(b *testing.B, out string) []float64 {
	var totals []float64
	for n, line := range timesLine.FindAllStringSubmatch(out, -1) {
		if n%2 == 0 {
			continue
		}
		total := 0.0
		for i := 1; i < 5; i += 2 {
			minutes, err := strconv.ParseFloat(line[i], 64)
			require.NoError(b, err)
			seconds, err := strconv.ParseFloat(line[i+1], 64)
			require.NoError(b, err)
			total += (minutes*60 + seconds) * 1000
		}
		totals = append(totals, total)
	}
	return totals
}

func toolCount(b *testing.B, out string) int {
	_, rest, ok := strings.Cut(out, "\ntools ")
	require.True(b, ok, out)
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	require.NoError(b, err)
	return n
}
