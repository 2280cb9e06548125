package campaign

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// What a failure says.
type meaning int

const (
	infrastructure meaning = iota // nothing about the subject; again, on an equal machine perhaps
	machineFault                  // the same, and the machine is perhaps to blame: another one is the better try
	kernelBoot                    // the subject does not boot
	lostInJob                     // the machine was lost while the subject ran: a finding
	permanent                     // it fails again however often it is tried
	byHand                        // a person has ended it
	waited                        // it has not begun, and is not waited for any more
)

// meanings of failures' types. What is not here is the infrastructure's.
var meanings = map[string]meaning{
	cert.FailDeploy: machineFault, cert.FailBoot: machineFault, cert.FailEnrol: machineFault, cert.FailPower: machineFault, cert.FailVanished: machineFault,
	cert.FailReleaseStuck: machineFault, cert.FailWrongSystem: machineFault, cert.FailNoMachine: machineFault, cert.FailAcquire: machineFault, cert.FailPrepare: machineFault,
	order.FailInterrupted: machineFault, order.FailMachineLost: machineFault, order.FailSpool: machineFault,
	order.FailKernelBoot: kernelBoot, order.FailPlanUnknown: permanent, order.FailInteractive: permanent, order.FailWrongPlan: permanent, failCancelled: byHand, failWaited: waited,
}

// failCancelled is a try's failure where a person has ended its run or its reservation.
const failCancelled = "cancelled"

// failWaited is a try's failure that was not begun in time.
const failWaited = "not-begun"

// meaningOf says what the failure of a try says; run is nil if there was none.
func meaningOf(f *cert.Failure, run *cert.Run) meaning {
	m := meanings[f.Type]
	if f.Type == order.FailMachineLost && run != nil && len(run.Attempts) > 0 {
		last := run.Attempts[len(run.Attempts)-1]
		inJob := func(l cert.LostJob) bool { return l.Job != "" }
		if slices.ContainsFunc(last.MachineLost, inJob) || last.Progress.CurrentJob != "" {
			return lostInJob
		}
	}
	return m
}

// Waits before a target is tried again.
const (
	firstWait = time.Minute
	mostWait  = 30 * time.Minute
)

// failed closes a try that has come to no results, and decides what follows.
func (e *Engine) failed(tx *sqlite.CampaignTx, row sqlite.TryRow, f *cert.Failure, run *cert.Run) error {
	c, err := tx.Campaign(row.Campaign)
	if err != nil {
		return err
	}
	what := meaningOf(f, run)
	text := ""
	err = e.end(tx, row, func(g *cert.Target, try *cert.Try) {
		try.State, try.Failure = cert.Failed, f
		if what == byHand {
			try.State = cert.Cancelled
		}
		try.Infra = what == infrastructure || what == machineFault || what == byHand || what == waited
		text = e.follows(c, g, *try, what)
	})
	if err != nil || text == "" {
		return err
	}
	if err := tx.Note(cert.CampaignEvent{Campaign: c.ID, At: e.Now(), Kind: "failed", Who: holder, Target: row.Target, Text: text}); err != nil {
		return err
	}
	if f.Type == order.FailWrongKernel {
		return e.holdBack(tx, c, f)
	}
	return nil
}

