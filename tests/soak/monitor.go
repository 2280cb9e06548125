package soak

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"certlab/internal/cert"
	"certlab/tests/lab"
)

// A monitor looks at the lab while it is being tormented: what was over stays as it was, and nothing runs twice.
type monitor struct {
	soak  *Soak
	mu    sync.Mutex
	ended map[string]cert.Run      // runs that were final when they were last seen
	twice map[string]time.Time     // what was seen twice → since when
	peak  map[string]int64         // program → the most memory that one had, in bytes
	life  map[string][]memoryPoint // of each process: how its memory went
	looks int
}

type memoryPoint struct {
	at    time.Duration
	bytes int64
}

func newMonitor(s *Soak) *monitor {
	return &monitor{soak: s, ended: map[string]cert.Run{}, twice: map[string]time.Time{}, peak: map[string]int64{}, life: map[string][]memoryPoint{}}
}

func (m *monitor) watch(ctx context.Context) {
	for n := 0; wait(ctx, time.Now().Add(time.Second)); n++ {
		m.processes()
		if n%5 == 0 {
			m.runs(ctx)
		}
	}
}

// twicePatience is how long there may be two of a kind: one that finds a lock taken ends at once, but on a busy machine that takes a while.
const twicePatience = 30 * time.Second

func (m *monitor) processes() {
	ps, err := m.soak.lab.Processes()
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.looks++
	for machine := range ps.Machines {
		for _, role := range []lab.Role{lab.Certlabd, lab.Agent, lab.Pebble, lab.Keeper} {
			found := ps.Of(machine, role)
			name := fmt.Sprintf("%s on machine %s", role, machine)
			if len(found) < 2 {
				delete(m.twice, name)
			} else if since, ok := m.twice[name]; !ok {
				m.twice[name] = time.Now()
			} else if time.Since(since) > twicePatience {
				m.soak.violate("two at once", "", "%s runs %d times since %s: %v", name, len(found), since.Format(time.TimeOnly), found)
				m.twice[name] = time.Now()
			}
			for _, p := range found {
				m.peak[string(role)] = max(m.peak[string(role)], p.RSS)
				if role == lab.Certlabd || role == lab.Agent {
					key := fmt.Sprintf("%s, process %d", name, p.PID)
					m.life[key] = append(m.life[key], memoryPoint{m.soak.now(), p.RSS})
				}
			}
		}
		// Two Checkboxes of different runs would disturb each other. A wrapper or a fork of one has its run's launcher too.
		launchers := map[string]bool{}
		for _, p := range ps.Of(machine, lab.Checkbox) {
			if len(p.Args) > 2 && p.Args[2] == "launcher" || p.Environment("CERTLAB_RUN") != "" {
				launchers[p.Environment("CERTLAB_RUN")] = true
			}
		}
		name := "Checkbox of different runs on machine " + machine
		if len(launchers) < 2 {
			delete(m.twice, name)
		} else if since, ok := m.twice[name]; !ok {
			m.twice[name] = time.Now()
		} else if time.Since(since) > twicePatience {
			m.soak.violate("two at once", "", "%s: %v", name, launchers)
			m.twice[name] = time.Now()
		}
	}
}

// runs holds what the controller says of runs that are over to what it said before.
func (m *monitor) runs(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	runs, err := m.soak.api.Runs(ctx, nil, 0)
	if err != nil {
		return // it is away
	}
	m.remember(runs)
}

// over reports whether a run was final when it was last looked at.
func (m *monitor) over(run string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.ended[run]
	return ok
}

func (m *monitor) remember(runs []cert.Run) {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := map[string]bool{}
	for _, run := range runs {
		seen[run.ID] = true
		before, ok := m.ended[run.ID]
		if ok && (run.State != before.State || run.Submission != before.Submission || len(before.Counts) > 0 && !maps.Equal(before.Counts, run.Counts)) &&
			// A run that its agent had never spoken of was over as soon as it was cancelled. It may turn out to have been started.
			!(before.State == cert.Cancelled && len(before.Attempts) == 0) {
			m.soak.violate("not final", run.ID, "it was %s with submission %q and counts %v, and is now %s with %q and %v", before.State, before.Submission,
				before.Counts, run.State, run.Submission, run.Counts)
		}
		if run.State.Final() {
			m.ended[run.ID] = run
		}
	}
	for id, run := range m.ended {
		if !seen[id] {
			m.soak.violate("lost", id, "the run was %s and is not listed any more", run.State)
			delete(m.ended, id)
		}
	}
}

// Bounds of memory, in bytes, and of growth.
const (
	maxCertlabd = 256 << 20
	maxAgent    = 96 << 20
	longLife    = 5 * time.Minute
)

// judge looks at how memory went.
func (m *monitor) judge() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for role, bound := range map[lab.Role]int64{lab.Certlabd: maxCertlabd, lab.Agent: maxAgent} {
		if m.peak[string(role)] > bound {
			m.soak.violate("memory", "", "%s took %d MiB, more than %d", role, m.peak[string(role)]>>20, bound>>20)
		}
	}
	for name, points := range m.life {
		lived := points[len(points)-1].at - points[0].at
		if lived < longLife {
			continue
		}
		// The last third against the middle one: at first everything grows.
		third := len(points) / 3
		middle, last := highest(points[third:2*third]), highest(points[2*third:])
		m.soak.report.Memory = append(m.soak.report.Memory, fmt.Sprintf("%s lived %s: at most %d MiB in the middle third, %d MiB in the last",
			name, lived.Round(time.Second), middle>>20, last>>20))
		if last > middle+max(middle/4, 16<<20) {
			m.soak.violate("memory", "", "%s grows: from %d to %d MiB in the last third of %s", name, middle>>20, last>>20, lived.Round(time.Second))
		}
	}
}

func highest(points []memoryPoint) int64 {
	most := int64(0)
	for _, p := range points {
		most = max(most, p.bytes)
	}
	return most
}
