package judge

import (
	"slices"
	"strings"

	"certlab/internal/cert"
)

// DoubtsVersion is the version of the rules that doubt passes, and of what is kept of logs; it goes up whenever a rule, a signature or an excerpt
// comes out differently.
const DoubtsVersion = 1

// A DoubtRule says by which line of its log a job's pass is doubted.
type DoubtRule struct {
	ID          string
	Explanation string
	Quoted      bool     // such a line is no surprise in the log of a job that quotes the machine's, which is of any time
	Any         []string // the line has one of these in it, as written
	All         []string // and all of these, whatever their case
	Not         []string // and none of these, whatever their case
}

// quoting are patterns of jobs that look for such lines, or quote a machine's log of any time: what is in theirs is not of the job itself.
var quoting = []string{"*::*dmesg*", "*journal*", "*::*kernel_log*", "*::*syslog*", "*_attachment", "*::info/*", "*::*/detect_kernel_errors*"}

// quotes reports whether a job quotes the machine's log.
func quotes(job string) bool {
	for _, pattern := range quoting {
		if cert.MatchJob(pattern, job) {
			return true
		}
	}
	return false
}

// doubts and ownDoubts are the rules for a job, and for one that quotes the machine's log. They are never changed.
var (
	doubts    = Doubts()
	ownDoubts = slices.DeleteFunc(Doubts(), func(d DoubtRule) bool { return d.Quoted })
)

// Doubts returns the rules, in the order in which they are asked. They are ours to begin with: a pass with such a line in its log is a finding, and a
// person says what it means. Each line of the whole log is looked at.
func Doubts() []DoubtRule {
	return []DoubtRule{
		{ID: "kernel-oops", Explanation: "the kernel has oopsed", Quoted: true,
			Any: []string{"Oops:", "kernel BUG at ", "BUG: unable to handle", "BUG: kernel NULL pointer", "Unable to handle kernel ", "general protection fault, ", "Kernel panic - not syncing"}},
		{ID: "kernel-bug", Explanation: "the kernel reports a bug in itself", Quoted: true,
			Any: []string{"BUG: soft lockup", "BUG: workqueue lockup", "BUG: scheduling while atomic", "BUG: Bad page", "BUG: KASAN", "BUG: sleeping function", "BUG: stack guard page", "watchdog: BUG:", "NMI watchdog: Watchdog detected hard LOCKUP"}},
		{ID: "call-trace", Explanation: "the kernel has printed a call trace", Quoted: true,
			Any: []string{"Call Trace:", "Call trace:", "------------[ cut here ]------------"}},
		{ID: "hung-task", Explanation: "the kernel found a task that hangs", Quoted: true,
			Any: []string{"blocked for more than "}, All: []string{"task", "seconds"}},
		{ID: "rcu-stall", Explanation: "a processor of the machine was stalled", Quoted: true,
			Any: []string{"rcu: INFO: rcu_", "rcu_sched self-detected stall", "rcu_preempt self-detected stall", "detected stalls on CPUs"}},
		{ID: "hardware-error", Explanation: "the machine reports a hardware error", Quoted: true,
			Any: []string{"[Hardware Error]:", "mce: [Hardware Error]", "Machine check events logged", "PCIe Bus Error: severity=Uncorrected"}},
		{ID: "memory-error", Explanation: "the machine reports errors of its memory", Quoted: true, Any: []string{" CE ", " UE "}, All: []string{"edac mc"}},
		{ID: "suspend-failed", Explanation: "the machine did not suspend, or not all of it",
			Any: []string{"PM: Some devices failed to suspend", "suspend failed", "Suspend failed", "SUSPEND FAILED", "Suspend test failed", "Failed to suspend system", "PM: Wakeup pending, aborting suspend", "failed to suspend: error"},
			Not: []string{"0 suspend failed", "suspend failed: 0", "no suspend failed", "suspend failed to be", "failed to resume: 0", "failed to suspend: 0"}},
		{ID: "filesystem-error", Explanation: "a file system has reported an error", Quoted: true,
			Any: []string{"EXT4-fs error (device", "Metadata I/O Error", "Metadata corruption detected", "BTRFS error (device", "BTRFS critical (device", "Remounting filesystem read-only", "Buffer I/O error on dev"}},
		{ID: "python-traceback", Explanation: "the test's own program has died of an exception and its result does not say so",
			Any: []string{"Traceback (most recent call last):"}},
		{ID: "test-segfault", Explanation: "a program of the test has crashed",
			Any: []string{"Segmentation fault (core dumped)", "Segmentation fault      ", "double free or corruption", "*** stack smashing detected ***"}},
	}
}

func explainDoubt(id string) string {
	for _, rule := range doubts {
		if rule.ID == id {
			return rule.Explanation
		}
	}
	return "rule " + id
}

// fits reports whether a line makes the rule doubt the pass.
func (d *DoubtRule) fits(line string) bool {
	for _, text := range d.Any {
		if strings.Contains(line, text) {
			return d.confirm(strings.ToLower(line))
		}
	}
	return false
}

func (d *DoubtRule) confirm(lower string) bool {
	for _, text := range d.All {
		if !strings.Contains(lower, text) {
			return false
		}
	}
	for _, text := range d.Not {
		if strings.Contains(lower, text) {
			return false
		}
	}
	return true
}