// follows decides what follows a try without results, and says so.
func (e *Engine) follows(c cert.Campaign, g *cert.Target, try cert.Try, what meaning) string {
	text := fmt.Sprintf("%s: run %s failed (%s): %s", try.Hostname, try.Run, try.Failure.Type, try.Failure.Message)
	since := sinceAsked(g.Tries)
	count := func(kind func(cert.Try) bool) int {
		n := 0
		for _, t := range since {
			if t.Failure != nil && kind(t) {
				n++
			}
		}
		return n
	}
	again := func(purpose, machine string, n int) {
		then := e.Now().Add(min(firstWait<<min(n-1, 10), mostWait))
		next := cert.Try{Purpose: purpose, Machine: machine, Jobs: try.Jobs, Finding: try.Finding, By: holder}
		if try.Finding != "" {
			next.Purpose = cert.TryConfirm
		}
		g.State, g.Next, g.Why, g.NotBefore = cert.TargetWaiting, &next, "again after: "+try.Failure.Message, &then
	}
	if c.State.Final() {
		e.giveUp(g, endText(c))
		return text
	}
	switch what {
	case kernelBoot:
		n := count(func(t cert.Try) bool { return t.Failure.Type == order.FailKernelBoot && t.Machine == try.Machine })
		if n <= c.Rules.Retries.KernelBoot {
			again(cert.TryKernel, try.Machine, n)
			return text + fmt.Sprintf("; once more on it (%d of %d)", n, c.Rules.Retries.KernelBoot)
		}
		missed(g, fmt.Sprintf("the subject did not boot %s: %s", times(n), try.Failure.Message))
		if g.State == cert.TargetMissing {
			g.State = cert.TargetBlocked
		}
		return text + "; it is not tried again"
	case permanent:
		missed(g, try.Failure.Message)
		return text + "; it would fail again"
	case waited:
		missed(g, try.Failure.Message)
		return text + "; it is not waited for any more"
	case byHand:
		missed(g, try.Failure.Message+fmt.Sprintf(" (certlab campaign retry %s --machine %s)", c.Name, g.Hostname))
		return text
	}
	n := count(func(t cert.Try) bool { return t.Infra || t.Failure.Type == order.FailMachineLost })
	if n <= c.Rules.Retries.Infrastructure {
		purpose, machine := cert.TryRetry, g.Machine
		if what == lostInJob { // what another machine does says nothing about this one
			purpose, machine = cert.TryKernel, try.Machine
		}
		again(purpose, machine, n)
		return text + fmt.Sprintf("; again (%d of %d)", n, c.Rules.Retries.Infrastructure)
	}
	missed(g, fmt.Sprintf("%s: %s (tried %s)", try.Failure.Type, try.Failure.Message, times(n)))
	return text + "; it is not tried again"
}

func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return fmt.Sprintf("%d times", n)
}

// sinceAsked are the tries since a person last asked for one, that one among them.
func sinceAsked(tries []cert.Try) []cert.Try {
	for n := len(tries) - 1; n >= 0; n-- {
		if tries[n].By != holder {
			return tries[n:]
		}
	}
	return tries
}

// failsOver reports whether the last failure of a target is one after which another machine is the better try. A machine to which a target has failed
// over is not to blame for what the first did.
func failsOver(g cert.Target) bool {
	n := len(g.Tries)
	if n == 0 || g.Tries[n-1].Failure == nil || g.Tries[n-1].Partial() || g.Tries[n-1].Finding != "" {
		return false
	}
	return meaningOf(g.Tries[n-1].Failure, nil) == machineFault
}

// sameOn is on how many machines a subject cannot be installed before no more are tried.
const sameOn = 3

// holdBack pauses a campaign whose subject cannot be installed on several machines, and was installed on none: a version that no archive has would
// otherwise be deployed for all over the lab.
func (e *Engine) holdBack(tx *sqlite.CampaignTx, c cert.Campaign, f *cert.Failure) error {
	if c.State != cert.CampaignActive {
		return nil
	}
	targets, err := tx.Targets(c.ID)
	if err != nil {
		return err
	}
	failed := map[string]bool{}
	for _, g := range targets {
		for _, t := range g.Tries {
			switch {
			case t.State == cert.Completed, t.Failure != nil && t.Failure.Type == order.FailKernelBoot:
				return nil // there it could be
			case t.Failure != nil && t.Failure.Type == order.FailWrongKernel && (c.Resumed == nil || t.Ended != nil && t.Ended.After(*c.Resumed)):
				failed[t.Hostname] = true
			}
		}
	}
	if len(failed) < sameOn {
		return nil
	}
	names := sortedKeys(failed)
	c.State = cert.CampaignPaused
	c.Ending = fmt.Sprintf("paused: %s could be installed on none of %s (%s): %s; nothing more is begun until a person resumes it (certlab campaign resume %s) or cancels it", c.Subject.Title(),
		plural(len(names), "machine"), strings.Join(names, ", "), f.Message, c.Name)
	if err := tx.PutCampaign(c); err != nil {
		return err
	}
	if err := holdQueued(tx, &c, true, e.Now()); err != nil {
		return err
	}
	return tx.Note(cert.CampaignEvent{Campaign: c.ID, At: e.Now(), Kind: "paused", Who: holder, Text: c.Ending})
}

// incidentTries is how many of the last tries of a target follow what the lab does again after an incident.
func incidentTries(tries []cert.Try) int {
	n := 0
	for _, t := range slices.Backward(tries) {
		if t.Purpose != cert.TryIncident {
			break
		}
		n++
	}
	return n
}
