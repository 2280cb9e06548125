package results

// Outcome is what became of a job, in Checkbox's words (plainbox/abc.py). A submission may hold one that is not listed here; it
// is kept as it is and belongs to class Unknown.
type Outcome string

const (
	Pass              Outcome = "pass"
	Fail              Outcome = "fail"
	Crash             Outcome = "crash"              // killed by a signal, or interrupted without having said that it would be
	SkipOutcome       Outcome = "skip"               // by the operator, or an interactive job in silent mode
	NotSupported      Outcome = "not-supported"      // something it needs was not met; until 7.3
	SkippedDependency Outcome = "skipped-dependency" // the same by cause, since 2026
	SkippedResource   Outcome = "skipped-resource"   //
	SkippedManifest   Outcome = "skipped-manifest"   //
	NotImplemented    Outcome = "not-implemented"
	Undecided         Outcome = "undecided"
	None              Outcome = "none" // the submission names no outcome
)

// Class is the coarse meaning of an outcome.
type Class string

const (
	Passed  Class = "pass"
	Failed  Class = "fail"    // fail, crash
	Skipped Class = "skip"    // it did not run, for whatever reason
	Unknown Class = "unknown" // nothing can be said; never a pass
)

// classes is the only table of what outcomes mean.
var classes = map[Outcome]Class{
	Pass:              Passed,
	Fail:              Failed,
	Crash:             Failed,
	SkipOutcome:       Skipped,
	NotSupported:      Skipped,
	SkippedDependency: Skipped,
	SkippedResource:   Skipped,
	SkippedManifest:   Skipped,
	NotImplemented:    Skipped,
	Undecided:         Unknown,
	None:              Unknown,
}

// Class returns the outcome's class.
func (o Outcome) Class() Class {
	if c, ok := classes[o]; ok {
		return c
	}
	return Unknown
}
