package review

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// A tally counts over all results that a campaign counts. A submission is read once: what it adds stays while it counts.
type tally struct {
	mu      sync.Mutex
	counted map[int64]*part // by submission
	ran     map[string]int  // job → submissions in which it ran
	skips   map[string]*skipped
	used    int64 // when it was last asked for, as a number that goes up
}

// A part is what one submission adds.
type part struct {
	machine string
	ran     []string // jobs
	skips   []skip
}

type skip struct {
	reason, job string
	blocker     bool
}

type skipped struct {
	jobs     map[skip]int // in how many submissions
	machines map[string]int
}

const talliesKept = 16

// tallies are those of campaigns that were asked for last, and what jobs are called.
type tallies struct {
	mu    sync.Mutex
	all   map[string]*tally
	clock int64

	words map[int64]sqlite.JobWord
	last  int64
}

func (t *tallies) of(campaign string) *tally {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = make(map[string]*tally)
	}
	t.clock++
	one := t.all[campaign]
	if one == nil {
		if len(t.all) >= talliesKept {
			oldest := ""
			for id, other := range t.all {
				if oldest == "" || other.used < t.all[oldest].used {
					oldest = id
				}
			}
			delete(t.all, oldest)
		}
		one = &tally{}
		t.all[campaign] = one
	}
	one.used = t.clock
	return one
}

// word says what a job is called.
func (t *tallies) word(ctx context.Context, db *sqlite.DB, number int64) (sqlite.JobWord, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w, ok := t.words[number]; ok {
		return w, nil
	}
	more, err := db.JobWords(ctx, t.last)
	if err != nil {
		return sqlite.JobWord{}, err
	}
	if t.words == nil {
		t.words = make(map[int64]sqlite.JobWord, len(more))
	}
	for _, w := range more {
		t.words[w.Number] = w
		t.last = max(t.last, w.Number)
	}
	return t.words[number], nil
}

// tallyOf brings a campaign's tally up to what it counts now, and has fn read it.
func (r *Review) tallyOf(ctx context.Context, campaign string, fn func(*tally)) error {
	t := r.tallies.of(campaign)
	t.mu.Lock()
	defer t.mu.Unlock()
	now, err := r.DB.Counted(ctx, campaign)
	if err != nil {
		return err
	}
	have := make(map[int64]bool, len(now))
	for _, s := range now {
		have[s.Seq] = true
	}
	if t.counted == nil {
		t.counted, t.ran, t.skips = map[int64]*part{}, map[string]int{}, map[string]*skipped{}
	}
	for seq, p := range t.counted {
		if !have[seq] { // it counts no more
			t.add(p, -1)
			delete(t.counted, seq)
		}
	}
	for _, s := range now {
		if t.counted[s.Seq] != nil {
			continue
		}
		rows, err := r.DB.Outcomes(ctx, s.Seq)
		if err != nil {
			return err
		}
		p := &part{machine: s.Machine}
		for _, row := range rows {
			word, err := r.tallies.word(ctx, r.DB, row.Job)
			if err != nil {
				return err
			}
			p.take(&row, &word)
		}
		t.add(p, 1)
		t.counted[s.Seq] = p
	}
	fn(t)
	return nil
}

func (p *part) take(row *sqlite.OutcomeRow, word *sqlite.JobWord) {
	switch row.Outcome {
	case "pass", "fail", "crash":
		p.ran = append(p.ran, word.Job)
		return
	}
	if word.Section != cert.SectionResults {
		return
	}
	reason := strings.Join(strings.Fields(cmp.Or(row.Comments, row.Reason, row.Outcome)), " ")
	if len(reason) > 300 {
		reason = strings.ToValidUTF8(reason[:300], "") + "…"
	}
	p.skips = append(p.skips, skip{reason, word.Job, word.Status == "blocker"})
}

// add counts a part, or takes it back.
func (t *tally) add(p *part, n int) {
	for _, job := range p.ran {
		count(t.ran, job, n)
	}
	seen := make(map[string]bool)
	for _, s := range p.skips {
		one := t.skips[s.reason]
		if one == nil {
			one = &skipped{map[skip]int{}, map[string]int{}}
			t.skips[s.reason] = one
		}
		count(one.jobs, s, n)
		if !seen[s.reason] {
			seen[s.reason] = true
			count(one.machines, p.machine, n)
		}
		if len(one.jobs) == 0 {
			delete(t.skips, s.reason)
		}
	}
}

func count[K comparable](counts map[K]int, key K, n int) {
	if counts[key] += n; counts[key] <= 0 {
		delete(counts, key)
	}
}

const maxSkipReasons = 50

// skipCounts returns the reasons why jobs were skipped, the most frequent first.
func (t *tally) skipCounts() []cert.SkipCount {
	out := make([]cert.SkipCount, 0, len(t.skips))
	for reason, s := range t.skips {
		c := cert.SkipCount{Reason: reason, Jobs: len(s.jobs), Machines: len(s.machines)}
		for one := range s.jobs {
			if one.blocker {
				c.Blockers++
			}
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b cert.SkipCount) int {
		return cmp.Or(cmp.Compare(b.Jobs*b.Machines, a.Jobs*a.Machines), strings.Compare(a.Reason, b.Reason))
	})
	return out[:min(len(out), maxSkipReasons)]
}
