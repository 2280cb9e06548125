package review

import (
	"sync"

	"certlab/internal/order"
)

// plans are the files that say which jobs a plan has, by their hash: machines that are alike have the same.
type plans struct {
	mu  sync.Mutex
	all map[string][]order.PlannedJob
}

const (
	plansKept = 64
	planJobs  = 5000 // of one that is kept
)

func (p *plans) of(sha string) ([]order.PlannedJob, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	jobs, ok := p.all[sha]
	return jobs, ok
}

// keep remembers a file. Those who get it share it: it is not to be changed.
func (p *plans) keep(sha string, jobs []order.PlannedJob) {
	if len(jobs) > planJobs {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil || len(p.all) >= plansKept {
		p.all = make(map[string][]order.PlannedJob)
	}
	p.all[sha] = jobs
}
