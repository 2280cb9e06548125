package soak

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// A Violation is something that must not be, whatever was killed.
type Violation struct {
	Kind   string
	ID     string // of the run, submission, … that it is about
	Text   string
	At     time.Duration
	Before []string // the last of what was done before it
}

// A Report is what a soak found.
type Report struct {
	soak       *Soak
	mu         sync.Mutex
	Violations []Violation
	Faults     time.Duration // how long things were killed
	Settled    time.Duration // how long the lab then took to be well
	Total      time.Duration
	Outcomes   map[string]int // plan and how its runs ended → how many
	Submission int            // how many submissions were read
	Jobs       int            // results in them
	Interrupts map[string]int
	Facts      []string
	Memory     []string
	Kept       string // the lab's directory, if it is kept
	URL        string
	CAs        []string
}

func newReport(s *Soak) *Report {
	return &Report{soak: s, Outcomes: map[string]int{}, Interrupts: map[string]int{}}
}

// violate takes a violation down.
func (s *Soak) violate(kind, id, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.logf("VIOLATION %s %s: %s", kind, id, text)
	v := Violation{Kind: kind, ID: id, Text: text, At: s.now()}
	s.ledger.with(func() {
		for _, line := range s.ledger.log {
			if !strings.Contains(line, "VIOLATION") && strings.Contains(line, id) {
				v.Before = append(v.Before, line)
			}
		}
		v.Before = v.Before[max(0, len(v.Before)-12):]
	})
	s.report.mu.Lock()
	defer s.report.mu.Unlock()
	s.report.Violations = append(s.report.Violations, v)
}

func (s *Soak) fact(format string, args ...any) {
	s.report.mu.Lock()
	defer s.report.mu.Unlock()
	s.report.Facts = append(s.report.Facts, fmt.Sprintf(format, args...))
}

// Command is what repeats the soak.
func (r *Report) Command() string {
	return fmt.Sprintf("make soak SEED=%d MINUTES=%d", r.soak.Seed, max(1, int(r.soak.Profile.Faults.Minutes())))
}

func (r *Report) String() string {
	s := r.soak
	var b strings.Builder
	host, _ := os.Hostname()
	fmt.Fprintf(&b, "Soak with seed %d on %s (%s, %d processors), %s\n", s.Seed, host, runtime.GOARCH, runtime.NumCPU(), time.Now().UTC().Format("2006-01-02 15:04Z"))
	fmt.Fprintf(&b, "%d machines under test; faults for %s, then well again after %s; %s in all\n", s.Profile.Machines, r.Faults.Round(time.Second),
		r.Settled.Round(time.Second), r.Total.Round(time.Second))
	fmt.Fprintf(&b, "Again: %s (the same plan of what is done when; what it meets depends on the machine's speed)\n\n", r.Command())
	table := func(head string, rows map[string]int, more func(string) string) {
		if len(rows) == 0 {
			return
		}
		fmt.Fprintln(&b, head)
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, name := range slices.Sorted(maps.Keys(rows)) {
			fmt.Fprintf(w, "  %s\t%d\t%s\n", name, rows[name], more(name))
		}
		w.Flush()
		fmt.Fprintln(&b)
	}
	none := func(string) string { return "" }
	s.ledger.with(func() {
		kinds := map[string]int{}
		for name := range faultKinds {
			if s.ledger.done[name]+s.ledger.missed[name] > 0 {
				kinds[name] = s.ledger.done[name]
			}
		}
		table("Faults, and how often each hit", kinds, func(name string) string {
			if n := s.ledger.missed[name]; n > 0 {
				return fmt.Sprintf("(and %d times there was nothing to hit)", n)
			}
			return ""
		})
	})
	table("Acknowledged, and checked", s.ledger.acknowledged(), none)
	table("How runs ended, as the controller has it", r.Outcomes, none)
	table("Interruptions of runs, as their agents recorded them", r.Interrupts, none)
	fmt.Fprintf(&b, "%d submissions were downloaded, hashed, read and compared with the API, %d results in them\n", r.Submission, r.Jobs)
	fmt.Fprintf(&b, "%d jobs were certainly in progress when something was killed under them\n", len(s.ledger.cuts))
	for _, line := range append(slices.Clone(r.Facts), r.Memory...) {
		fmt.Fprintln(&b, line)
	}
	if len(r.Violations) == 0 {
		fmt.Fprintf(&b, "\nNo violations: nothing lost, nothing twice, nobody needed.\n")
		return b.String()
	}
	fmt.Fprintf(&b, "\n%d VIOLATIONS\n", len(r.Violations))
	for _, v := range r.Violations {
		fmt.Fprintf(&b, "\n%s %s (at %.1fs): %s\n", v.Kind, v.ID, v.At.Seconds(), v.Text)
		for _, line := range v.Before {
			fmt.Fprintf(&b, "    %s\n", line)
		}
	}
	if r.Kept != "" {
		fmt.Fprintf(&b, "\nThe lab is kept in %s: machines/N/log and log/lab.log are its logs, storage/ the controller's data.\nLook at it with: CERTLAB_LAB=%s certlab lab up\n", r.Kept, r.Kept)
	}
	return b.String()
}

// write writes the report, and beside it what was done when.
func (r *Report) write(dir string) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var plan strings.Builder
	for _, e := range r.soak.events {
		fmt.Fprintln(&plan, e)
	}
	var log string
	r.soak.ledger.with(func() { log = strings.Join(r.soak.ledger.log, "\n") + "\n" })
	for name, text := range map[string]string{"report": r.String(), "plan": plan.String(), "log": log} {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d.txt", name, r.soak.Seed)), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
