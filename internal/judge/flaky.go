package judge

import (
	"fmt"

	"certlab/internal/cert"
)

// Past is what became of a job once, on something that nothing is held against, such as a released kernel.
type Past struct {
	Outcome string
	Lost    bool
	Doubt   string
}

// maxPast bounds how far back a rate goes.
const maxPast = 20

// Flaky says how often a job failed, of the newest first; nil if nothing is known. What was not run says nothing, and a pass that is doubted counts as
// a failure. machine says that all of it was on the machine itself.
func Flaky(past []Past, machine bool) *cert.FlakyRate {
	rate := cert.FlakyRate{Machine: machine}
	for _, p := range past {
		if rate.Of == maxPast {
			break
		}
		r := Result{Result: cert.Result{Outcome: p.Outcome, MachineLost: p.Lost}, Doubt: p.Doubt}
		switch standOf(&r) {
		case passed:
		case failed, lost, doubted:
			rate.Failed++
		default:
			continue
		}
		rate.Of++
	}
	if rate.Of == 0 {
		return nil
	}
	where := "on machines of this lab"
	if machine {
		where = "on this machine"
	}
	switch {
	case rate.Failed == 0 && rate.Of == 1:
		rate.Text = "did not fail the one time it ran " + where + " on released kernels"
	case rate.Failed == 0:
		rate.Text = fmt.Sprintf("did not fail in the last %d times %s on released kernels", rate.Of, where)
	case rate.Of == 1:
		rate.Text = "failed the one time it ran " + where + " on released kernels"
	default:
		rate.Text = fmt.Sprintf("failed %d of the last %d times %s on released kernels", rate.Failed, rate.Of, where)
	}
	return &rate
}
