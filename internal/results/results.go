// Package results reads what Checkbox wrote about a run: the submission archive (.tar.xz), the submission.json inside it, and
// JUnit XML, of Checkbox and of other tools.
//
// # Reading
//
// Read takes any of the three and tells them apart by their first bytes. It is one pass over the input: outcomes, comments and
// the machine's description are kept, logs, attachments and large collector payloads are counted and handed to the writers in
// Options, and never held as a whole. Memory is bounded by Limits.Held, whatever the size of the input. CopyLog, CopyMember and
// CopyValue stream a single thing out of a submission afterwards.
//
// Submissions come from machines that nobody has to trust. Every bound is in Limits; every refusal is an *Error that names its
// kind, the archive member, the limit or the place. Strings that are held are valid UTF-8 without NUL: what was not becomes
// U+FFFD.
//
// # What a submission looks like
//
// submission.json is printed by a template with HTML escaping on, so that some fields arrive escaped (names, ids, categories,
// package names and versions, processor, distribution, kernel) and the others do not. The reader unescapes exactly those.
// Checkbox moved resource jobs among the results in 2026; before that they had a list of their own. Submission.Results is
// what the file has in its results, so that counts are those of the file; Submission.Resources has the resource jobs of every
// version: those of the list of their own, or else those among the results, which are then in both. Records yields each job once.
// The layout and its history are described in Checkbox's source
// (plainbox/impl/exporter/tar.py, plainbox/impl/providers/exporters/data/checkbox.json); the tests read archives that Checkbox
// 2.9.1, 5.0.0, 7.3.0 and a development version of August 2026 wrote.
package results

import (
	"encoding/json"
	"iter"
	"sort"
	"strings"
)

// Format is how a submission was written.
type Format string

const (
	Archive Format = "archive" // submission.tar.xz
	JSON    Format = "json"    // a bare submission.json
	JUnit   Format = "junit"   // JUnit XML
)

// A Submission is what Checkbox recorded about one run of a plan on one machine, but for its logs and attachments.
type Submission struct {
	Format      Format
	Title       string
	Plan        string // full id of the test plan; empty when jobs were picked by hand, in merged submissions, and in JUnit
	Description string
	Origin      *Origin // nil before Checkbox 4.2.0
	CustomJobs  bool    // a person changed the list of jobs

	Results     []Result // as the file has them: tests, and since 2026 resource jobs (told apart by Plugin)
	Resources   []Result // jobs that only gather facts which other jobs require; since 2026 the same as among Results
	Attachments []Result // jobs that only attach a file
	Rejected    []Rejected

	Categories map[string]string            // category id → name
	Launcher   map[string]map[string]string // section → key → text; may hold what a person would rather not show
	System     System
	Extra      map[string]json.RawMessage // top-level keys that this reader does not know

	Members []Member // of an archive, in its order

	// How many of Resources and Attachments have a list of their own in the file; the others are copies of what is in Results.
	ownResources, ownAttachments int
}

// Origin says which Checkbox wrote a submission.
type Origin struct {
	Name      string     `json:"name"`
	Version   string     `json:"version"`
	Packaging *Packaging `json:"packaging,omitempty"`
}

// Packaging says how that Checkbox was installed.
type Packaging struct {
	Type     string `json:"type"` // debian, snap or source
	Name     string `json:"name,omitempty"`
	Version  string `json:"version,omitempty"`
	Revision string `json:"revision,omitempty"`
}

// CheckboxVersion is the version of the Checkbox that wrote the submission; empty before 4.2.0, which did not say.
func (s *Submission) CheckboxVersion() string {
	if s.Origin == nil {
		return ""
	}
	return s.Origin.Version
}

// Section is one of the lists of jobs in a submission.
type Section string

const (
	Tests       Section = "results"
	Resources   Section = "resources"
	Attachments Section = "attachments"
)

// A Result is what became of one job.
type Result struct {
	ID                  string  // full id, with its namespace
	ShortID             string  // without the namespace; ambiguous between namespaces
	Name                string  // the job's summary
	Outcome             Outcome // what happened, as Checkbox names it
	Status              string  // pass, fail or skip: coarser than Outcome
	CertificationStatus string  // blocker, non-blocker; in older submissions also unspecified, not-part-of-certification
	Category            string  // name
	CategoryID          string
	Plugin              string  // shell, manual, user-interact, user-interact-verify, attachment, resource; empty in JUnit
	TemplateID          string  // full id of the template that made the job, if one did
	Duration            float64 // seconds
	Comments            string
	SkipReason          json.RawMessage            // since 2026; see Skip
	Extra               map[string]json.RawMessage // keys that this reader does not know

	LogSize      int64  // bytes of the log, decoded
	Log          string // its beginning, as far as Options.KeepLog went
	Stdout       string // name of the archive member with the job's output; empty: it had none
	Stderr       string // the same for its standard error
	SharedOutput bool   // another job's member would have the same name, so that Stdout and Stderr may be that job's
}

