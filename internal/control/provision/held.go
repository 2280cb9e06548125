package provision

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// kernelHeldFor is how long what a machine holds of a run is waited for whose kernel did not boot again after jobs of the plan had run.
const kernelHeldFor = 24 * time.Hour

// A spent run is one of which what its machine holds is not waited for.
type spent struct{ run, why string }

// sift takes the runs out of names of which nothing is waited for: the controller has ended them, as their machine did not come up with the kernel
// that was selected, and nothing was heard of it since. What the console said is kept with the run; on the disk is what the subject was prepared
// with, unless jobs had run before: then it is waited for, within bounds, that somebody gets the machine to deliver.
func sift(names []string, heard, now time.Time, get func(id string) (cert.Run, error)) (left []string, over []spent, err error) {
	for _, id := range names {
		run, err := get(id)
		if cert.CodeOf(err) == cert.NotFound { // of the agent's own, not told of yet
			left = append(left, id)
			continue
		} else if err != nil {
			return nil, nil, err
		}
		if why := notWaitedFor(&run, heard, now); why != "" {
			over = append(over, spent{id, why})
		} else {
			left = append(left, id)
		}
	}
	return left, over, nil
}

// notWaitedFor says why nothing is waited for that a machine holds of a run; empty: it is waited for.
func notWaitedFor(run *cert.Run, heard, now time.Time) string {
	if !run.State.Final() || run.Failure == nil || run.Failure.Type != cert.FailKernelBoot || !run.Booting() || run.Finished == nil {
		return ""
	}
	if now.Sub(*run.Finished) >= kernelHeldFor && now.Sub(heard) >= kernelHeldFor {
		return fmt.Sprintf("what it holds of run %s and was not stored is lost: its kernel did not boot, and nothing was heard of it for %s", run.ID, kernelHeldFor)
	}
	tested := slices.ContainsFunc(run.Attempts, func(a cert.Attempt) bool {
		return a.Subject != nil && slices.ContainsFunc(a.Subject.Boots, func(b order.Boot) bool { return b.Tests })
	})
	if tested || heard.After(*run.Finished) {
		return ""
	}
	return fmt.Sprintf("nothing of run %s is waited for: its kernel did not boot, and no job of its plan had run", run.ID)
}

// heard is when the agent on the machine was heard last.
func (a *at) heard(said sqlite.AgentSaid) time.Time {
	heard := said.At
	if a.f.Heard != nil {
		if at := a.f.Heard(a.d.Machine); at.After(heard) {
			heard = at
		}
	}
	return heard
}

func runsText(names []string) string {
	if len(names) > 1 {
		return "runs " + strings.Join(names, ", ")
	}
	return "run " + names[0]
}
