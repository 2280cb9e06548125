package judge

import (
	"strings"

	"certlab/internal/cert"
)

// stand is what an outcome means here. The order is how bad it is: of two records of one job on one side the worse counts, and on the baseline the
// better, so that neither hides a failure.
type stand int

const (
	passed  stand = iota
	doubted       // a pass that its log contradicts
	skipped
	unknown // nothing can be said: undecided, none, or a word that is not known; never a pass
	failed
	lost // the machine was lost in it
	absent
)

// stands is what Checkbox's outcomes mean (plainbox/abc.py).
var stands = map[string]stand{
	"pass": passed, "fail": failed, "crash": failed,
	"skip": skipped, "not-supported": skipped, "skipped-dependency": skipped, "skipped-resource": skipped, "skipped-manifest": skipped, "not-implemented": skipped,
}

func standOf(r *Result) stand {
	if r == nil {
		return absent
	}
	if r.MachineLost {
		return lost
	}
	s, ok := stands[r.Outcome]
	switch {
	case !ok:
		return unknown
	case s == passed && r.Doubt != "":
		return doubted
	}
	return s
}

// ran reports whether the job was run far enough to say something.
func (s stand) ran() bool { return s == passed || s == doubted || s == failed || s == lost }

func (s stand) pass() bool { return s == passed || s == doubted }

// gathers reports whether a job only gathers facts or attaches a file: it is no test, and counts only if it fails.
func gathers(section, plugin string) bool {
	return plugin == "resource" || plugin == "attachment" || section == cert.SectionResources || section == cert.SectionAttachments
}

func (r *Result) gathers() bool { return gathers(r.Section, r.Plugin) }

// key of a job: its full id.
func (r *Result) key() string {
	if r.ID == "" {
		return r.Name
	}
	return r.ID
}

// byJob indexes a side. Of two records of one job the worse is taken, or the better.
func byJob(side *Side, worse bool) map[string]*Result {
	if side == nil {
		return nil
	}
	jobs := make(map[string]*Result, len(side.Results))
	for n := range side.Results {
		r := &side.Results[n]
		have, ok := jobs[r.key()]
		if !ok || worse == (standOf(r) > standOf(have)) && standOf(r) != standOf(have) {
			jobs[r.key()] = r
		}
	}
	return jobs
}

// blocker reports whether a failure of a job keeps the subject from being approved: by the policy, else by what Checkbox says of the job. Submissions
// before Checkbox 4.1 do not say, and a job of which that is not known is a blocker.
func blocker(p *cert.Policy, job, status string) bool {
	for _, pattern := range p.Jobs.Blockers {
		if cert.MatchJob(pattern, job) {
			return true
		}
	}
	if p.Kind != cert.KindCertification {
		for _, pattern := range p.Jobs.NonBlockers {
			if cert.MatchJob(pattern, job) {
				return false
			}
		}
	}
	return status != "non-blocker" && status != "not-part-of-certification"
}

func required(p *cert.Policy, job string) bool {
	for _, pattern := range p.Jobs.Required {
		if cert.MatchJob(pattern, job) {
			return true
		}
	}
	return false
}

const maxReasonText = 500

// skipReason is why a job was skipped, in the submission's words.
func skipReason(r *Result) string {
	if r == nil {
		return ""
	}
	text := strings.Join(strings.Fields(r.Comments), " ")
	if text == "" && r.SkipReason != "null" {
		text = strings.Join(strings.Fields(r.SkipReason), " ")
	}
	if text == "" {
		text = r.Outcome
	}
	if len(text) > maxReasonText {
		text = strings.ToValidUTF8(text[:maxReasonText], "") + "…"
	}
	return text
}

// sameReason reports whether two skips are for the same reason. Checkbox has changed its outcomes for skips, and has a reason apart from the comment
// only since 2026: either will do.
func sameReason(a, b *Result) bool {
	return a.Comments == b.Comments || a.SkipReason == b.SkipReason && a.SkipReason != "" && a.SkipReason != "null"
}
