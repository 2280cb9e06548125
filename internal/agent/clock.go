package agent

import (
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Clocks. The wall clock of a machine under test may be wrong by years and may jump when it is set: what it says is told to people and
// never decides anything but how long copies of delivered files are kept. Deadlines and watchdogs go by the clocks that only count: Go's
// monotonic one within a process, and uptime between processes of one boot.

// now is what the machine's clock says, for people.
func (a *Agent) now() time.Time { return a.opts.Now().UTC() }

// uptime is how long the running boot has lasted. Setting the clock does not change it.
func uptime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// spent is the time that the attempt has taken so far: what the keepers measured, and what lay between them within a boot. How long the
// machine was down is not counted: no clock that could be trusted has run meanwhile.
func (t *attempt) spent(rec record) time.Duration {
	a := t.agent
	var sum time.Duration
	boot, at := "", time.Duration(0) // when the last start ended
	for n := 1; n <= rec.Start; n++ {
		dir := a.startDir(&rec, n)
		var k kept
		var e exited
		if readJSON(filepath.Join(dir, keepFile), &k) != nil {
			continue
		}
		began := time.Duration(k.Uptime) * time.Millisecond
		if k.BootID == boot {
			sum += max(0, began-at)
		}
		elapsed := time.Duration(k.Elapsed) * time.Millisecond
		if readJSON(filepath.Join(dir, exitFile), &e) == nil {
			elapsed = time.Duration(e.Elapsed) * time.Millisecond
		}
		sum += elapsed
		boot, at = k.BootID, began+elapsed
		if k.Uptime == 0 {
			boot = "" // a keeper of an older release, which did not say
		}
	}
	switch boot {
	case "":
	case a.bootID:
		sum += max(0, uptime()-at)
	default:
		sum += time.Since(a.began)
	}
	return sum
}
