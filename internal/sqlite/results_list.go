package sqlite

import (
	"context"
	"math"
	"strings"

	"certlab/internal/cert"
)

// Results lists results: those of the newest submission first, and within a submission in its order.
//
// It looks through submissions in windows, the newest first and each window larger than the one before, until the page is full: what is
// common is found in the first, and what is rare costs one index lookup per window and job. No query reads more of the results than an
// index says may match.
func (db *DB) Results(ctx context.Context, f ResultFilter, p Page) ([]cert.Result, string, error) {
	var seq, idx int64
	more, err := p.parse("x", &seq, &idx)
	if err != nil {
		return nil, "", err
	}
	s, err := db.search(ctx, f, more, seq)
	if err != nil {
		return nil, "", err
	}
	if more {
		s.where.add("(r.submission < ? OR r.idx > ?)", seq, idx)
	}
	rows := []resultRow{}
	for size := int64(firstWindow); s.left() && len(rows) <= p.Limit; size *= 8 {
		text, args := s.window(size, p.Limit+1-len(rows))
		found, err := list(ctx, db.r, scanResult, text, args...)
		if err != nil {
			return nil, "", err
		}
		rows = append(rows, found...)
	}
	next := ""
	if len(rows) > p.Limit {
		rows = rows[:p.Limit]
		next = cursor("x", rows[p.Limit-1].seq, int64(rows[p.Limit-1].Index))
	}
	out := make([]cert.Result, len(rows))
	for n, r := range rows {
		out[n] = r.Result
	}
	return out, next, nil
}

const (
	firstWindow = 8    // submissions
	fewChosen   = 1000 // submissions that are looked at one by one
	fewJobs     = 200  // jobs that are looked up one by one
)

// A search is a list of results under way.
type search struct {
	where  where   // conditions on r, and on j and s where they are joined
	tables string  // that the conditions need
	index  string  // that leads to the rows
	hi, lo int64   // submissions that have not been looked at yet
	chosen []int64 // those of them that are wanted, the newest first; nil: all
	few    bool    // chosen counts
}

// search finds out which submissions and jobs may have what the filter asks for, and which index leads there.
func (db *DB) search(ctx context.Context, f ResultFilter, more bool, before int64) (*search, error) {
	s := &search{hi: math.MaxInt64}
	if more {
		s.hi = before
	}
	if err := db.searchSubmissions(ctx, f, s); err != nil || !s.left() {
		return s, err
	}
	if f.Outcome != "" {
		s.where.add("r.outcome = ?", f.Outcome)
		if f.Outcome != "pass" {
			s.where.add("r.outcome <> 'pass'") // in the index's own words
			s.index = " INDEXED BY results_outcome"
		}
	}
	return s, db.searchJobs(ctx, f, s)
}

// searchSubmissions finds the range of submissions, and which of them, if they are few.
func (db *DB) searchSubmissions(ctx context.Context, f ResultFilter, s *search) error {
	type span struct{ lo, hi int64 }
	ends, err := one(ctx, db.r, func(r scanner) (v span, err error) { return v, r.Scan(&v.lo, &v.hi) }, nil,
		"SELECT coalesce((SELECT min(seq) FROM submissions), 1), coalesce((SELECT max(seq) FROM submissions), 0)")
	if err != nil {
		return err
	}
	s.lo, s.hi = ends.lo, min(s.hi, ends.hi)
	number := func(r scanner) (n int64, err error) { return n, r.Scan(&n) }
	if !f.Since.IsZero() {
		if s.lo, err = one(ctx, db.r, number, nil, "SELECT coalesce(min(seq), ?) FROM submissions INDEXED BY submissions_received WHERE received >= ?", s.hi+1, micros(f.Since)); err != nil {
			return err
		}
	}
	var w where
	w.narrowest(term{"s.id", f.Submission}, term{"s.run", f.Run}, term{"s.machine", f.Machine}, term{"s.plan", f.Plan})
	if !f.Since.IsZero() {
		s.where.add("s.received >= ?", micros(f.Since))
	}
	if len(w.text) > 0 {
		text := "SELECT s.seq FROM submissions s" + w.String() + " AND s.seq BETWEEN ? AND ? ORDER BY s.seq DESC LIMIT ?"
		if s.chosen, err = list(ctx, db.r, number, text, append(w.args[:len(w.args):len(w.args)], s.lo, s.hi, fewChosen+1)...); err != nil {
			return err
		}
		s.few = len(s.chosen) <= fewChosen
		if !s.few {
			s.where.add(strings.Join(w.text, " AND "), w.args...)
		}
	}
	if !f.Since.IsZero() || len(w.text) > 0 && !s.few {
		s.tables += " CROSS JOIN submissions s ON s.seq = r.submission"
	}
	return nil
}

// searchJobs finds the jobs, if they are few.
func (db *DB) searchJobs(ctx context.Context, f ResultFilter, s *search) error {
	var w where
	w.prefix("j.job", f.Job)
	w.equal("j.status", f.Status)
	if len(w.text) > 0 {
		w.equal("j.section", f.Section)
		jobs, err := list(ctx, db.r, func(r scanner) (n int64, err error) { return n, r.Scan(&n) }, "SELECT j.id FROM jobs j"+w.String()+" LIMIT ?",
			append(w.args[:len(w.args):len(w.args)], fewJobs+1)...)
		if err != nil {
			return err
		}
		if len(jobs) <= fewJobs {
			s.where.add("r.job IN (SELECT value FROM json_each(?))", mustJSON(jobs))
			s.index = " INDEXED BY results_job"
			if len(jobs) == 0 {
				s.lo = s.hi + 1
			}
			return nil
		}
	} else {
		w.equal("j.section", f.Section)
	}
	if len(w.text) > 0 {
		s.tables += " CROSS JOIN jobs j ON j.id = r.job"
		s.where.add(strings.Join(w.text, " AND "), w.args...)
	}
	return nil
}

// left reports whether there are submissions that have not been looked at.
func (s *search) left() bool {
	return s.hi >= s.lo && (!s.few || len(s.chosen) > 0)
}

// window returns the query for the next window of up to size submissions.
func (s *search) window(size int64, limit int) (string, []any) {
	var w where
	if s.few {
		n := min(int(size), len(s.chosen))
		w.add("r.submission IN (SELECT value FROM json_each(?))", mustJSON(s.chosen[:n]))
		s.chosen = s.chosen[n:]
	} else {
		lo := max(s.lo, s.hi-size+1)
		w.add("r.submission BETWEEN ? AND ?", lo, s.hi)
		s.hi = lo - 1
	}
	if len(s.where.text) > 0 {
		w.add(strings.Join(s.where.text, " AND "), s.where.args...)
	}
	// The rows of the page are chosen in an index first; only they are read whole.
	return "WITH page AS MATERIALIZED (SELECT r.submission AS submission, r.idx AS idx FROM results r" + s.index + s.tables + w.String() +
		" ORDER BY r.submission DESC, r.idx LIMIT ?) SELECT " + resultColumns + " FROM page p CROSS JOIN results r ON r.submission = p.submission AND r.idx = p.idx" +
		" CROSS JOIN submissions s ON s.seq = r.submission CROSS JOIN jobs j ON j.id = r.job ORDER BY r.submission DESC, r.idx", append(w.args, limit)
}
