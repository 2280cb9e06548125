package judge

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"certlab/internal/cert"
)

// reopened are the decisions that a later one takes back.
func reopened(decisions []cert.Decision) map[int64]bool {
	out := map[int64]bool{}
	for n := range decisions {
		if d := &decisions[n]; d.Action == cert.Reopen && d.Reopens > 0 {
			out[d.Reopens] = true
		}
	}
	return out
}

// inForce returns the last approval or rejection of each machine that was not taken back, and under "" that of the campaign as a whole.
func inForce(decisions []cert.Decision) map[string]*cert.Decision {
	back := reopened(decisions)
	out := map[string]*cert.Decision{}
	for n := range decisions {
		d := &decisions[n]
		if (d.Action == cert.Approve || d.Action == cert.Reject) && len(d.Findings) == 0 && !back[d.Seq] {
			if have := out[d.Machine]; have == nil || have.Seq < d.Seq {
				out[d.Machine] = d
			}
		}
	}
	return out
}

// Waivers returns which decision waives which finding, of the waivers that have not ended and were not taken back. A waiver without an end is none.
func Waivers(decisions []cert.Decision, now time.Time) map[string]int64 {
	back := reopened(decisions)
	out := map[string]int64{}
	for n := range decisions {
		d := &decisions[n]
		if d.Action != cert.Waive || d.Until == nil || !now.Before(*d.Until) || back[d.Seq] {
			continue
		}
		for _, id := range d.Findings {
			out[id] = max(out[id], d.Seq)
		}
	}
	return out
}

// Reopens returns the reopenings that are due: decisions on machines which what has come since contradicts. They have yet to be sealed.
func Reopens(f Facts) []cert.Decision {
	if f.Campaign.State.Final() {
		return nil
	}
	v := newView(&f)
	var out []cert.Decision
	for _, m := range v.machines {
		if m.decision == nil || m.has(needWait) && m.decision.Action == cert.Reject {
			continue
		}
		if why := v.contradiction(m); why != "" {
			out = append(out, cert.Decision{Campaign: f.Campaign.ID, Action: cert.Reopen, Machine: m.id, Reason: why, By: "certlab", At: f.Now, Before: standingOf(m.decision.Action),
				Reopens: m.decision.Seq, Basis: v.basis(m)})
		}
	}
	return out
}

// basis is what is known of a machine.
func (v *view) basis(m *machine) cert.Basis {
	b := cert.Basis{Version: v.Campaign.Version, Submissions: m.submissions(), Findings: ids(m.open)}
	b.Digest = basisDigest(b.Submissions, b.Findings)
	return b
}

// wholeBasis is what is known of the campaign.
func (v *view) wholeBasis() cert.Basis {
	var submissions []string
	var open []*cert.Finding
	for _, m := range v.machines {
		submissions = append(submissions, m.submissions()...)
		open = append(open, m.open...)
	}
	slices.Sort(submissions)
	b := cert.Basis{Version: v.Campaign.Version, Submissions: []string{strconv.Itoa(len(submissions))}, Findings: ids(open)}
	b.Digest = basisDigest(submissions, b.Findings)
	return b
}

func ids(findings []*cert.Finding) []string {
	var out []string
	for _, f := range findings {
		out = append(out, f.ID)
	}
	slices.Sort(out)
	return out
}

func basisDigest(submissions, findings []string) string {
	return digest([2][]string{submissions, findings})
}

// waivedLonger reports whether a finding is waived already at least until a time.
func (v *view) waivedLonger(id string, until time.Time) bool {
	seq := v.waived[id]
	at := slices.IndexFunc(v.Decisions, func(d cert.Decision) bool { return d.Seq == seq })
	return seq != 0 && at >= 0 && !v.Decisions[at].Until.Before(until)
}

// name of a machine, for people.
func (m *machine) name() string { return cmp.Or(m.hostname, m.id) }
