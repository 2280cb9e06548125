package judgetest

import (
	"fmt"
	"time"

	"certlab/internal/cert"
	"certlab/internal/judge"
)

// side is a submission. What a job does is the same each time, but for the baseline and what is planted.
func (m *machine) side(submission, kernel, version string, baseline, partial bool) judge.Side {
	s := judge.Side{Run: "r" + submission, Submission: submission, Machine: m.id(), Plan: plan, Kernel: kernel, Version: version, At: start(), Checkbox: "7.3.0",
		Firmware: "1.2.3", Cmdline: "BOOT_IMAGE=/boot/vmlinuz-" + kernel + " ro", Memory: 16 << 30, Manifest: map[string]string{"a::has_wifi": "true"}}
	if baseline {
		s.At = start().Add(-30 * 24 * time.Hour)
	}
	if m.fault == NoManifest && !baseline {
		s.Manifest, s.NoManifest = nil, true
	}
	for n := range m.jobs {
		if partial && n != m.victim {
			continue
		}
		r := m.result(n, baseline)
		if r.Outcome == "" {
			continue
		}
		r.Submission, r.Index, r.Machine = submission, len(s.Results), m.id()
		s.Results = append(s.Results, r)
	}
	return s
}

func (m *machine) result(n int, baseline bool) judge.Result {
	r := judge.Result{Result: cert.Result{Section: cert.SectionResults, ID: m.job(n), Name: m.job(n), Outcome: "pass", CertificationStatus: "blocker", Plugin: "shell"}}
	took := m.r.IntN(100_000)
	text := fmt.Sprintf("%s starting pid %d\nread 0x%x in %d.%03d s\nok, no errors, 0 failed\n", start().Add(time.Duration(took)*time.Second).Format(time.RFC3339), 1000+took, took, took%60, took%1000)
	switch kind := (n*7 + m.number) % 23; {
	case n == m.victim && m.fault == SecondFailure:
		r.Outcome, r.CertificationStatus = "fail", "non-blocker"
		text = fmt.Sprintf("pid %d: error: no wake-up alarm\n", took)
		if !baseline {
			text = fmt.Sprintf("pid %d: error: the network did not come back\n", took)
		}
	case n%6 == 0: // a suspend
		text = fmt.Sprintf("[ %d.%06d] PM: suspend entry (deep)\nPM: suspend exit\nTotal suspend failures: 0\n", took%10_000, took)
	case kind == 3: // known not to work
		r.Outcome, r.CertificationStatus = "fail", "non-blocker"
		text = fmt.Sprintf("pid %d: /tmp/tmp%x/out: error: cannot read at 0x%x after %d ms\n", took, took, took*3, took%977)
	case kind == 5:
		r.Outcome, r.Comments = "not-supported", `resource expression "device.category == 'WIFI'" evaluates to false`
		text = ""
	case kind == 9 && baseline: // fixed
		r.Outcome = "fail"
	}
	m.log(&r, text)
	if n == m.victim && !baseline {
		m.spoil(&r)
	}
	return r
}

// spoil plants what is wrong with a job's own record.
func (m *machine) spoil(r *judge.Result) {
	switch m.fault {
	case FalseWake:
		m.log(r, "[   12.5] PM: suspend entry (deep)\n[   14.1] PM: Some devices failed to suspend, or early wake event detected\n[   15.0] PM: suspend exit\n")
	case FalsePass:
		texts := []string{"[  100.1] BUG: kernel NULL pointer dereference, address: 0000000000000008\n", "[  100.1] Call Trace:\n[  100.1]  <TASK>\n",
			"[  242.1] INFO: task fio:1234 blocked for more than 122 seconds.\n", "[ 10.0] watchdog: BUG: soft lockup - CPU#3 stuck for 26s! [fio:77]\n",
			"Traceback (most recent call last):\n  File \"x.py\", line 3\nOSError: [Errno 5]\n"}
		m.log(r, "starting\n"+texts[m.r.IntN(len(texts))]+"done\n")
	case MissingJob:
		switch m.r.IntN(4) {
		case 0:
			r.Outcome = ""
		case 1:
			r.Outcome, r.Comments = "skip", "job manually skipped"
		case 2:
			r.Outcome = "undecided"
		case 3:
			r.Outcome, r.Comments = "not-supported", "required dependency has failed"
		}
	case NoManifest:
		r.Outcome, r.NoManifest = "skipped-manifest", true
	}
}

// log says what a job has printed, as the index of the lab takes it in.
func (m *machine) log(r *judge.Result, text string) {
	w := judge.NewLogWatch(r.ID)
	w.Write([]byte(text))
	r.LogSize, r.Signature, r.Doubt = int64(len(text)), "", ""
	switch r.Outcome {
	case "fail", "crash":
		r.Signature = w.Signature()
	case "pass":
		r.Doubt = w.Doubt()
	}
}
