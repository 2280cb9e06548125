package fleet

import (
	"encoding/json"
	"time"

	"certlab/internal/order"
)

// A Script says what a run on a machine comes to.
type Script func(systemID string, o order.Order) Work

// Work is what a machine makes of an order.
type Work struct {
	Results []Result
	Kernel  string         // that runs; empty: the order's subject's
	Failure *order.Failure // there is no submission
	Step    string         // how far it came with the subject; empty: it is proved
}

// Result is one job of a submission.
type Result struct {
	ID      string  `json:"full_id"`
	Name    string  `json:"name"`
	Outcome string  `json:"outcome"`
	Status  string  `json:"certification_status"`
	Plugin  string  `json:"plugin"`
	Log     string  `json:"io_log"`
	Seconds float64 `json:"duration"`
}

// plain is the script of a lab that is not about results.
func plain(string, order.Order) Work {
	return Work{Results: []Result{{ID: "com.example::one", Name: "One", Outcome: "pass"}, {ID: "com.example::two", Name: "Two", Outcome: "fail"}}}
}

func (w Work) kernel(o order.Order) string {
	if w.Kernel == "" && o.Subject != nil {
		return o.Subject.KernelRelease
	}
	return w.Kernel
}

// archive is the submission of a run: no other run has the same.
func (w Work) archive(o order.Order) []byte {
	text, _ := json.Marshal(struct { // of our own types: cannot fail
		Title   string   `json:"title"`
		Plan    string   `json:"testplan_id"`
		Kernel  string   `json:"kernel,omitempty"`
		Results []Result `json:"results"`
	}{o.Run, o.Plan, w.kernel(o), w.Results})
	return text
}

// jobs is what the plan has on the machine.
func (w Work) jobs() []byte {
	planned := make([]order.PlannedJob, len(w.Results))
	for n, r := range w.Results {
		planned[n] = order.PlannedJob{ID: r.ID, Plugin: r.Plugin}
	}
	text, _ := json.Marshal(planned)
	return text
}

func (w Work) counts() order.Counts {
	counts := order.Counts{}
	for _, r := range w.Results {
		counts[r.Outcome]++
	}
	return counts
}

// state is what the agent says of the order's subject.
func (w Work) state(o order.Order, bootID string, at time.Time) *order.SubjectState {
	if o.Subject == nil {
		return nil
	}
	s := &order.SubjectState{Step: order.SubjectProved, Before: "6.8.0-1-generic",
		Installed: []order.Package{{Name: "linux-image-" + o.Subject.KernelRelease, Version: o.Subject.Version}},
		Boots: []order.Boot{{ID: bootID + "-before", Kernel: "6.8.0-1-generic", At: at},
			{ID: bootID, Kernel: w.kernel(o), Version: o.Subject.Version, At: at, Proved: w.kernel(o) == o.Subject.KernelRelease, Tests: true, Verified: at}}}
	if w.Step != "" {
		s.Step, s.Boots = w.Step, s.Boots[:1]
	}
	return s
}
