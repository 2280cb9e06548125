package maastest

import "time"

// steps are what can happen to a machine by itself, by name.
func steps() map[string]func(*Region, *node) {
	return map[string]func(*Region, *node){
		"power-done": (*Region).powerDone, "power-failed": (*Region).powerFailed, "power-query": (*Region).powerQuery, "disk-boot": (*Region).diskBoot,
		"timeout":    (*Region).timeout,
		"deploy-pxe": (*Region).deployPXE, "deploy-install": (*Region).deployInstall, "deploy-configure": (*Region).deployConfigure,
		"deploy-fail": (*Region).deployFail, "deploy-reboot": (*Region).deployReboot, "deploy-boot": (*Region).deployBoot, "deploy-start": (*Region).deployStart,
		"released": (*Region).releasedStep, "aborted": (*Region).aborted,
		"erase-start": (*Region).eraseStart, "erase-fail": (*Region).eraseFail, "erase-done": (*Region).eraseDone,
		"test-start": (*Region).testStart, "test-done": (*Region).testDone,
		"commission-start": (*Region).commissionStart, "commission-done": (*Region).commissionDone,
		"rescue-boot": (*Region).rescueBoot, "rescue-in": (*Region).rescueIn, "rescue-out": (*Region).rescueOut,
	}
}

// releasedStep is what off means for a machine that is being released.
func (r *Region) releasedStep(n *node) {
	if n.Status == Releasing {
		r.released(n)
	}
}

// A pending step is something that will happen to a machine by itself. Steps are named, so that a saved region goes on where it was.
type pending struct {
	Step string
	At   time.Time
}

// after lets a step happen to a machine once d has passed.
func (r *Region) after(n *node, d time.Duration, step string) {
	p := &pending{Step: step, At: r.clock.Now().Add(d)}
	n.Pending = append(n.Pending, p)
	r.arm(n, p)
}

func (r *Region) arm(n *node, p *pending) {
	if r.closed {
		return
	}
	stop := r.clock.AfterFunc(max(0, p.At.Sub(r.clock.Now())), func() {
		defer r.tell()
		r.mu.Lock()
		defer r.mu.Unlock()
		if !n.forget(p) || r.nodes[n.SystemID] != n || r.closed {
			return
		}
		delete(r.timers[n], p)
		n.revision++
		r.steps[p.Step](r, n)
	})
	if r.timers[n] == nil {
		r.timers[n] = map[*pending]func() bool{}
	}
	r.timers[n][p] = stop
}

// interrupt forgets all that was to happen to a machine but the power action in progress, after which nothing comes.
func (r *Region) interrupt(n *node) {
	var others []string
	for _, p := range n.Pending {
		if p.Step != "power-done" && p.Step != "power-failed" {
			others = append(others, p.Step)
		}
	}
	if len(others) > 0 {
		r.cancel(n, others...)
	}
	n.Next = nil
	if n.Task != nil {
		n.Task.Then = ""
	}
}

// cancel forgets a machine's pending steps: those named, or all.
func (r *Region) cancel(n *node, steps ...string) {
	keep := n.Pending[:0:0]
	for _, p := range n.Pending {
		drop := len(steps) == 0
		for _, s := range steps {
			drop = drop || s == p.Step
		}
		if !drop {
			keep = append(keep, p)
			continue
		}
		if stop := r.timers[n][p]; stop != nil {
			stop()
			delete(r.timers[n], p)
		}
	}
	n.Pending = keep
}
