package main

import (
	"cmp"
	"strings"
	"time"

	"certlab/internal/order"
)

// maxBlockers bounds how many failed blockers are named; their number is always told.
const maxBlockers = 50

// runResults are the action results that every action about a run gives. What is not known yet is left out.
func runResults(run order.Run) map[string]any {
	results := map[string]any{"run": run.Run, "state": string(run.State)}
	set(results, "notice", run.Notice)
	if !run.State.Final() {
		if run.Progress.Phase != "" {
			results["phase"] = string(run.Progress.Phase)
		}
		return results
	}
	if len(run.Counts) > 0 {
		results["counts"] = map[string]int(run.Counts)
	}
	if run.State == order.Completed {
		results["blockers-failed"] = len(run.BlockersFailed)
		if n := len(run.BlockersFailed); n > 0 {
			results["blockers"] = strings.Join(run.BlockersFailed[:min(n, maxBlockers)], " ")
		}
	}
	for _, file := range run.Files {
		if file.Kind == order.SubmissionFile {
			results["sha256"] = file.SHA256
		}
	}
	// Where the submission is: on this machine until the controller has it.
	set(results, "submission", cmp.Or(run.SubmissionPath, submissionURL(run)))
	set(results, "url", run.URL)
	return results
}

func submissionURL(run order.Run) string {
	if run.State != order.Completed || !run.Delivered {
		return ""
	}
	return run.URL
}

// runDetails are what show-run adds.
func runDetails(run order.Run) map[string]any {
	results := map[string]any{
		"plan": run.Spec.Plan, "origin": string(run.Origin), "attempt": run.Attempt, "delivered": run.Delivered,
	}
	set(results, "title", run.Spec.Title)
	if run.State.Final() && !run.Delivered {
		set(results, "phase", string(run.Progress.Phase))
	}
	if run.State == order.Running {
		set(results, "current-job", run.Progress.CurrentJob)
	}
	if run.Progress.JobsPlanned > 0 || run.Progress.JobsDone > 0 {
		results["jobs-done"], results["jobs-planned"] = run.Progress.JobsDone, run.Progress.JobsPlanned
	}
	if n := len(run.Interruptions); n > 0 {
		results["interruptions"] = n
	}
	for key, at := range map[string]time.Time{"created": run.Created, "started": run.Started, "finished": run.Finished} {
		if !at.IsZero() {
			results[key] = at.UTC().Format(time.RFC3339)
		}
	}
	if run.Failure != nil {
		results["failure"] = map[string]any{"type": run.Failure.Type, "message": run.Failure.Message}
	}
	set(results, "checkbox-version", run.CheckboxVersion)
	set(results, "url", run.URL)
	return results
}

func set(results map[string]any, key, value string) {
	if value != "" {
		results[key] = value
	}
}