// Skip is the skip reason of Checkbox since 2026: what was not met.
type Skip struct {
	Dependencies []string `json:"related_dependencies"`
	Resources    []string `json:"related_resources"`
	Manifests    []string `json:"related_manifests"`
}

// Skip decodes SkipReason; false if there is none or it has another shape.
func (r *Result) Skip() (Skip, bool) {
	var s Skip
	if len(r.SkipReason) == 0 || string(r.SkipReason) == "null" || json.Unmarshal(r.SkipReason, &s) != nil {
		return Skip{}, false
	}
	return s, true
}

// Blocker reports whether a failure of the job keeps the machine from being certified.
func (r *Result) Blocker() bool { return r.CertificationStatus == "blocker" }

// Rejected is a job of the plan that a person deselected before the run. Submissions before 4.2.0 have ids only.
type Rejected struct {
	ID                  string                     `json:"id"`
	ShortID             string                     `json:"short_id,omitempty"`
	Name                string                     `json:"name,omitempty"`
	Plugin              string                     `json:"plugin,omitempty"`
	CertificationStatus string                     `json:"certification_status,omitempty"`
	Category            string                     `json:"category,omitempty"`
	CategoryID          string                     `json:"category_id,omitempty"`
	TemplateID          string                     `json:"template_id,omitempty"`
	Extra               map[string]json.RawMessage `json:"extra,omitempty"`
}

// A Member is one file of an archive.
type Member struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

// Attachment reports whether the member is the output of an attachment job.
func (m Member) Attachment() bool { return strings.HasPrefix(m.Name, attachmentDir) }

// Records yields every job of the submission once, with the list of the file that it is in: results, then resources, then
// attachments.
func (s *Submission) Records() iter.Seq2[Section, *Result] {
	return func(yield func(Section, *Result) bool) {
		for _, list := range []struct {
			section Section
			results []Result
		}{{Tests, s.Results}, {Resources, s.Resources[:s.ownResources]}, {Attachments, s.Attachments[:s.ownAttachments]}} {
			for i := range list.results {
				if !yield(list.section, &list.results[i]) {
					return
				}
			}
		}
	}
}

// Counts maps each outcome to its number over Results.
func (s *Submission) Counts() map[string]int {
	counts := make(map[string]int)
	for i := range s.Results {
		counts[string(s.Results[i].Outcome)]++
	}
	return counts
}

// views adds the resource and attachment jobs among Results to their lists.
func (s *Submission) views() {
	s.ownResources, s.ownAttachments = len(s.Resources), len(s.Attachments)
	for i := range s.Results {
		switch s.Results[i].Plugin {
		case pluginResource:
			s.Resources = append(s.Resources, s.Results[i])
		case pluginAttachment:
			s.Attachments = append(s.Attachments, s.Results[i])
		}
	}
}

// BlockersFailed lists the full ids of Results that failed or crashed and whose failure keeps the machine from being certified, sorted.
func (s *Submission) BlockersFailed() []string {
	var ids []string
	for i := range s.Results {
		if r := &s.Results[i]; r.Blocker() && r.Outcome.Class() == Failed {
			ids = append(ids, r.ID)
		}
	}
	sort.Strings(ids)
	return ids
}

// A Summary is what one wants to know of a submission first.
type Summary struct {
	Format          Format         `json:"format"`
	Plan            string         `json:"plan"`
	Title           string         `json:"title"`
	CheckboxVersion string         `json:"checkbox_version"`
	Counts          map[string]int `json:"counts"`
	Results         int            `json:"results"`
	BlockersFailed  []string       `json:"blockers_failed"`
}

// Summary returns the submission's summary.
func (s *Submission) Summary() Summary {
	return Summary{
		Format: s.Format, Plan: s.Plan, Title: s.Title, CheckboxVersion: s.CheckboxVersion(),
		Counts: s.Counts(), Results: len(s.Results), BlockersFailed: s.BlockersFailed(),
	}
}
