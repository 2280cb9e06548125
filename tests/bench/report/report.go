// Package report collects what benchmarks measure, as the rows of one table.
//
// A benchmark is a whole experiment: it repeats what it measures as often as it needs to, and ends with one Add for each figure.
//
//	func BenchmarkReadArchive(b *testing.B) {
//		ours, theirs := report.Pair(b, 9, func() { read(b, path) }, func() { baseline(b, path) })
//		report.Add(b, report.Row{Measure: "Reading an archive of 801 results", Value: report.Milliseconds(ours), Unit: "ms",
//			Against: "xz -dc | tar -xO, and encoding/json", Baseline: report.Milliseconds(theirs), Goal: report.RatioAtMost(1.5)})
//	}
//
// `make bench` runs every benchmark once (-benchtime=1x) and prints the table (tests/bench/table). Each Measure is a literal string, and
// docs/reference/measurements.md says how it is measured; a test holds it to that.
package report

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// RowsFile is the environment variable that names the file to which Add appends rows, one JSON object a line.
const RowsFile = "CERTLAB_BENCH_ROWS"

// A Row is one figure.
type Row struct {
	Measure  string  `json:"measure"`        // what is measured, in the words of docs/reference/measurements.md: a literal
	Case     string  `json:"case,omitempty"` // which of several, such as a route
	Value    float64 `json:"value"`
	Unit     string  `json:"unit"`
	Also     string  `json:"also,omitempty"`     // a further figure, such as "p50 2.1 ms"
	Against  string  `json:"against,omitempty"`  // what the value is compared with, in words
	Baseline float64 `json:"baseline,omitempty"` // its value, in the same unit; 0: there is none
	Goal     Goal    `json:"goal"`
}

// A Goal bounds a row's value or its ratio to the baseline. The zero Goal is met by everything.
type Goal struct {
	Kind  string  `json:"kind,omitempty"`
	Limit float64 `json:"limit,omitempty"`
}

const (
	atMost      = "at most"
	atLeast     = "at least"
	ratioAtMost = "ratio at most"
)

// AtMost is met by a value up to limit, in the row's unit.
func AtMost(limit float64) Goal { return Goal{atMost, limit} }

// AtLeast is met by a value from limit on, in the row's unit.
func AtLeast(limit float64) Goal { return Goal{atLeast, limit} }

// RatioAtMost is met by a value up to limit times the baseline.
func RatioAtMost(limit float64) Goal { return Goal{ratioAtMost, limit} }

// Ratio returns the value as a multiple of the baseline, 0 without one.
func (r Row) Ratio() float64 {
	if r.Baseline == 0 {
		return 0
	}
	return r.Value / r.Baseline
}

// Met reports whether the value is within the goal.
func (r Row) Met() bool {
	switch r.Goal.Kind {
	case atMost:
		return r.Value <= r.Goal.Limit
	case atLeast:
		return r.Value >= r.Goal.Limit
	case ratioAtMost:
		return r.Ratio() <= r.Goal.Limit
	}
	return true
}

// Name is the measure and its case.
func (r Row) Name() string {
	if r.Case == "" {
		return r.Measure
	}
	return r.Measure + ": " + r.Case
}

// check finds what makes a row senseless.
func (r Row) check() error {
	switch {
	case r.Measure == "" || r.Unit == "":
		return fmt.Errorf("cannot report %+v: it needs a measure and a unit", r)
	case strings.ContainsAny(r.Name()+r.Unit+r.Also, "|\n") || strings.Contains(r.Against, "\n"):
		return fmt.Errorf("cannot report %q: it would break the table", r.Name())
	case r.Goal.Kind == ratioAtMost && r.Baseline <= 0:
		return fmt.Errorf("cannot report %q: its goal is a ratio, and it has no baseline", r.Name())
	case r.Baseline != 0 && r.Against == "":
		return fmt.Errorf("cannot report %q: it does not say what its baseline is", r.Name())
	}
	return nil
}

// Add reports a row. A row with the same measure and case replaces the one before, so that a benchmark that is run again reports its
// last run. It shows the row among the benchmark's own figures too. A goal that is not met does not fail the benchmark: the table does.
func Add(b *testing.B, r Row) {
	b.Helper()
	if err := r.check(); err != nil {
		b.Fatal(err)
	}
	b.Logf("%s = %s%s (goal: %s)", r.Name(), quantity(r.Value, r.Unit), against(r), r.Goal)
	path := os.Getenv(RowsFile)
	if path == "" {
		return
	}
	text, err := json.Marshal(r)
	if err != nil {
		b.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		b.Fatalf("cannot report: %v", err)
	}
	defer f.Close()
	if _, err := f.Write(append(text, '\n')); err != nil {
		b.Fatalf("cannot report: %v", err)
	}
}

func against(r Row) string {
	if r.Baseline == 0 {
		return ""
	}
	return fmt.Sprintf(", %.2f × %s of %s", r.Ratio(), quantity(r.Baseline, r.Unit), r.Against)
}

// Pair runs ours and theirs in turn, rounds times each, and returns the median time of each: what else the machine does meanwhile
// falls on both alike. Each is run once before, untimed.
func Pair(b *testing.B, rounds int, ours, theirs func()) (time.Duration, time.Duration) {
	b.Helper()
	var a, c []time.Duration
	for n := range rounds + 1 {
		start := time.Now()
		theirs()
		middle := time.Now()
		ours()
		end := time.Now()
		if n > 0 {
			a, c = append(a, end.Sub(middle)), append(c, middle.Sub(start))
		}
	}
	return Percentile(a, 50), Percentile(c, 50)
}

// Percentile returns the smallest of the durations that p percent of them do not exceed. It sorts them.
func Percentile(all []time.Duration, p float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	n := int(float64(len(all))*p/100+0.9999999) - 1
	return all[min(max(n, 0), len(all)-1)]
}

// Milliseconds is a duration as a row's value.
func Milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// MiB is a number of bytes as a row's value.
func MiB[N ~int | ~int64 | ~uint64](bytes N) float64 { return float64(bytes) / (1 << 20) }
