package control

import (
	"io"

	"certlab/internal/cert"
	"certlab/internal/judge"
	"certlab/internal/results"
)

// maxExcerpts bounds the excerpts of one submission that are held while it is read, in bytes. What does not fit is told by its signature only.
const maxExcerpts = 16 << 20

// logWatches look at the logs of a submission while it is read. A log comes before it is certain what became of its job: what it came to is kept
// until the record is whole.
type logWatches struct {
	job  string
	open *judge.LogWatch
	held int
	seen map[string][]watched // by job, in the order of the file
}

type watched struct{ excerpt, signature, doubt string }

// watch is results.Options.Log.
func (w *logWatches) watch(_ int, job string) io.Writer {
	w.close()
	w.job, w.open = job, judge.NewLogWatch(job)
	return w.open
}

// close keeps what the last log came to.
func (w *logWatches) close() {
	if w.open == nil {
		return
	}
	one := watched{excerpt: w.open.Excerpt(), signature: w.open.Signature(), doubt: w.open.Doubt()}
	if w.held+len(one.excerpt) > maxExcerpts {
		one.excerpt = ""
	}
	w.held += len(one.excerpt)
	if w.seen == nil {
		w.seen = make(map[string][]watched)
	}
	w.seen[w.job] = append(w.seen[w.job], one)
	w.open = nil
}

// take returns what the next log of a job came to.
func (w *logWatches) take(job string) watched {
	all := w.seen[job]
	if len(all) == 0 {
		return watched{}
	}
	w.seen[job] = all[1:]
	return all[0]
}

// failureOf returns what is kept of a result's log; nil: nothing, since nobody will ask for it.
func failureOf(index int, section results.Section, res *results.Result, log watched) *cert.IndexedFailure {
	f := cert.IndexedFailure{Index: index, Outcome: string(res.Outcome), Signature: log.signature, Excerpt: log.excerpt}
	switch res.Outcome.Class() {
	case results.Skipped:
		return nil
	case results.Passed:
		if log.doubt == "" || section != results.Tests {
			return nil
		}
		f.Outcome, f.Doubt = cert.FindFalsePass, log.doubt
	}
	return &f
}
