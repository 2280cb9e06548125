package judge

// Meaning is what a result's outcome means here: passed, doubted, failed, lost, skipped or unknown.
func Meaning(r Result) string {
	return [...]string{passed: "passed", doubted: "doubted", skipped: "skipped", unknown: "unknown", failed: "failed", lost: "lost", absent: "absent"}[standOf(&r)]
}
