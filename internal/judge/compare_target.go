package judge

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"certlab/internal/cert"
	"certlab/internal/order"
)

// FindingIDOf is the id of a finding. It is made from what it is about, so that comparing again finds the same ones, and from a mark that tells
// failures apart which are not alike: another failure of the same job is another finding, which no waiver of the first one covers.
func FindingIDOf(campaign, target, class, job, mark string) string {
	const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	h := sha256.New()
	for _, part := range []string{campaign, target, class, job, mark} {
		fmt.Fprintf(h, "%d:%s;", len(part), part)
	}
	sum := h.Sum(nil)
	out := make([]byte, 27)
	out[0] = cert.FindingID
	for n := range 26 {
		out[n+1] = alphabet[sum[n]&31]
	}
	return string(out)
}

// tries finds what the tries themselves say, whatever became of their submissions.
func (w *work) tries() {
	w.kernelBoots()
	w.lostRuns()
	for n := range w.Attempts {
		if a := &w.Attempts[n]; a.Unreadable != "" && (w.counted == nil || !a.Try.Infra) {
			f := w.ofTry(cert.FindUnreadable, strconv.Itoa(a.Try.Number), &a.Try)
			f.Submission = a.Try.Submission
			f.Text = "its submission cannot be read: " + a.Unreadable
			w.add(f)
		}
	}
	if c := w.counted; c != nil && c.Proof.Needed && !c.Proof.OK {
		f := w.ofTry(cert.FindUnproved, c.Side.Submission, &c.Try)
		f.Submission = c.Side.Submission
		f.Text = "the results are not proved to be of the subject: " + c.Proof.Why
		w.add(f)
	}
}

// ofTry begins a finding about a try as a whole: each is a blocker, since of the subject nothing good is known.
func (w *work) ofTry(class, mark string, t *cert.Try) cert.Finding {
	f := w.finding(class, "", mark, nil, nil)
	f.Run, f.Submission, f.Suspect = t.Run, "", t.Suspect
	f.Machine, f.Hostname = w.Target.Machine, w.Target.Hostname
	if t.Machine != "" {
		f.Machine, f.Hostname = t.Machine, t.Hostname
	}
	f.Blocker, f.New, f.Attention = true, true, true
	return f
}

// kernelBoots finds that the subject does not boot: one finding, whose mark is how often.
func (w *work) kernelBoots() {
	var again []cert.Again
	var last *cert.Try
	for n := range w.Target.Tries {
		t := &w.Target.Tries[n]
		if t.Purpose == cert.TryConfirm || t.Failure == nil || t.Failure.Type != order.FailKernelBoot {
			continue
		}
		last = t
		again = append(again, cert.Again{Try: t.Number, Purpose: t.Purpose, Run: t.Run, Index: -1, Outcome: cert.FindKernelBoot})
	}
	if last == nil {
		return
	}
	f := w.ofTry(cert.FindKernelBoot, strconv.Itoa(len(again)), last)
	f.Outcome, f.Outcomes = cert.FindKernelBoot, again
	f.Text = "the subject does not come up: " + last.Failure.Message
	if len(again) > 1 {
		f.Text = fmt.Sprintf("the subject did not come up %d times: %s", len(again), last.Failure.Message)
	}
	w.add(f)
}

// lostRuns finds runs that ended with their machine, where that is held against the subject.
func (w *work) lostRuns() {
	var last *cert.Try
	times := 0
	for n := range w.Target.Tries {
		t := &w.Target.Tries[n]
		if t.Purpose != cert.TryConfirm && t.Failure != nil && t.Failure.Type == order.FailMachineLost && !t.Infra {
			last, times = t, times+1
		}
	}
	if last == nil {
		return
	}
	f := w.ofTry(cert.FindMachineLost, strconv.Itoa(times), last)
	f.Outcome = cert.OutcomeLost
	f.Text = "the machine was lost while the subject ran, and could not be got back: " + last.Failure.Message
	w.add(f)
}

// compared fills in what the comparison of the counted submission came to.
func (w *work) compared() {
	side := &w.counted.Side
	c := cert.Compared{Submission: side.Submission, At: w.Now, Version: Version, Proof: w.counted.Proof, Manifest: !side.NoManifest, Checkbox: side.Checkbox,
		Counts: map[string]int{}, Ran: w.ran}
	for _, test := range w.planned {
		if test {
			c.Planned++
		}
	}
	for job, test := range w.planned {
		if test && w.now[job] == nil && !slices.ContainsFunc(w.marks[job], func(m mark) bool { return !m.weak }) {
			c.Absent++
		}
	}
	if b := w.before; b != nil {
		c.Baseline = &cert.Compare{Run: b.Run, Submission: b.Submission, Machine: b.Machine, Version: b.Version, Kernel: b.Kernel, At: b.At, Plan: b.Plan}
		c.Changes = changes(b, side)
	}
	c.Counts[cert.ClassSame] = w.same
	for n := range w.out.Findings {
		if f := &w.out.Findings[n]; f.Class == cert.FindManifest {
			c.Counts[f.Class] += w.manifest.jobs
			c.Counts[cert.ClassSame] = max(0, w.same-w.manifest.jobs)
		} else {
			c.Counts[f.Class]++
		}
	}
	w.out.Compared = c
}

func (w *work) finish() {
	for n := range w.out.Findings {
		if w.out.Findings[n].Attention {
			w.out.Compared.Attention++
		}
	}
	slices.SortFunc(w.out.Findings, func(a, b cert.Finding) int {
		return cmp.Or(strings.Compare(a.Class, b.Class), strings.Compare(a.Job, b.Job), strings.Compare(a.ID, b.ID))
	})
}
