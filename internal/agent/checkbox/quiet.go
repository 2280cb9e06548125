package checkbox

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Which jobs make a machine keep silent, and for how long. A machine that sleeps or is off reports nothing, and that is no sign of trouble
// until it has lasted longer than the job can take. Who watches from outside is told before the job begins to sleep.

// bootTime is how long a machine may take from going down until its agent answers: servers with much memory take a quarter of an hour to
// check it, and as long again after a firmware's complaint.
const bootTime = 30 * time.Minute

// wakeTime is how long it may take from waking up until the network is back and the agent answers.
const wakeTime = 10 * time.Minute

// A quietJob is one line of the table: how long what matches may be silent. The first line that matches counts.
type quietJob struct {
	job       *regexp.Regexp // of the id without its namespace; its first group, if any, is the number of cycles
	base      time.Duration  // in any case
	cycle     []delay        // in addition, for each cycle
	namespace string         // of the job; empty: any
	exact     bool           // also of a noreturn job, for which bootTime is the least otherwise
}

// A delay is a time that a job waits for: what a variable of its environment says, in seconds, or else.
type delay struct {
	variable  string
	otherwise time.Duration
}

var (
	bootWakeup = delay{"STRESS_BOOT_WAKEUP_DELAY", 2 * time.Minute} // off, then woken by the clock
	bootWait   = delay{"STRESS_BOOT_WAIT_DELAY", 2 * time.Minute}
	s3Sleep    = delay{"STRESS_S3_SLEEP_DELAY", 30 * time.Second}
	s3Wait     = delay{"STRESS_S3_WAIT_DELAY", 45 * time.Second}
	s4Sleep    = delay{"STRESS_S4_SLEEP_DELAY", 2 * time.Minute}
	s4Wait     = delay{"STRESS_S4_WAIT_DELAY", 45 * time.Second}
)

// quietJobs is the table. Ids, delays and their variables are those of canonical/checkbox, providers/base/units (stress/boot.pxu,
// stress/s3s4.pxu, stress/suspend_cycles_reboot.pxu, suspend/suspend.pxu, power-management/jobs.pxu) in 2026; the jobs' estimates there
// are of machines that wake up at once. Delays count once where a job has no cycles.
var quietJobs = []quietJob{
	// Certlab's own, for trying what happens to a machine that does not wake up: nobody wants to wait for that.
	{job: regexp.MustCompile(`^suspend$`), namespace: "com.canonical.certlab", base: time.Minute, exact: true},
	// What looks at logs afterwards, or before, does not sleep.
	{job: regexp.MustCompile(`(?:[-_]check|[-_]attach|_before_suspend.*|_after_suspend.*|-test\d+)$`)},
	{job: regexp.MustCompile(`^(?:after|before)-suspend-`)},
	{job: regexp.MustCompile(`^cold-boot-loop-reboot\d+$`), base: bootTime, cycle: []delay{bootWakeup, bootWait}},
	{job: regexp.MustCompile(`^warm-boot-loop-reboot\d+$`), base: bootTime, cycle: []delay{bootWait}},
	{job: regexp.MustCompile(`^stress-tests/suspend_(\d+)_cycles$`), base: wakeTime, cycle: []delay{s3Sleep, s3Wait}},
	{job: regexp.MustCompile(`^stress-tests/hibernate_(\d+)_cycles$`), base: bootTime, cycle: []delay{s4Sleep, s4Wait, {"", 3 * time.Minute}}},
	{job: regexp.MustCompile(`^stress-tests/suspend_cycles_\d+_reboot\d+$`), base: wakeTime, cycle: []delay{s3Sleep, s3Wait}},
	{job: regexp.MustCompile(`^stress-tests/suspend_cycles_reboot\d+$`), base: bootTime},
	{job: regexp.MustCompile(`^power-management/(?:poweroff|reboot|(?:warm|cold)-reboot|shutdown|shutdown-boot)$`), base: bootTime, cycle: []delay{{"", 2 * time.Minute}}},
	{job: regexp.MustCompile(`^power-management/battery_drain_sleep$`), base: wakeTime, cycle: []delay{{"", 2 * time.Minute}}},
	{job: regexp.MustCompile(`(?:suspend|hybrid_sleep)`), base: wakeTime, cycle: []delay{s3Sleep, s3Wait}},
	{job: regexp.MustCompile(`hibernate`), base: bootTime, cycle: []delay{s4Sleep, s4Wait}},
	{job: regexp.MustCompile(`(?:rtcwake|wakeup|wake-on-lan|wol)`), base: wakeTime},
	{job: regexp.MustCompile(`(?:power-?off|cold-?boot|warm-?boot|reboot)`), base: bootTime},
}

// maxDelay bounds what is believed of a variable.
const maxDelay = 24 * time.Hour

// Quiet returns how long a machine may keep silent because of a job, from its start; 0: no longer than usual. getenv is the environment that
// the job is given.
func Quiet(j Job, getenv func(string) string) time.Duration {
	if j.Plugin == "resource" || j.Plugin == "attachment" {
		return 0
	}
	namespace, id, ok := strings.Cut(j.ID, "::")
	if !ok {
		namespace, id = "", j.ID
	}
	for _, line := range quietJobs {
		if line.namespace != "" && line.namespace != namespace {
			continue
		}
		m := line.job.FindStringSubmatch(id)
		if m == nil {
			continue
		}
		quiet, cycles := line.base, 1
		if len(m) > 1 {
			if n, err := strconv.Atoi(m[1]); err == nil && n > 0 && n <= 10_000 {
				cycles = n
			}
		}
		for _, d := range line.cycle {
			quiet += time.Duration(cycles) * d.in(getenv)
		}
		if j.NoReturn() && !line.exact {
			quiet = max(quiet, bootTime)
		}
		return quiet
	}
	if j.NoReturn() { // it ends Checkbox on purpose, which nothing but the machine going down does
		return bootTime
	}
	return 0
}

func (d delay) in(getenv func(string) string) time.Duration {
	if d.variable == "" {
		return d.otherwise
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(getenv(d.variable)), 10, 32)
	if err != nil || seconds < 0 {
		return d.otherwise
	}
	return min(time.Duration(seconds)*time.Second, maxDelay)
}
