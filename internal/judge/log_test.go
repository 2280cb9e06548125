package judge_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/judge"
	"certlab/internal/results"
)

func TestOutcomesMeanWhatTheReaderSays(t *testing.T) {
	t.Parallel()
	words := map[results.Class][]string{results.Passed: {"pass"}, results.Failed: {"fail"}, results.Skipped: {"skip"}, results.Unknown: {"unknown"}}
	for _, o := range []results.Outcome{results.Pass, results.Fail, results.Crash, results.SkipOutcome, results.NotSupported, results.SkippedDependency, results.SkippedResource,
		results.SkippedManifest, results.NotImplemented, results.Undecided, results.None, "PASS", "passed", ""} {
		r := judge.Result{}
		r.Outcome = string(o)
		require.Contains(t, words[o.Class()], refWord(r), "%q", o)
		require.Equal(t, map[string]string{"pass": "passed", "fail": "failed", "skip": "skipped", "unknown": "unknown"}[refWord(r)], judge.Meaning(r), "%q", o)
	}
}

func doubt(job, log string) string {
	w := judge.NewLogWatch(job)
	for _, piece := range strings.SplitAfter(log, "a") { // in pieces, as it is read
		w.Write([]byte(piece))
	}
	return w.Doubt()
}

func TestPassesThatTheirLogContradicts(t *testing.T) {
	t.Parallel()
	const job = "com.canonical.certification::suspend/suspend_advanced_auto"
	for log, want := range map[string]string{
		"[  14.1] PM: Some devices failed to suspend, or early wake event detected": "suspend-failed",
		"nvme 0000:01:00.0: PM: failed to suspend: error -16":                       "suspend-failed",
		"[ 1.0] BUG: unable to handle page fault for address: ffff":                 "kernel-oops",
		"[ 1.0] Internal error: Oops: 0000000096000004 [#1] SMP":                    "kernel-oops",
		"[ 1.0] Call Trace:":                                                     "call-trace",
		"[ 1.0] ------------[ cut here ]------------":                            "call-trace",
		"[ 1.0] INFO: task kworker/u8:1:99 blocked for more than 120 seconds.":   "hung-task",
		"[ 1.0] watchdog: BUG: soft lockup - CPU#1 stuck for 22s!":               "kernel-bug",
		"[ 1.0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:":           "rcu-stall",
		"[ 1.0] mce: [Hardware Error]: Machine check: Processor context corrupt": "hardware-error",
		"[ 1.0] EDAC MC0: 1 CE memory read error on CPU_SrcID#0":                 "memory-error",
		"[ 1.0] EXT4-fs error (device sda2): ext4_lookup:1855":                   "filesystem-error",
		"Traceback (most recent call last):":                                     "python-traceback",
		"./run: line 3: 12345 Segmentation fault (core dumped) ./x":              "test-segfault",
	} {
		require.Equal(t, want, doubt(job, "all is fine\n"+log+"\nPASS\n"), log)
		require.Equal(t, want, doubt(job, log), "without a newline at its end")
		require.Equal(t, want, doubt(job, strings.Repeat("a line of a long log\n", 1_000)+log+strings.Repeat("\nand more", 1_000)), "wherever it is")
		require.Equal(t, want, doubt(job, strings.Repeat("x", 8<<10-20)+log), "on a line however long")
	}
}

// Lines such as passing jobs print, written for this test.
func TestOrdinaryPassesAreNotDoubted(t *testing.T) {
	t.Parallel()
	for _, log := range []string{
		"", "\n\n", "PASS\n",
		"[ 0.5] EDAC MC: Ver: 3.0.0\n[ 3.2] EDAC MC0: Giving out device to module skx_edac\n",
		"[ 8.1] EXT4-fs (sda2): mounted filesystem with ordered data mode\n[ 9.1] XFS (sda3): Mounting V5 Filesystem\n",
		"Suspend test: 30 cycles, 0 suspend failed, 0 resume failed\nPM: suspend entry (deep)\nPM: suspend exit\n",
		"Total suspend failures: 0\n",
		"Some failures: none\nno errors found\n", "gpu: 0 CE, 0 UE errors\n",
		"[ 0.0] BUG reports go to launchpad\nDEBUG: starting\n", "debug: call trace is off\n",
		"stress-ng: info:  [1234] successful run completed in 60.02s\nstress-ng: info: passed: 8: cpu (8)\n",
	} {
		require.Empty(t, doubt("com.canonical.certification::cpu/stress", log), log)
	}
	require.Empty(t, doubt("com.canonical.certification::miscellanea/dmesg_attachment", "[ 1.0] Call Trace:\n"), "it quotes the machine's whole log")
}

func TestEachRuleSaysWhatItIsAbout(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, rule := range judge.Doubts() {
		require.NotEmpty(t, rule.Explanation)
		require.False(t, seen[rule.ID], rule.ID)
		seen[rule.ID] = true
		require.NotEmpty(t, rule.Any, "a rule without texts doubts nothing")
	}
}

func TestLogsThatAreAlikeHaveOneSignature(t *testing.T) {
	t.Parallel()
	log := func(n int) string {
		return fmt.Sprintf(`2026-11-%02dT10:%02d:%02d.%06dZ starting pid %d
/tmp/nest-%x/bin/test.py: line %d
[ %d.%06d] e1000e 0000:00:1f.6 enp%ds31: error: link of 10.0.%d.1 did not come up within %d.%d s
request 0x%x of %08x-1234-4abc-8def-0123456789ab from 52:54:00:%02x:aa:bb failed on 6.8.0-%d-generic
`, n%28+1, n%60, n%60, n*37, 1000+n, n*7919, n, n, n*13, n%9, n%250, n%30, n%10, n*31, n*977, n%250, n)
	}
	first := judge.Signature(log(1))
	require.Len(t, first, 16)
	for n := range 300 {
		require.Equal(t, first, judge.Signature(log(n+1)), log(n+1))
	}
	require.NotEqual(t, first, judge.Signature(strings.ReplaceAll(log(1), "did not come up", "went down")))
	require.NotEqual(t, judge.Signature("cannot open disk"), judge.Signature("cannot open display"))
	require.NotEqual(t, judge.Signature("bad"), judge.Signature("worse"), "also where no line says that something went wrong")
	require.Empty(t, judge.Signature(" \n\t\n"))
}

func TestExcerptHasWhatMattersOfALogOfAnySize(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("the first line\n")
	for n := range 200_000 {
		fmt.Fprintf(&b, "line %d of many with some words in it\n", n)
		if n == 100_000 {
			b.WriteString("fio: error: I/O on sda went wrong\n")
		}
	}
	b.WriteString(strings.Repeat("é", 100_000) + "\nthe last line")
	x := judge.Excerpt(b.String())
	require.LessOrEqual(t, len(x), 4<<10)
	for _, want := range []string{"the first line", "line 100000 of many", "fio: error: I/O on sda went wrong", "line 100001 of many", "the last line", "lines …]"} {
		require.Contains(t, x, want)
	}
	require.Equal(t, "a\nb\n", judge.Excerpt("a\n\nb"))
	many := judge.Excerpt(strings.Repeat("error: this and that and some more of it\n", 10_000) + "the end\n")
	require.LessOrEqual(t, len(many), 4<<10)
	require.Contains(t, many, "the end")
}
