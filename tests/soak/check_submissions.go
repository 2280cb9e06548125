package soak

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"sort"

	"certlab/internal/cert"
	"certlab/internal/results"
)

// submissions checks what a run has delivered.
func (c *checker) submissions(ctx context.Context, run cert.Run) {
	subs := c.subs[run.ID]
	files := 0
	for _, f := range run.Files {
		if f.Kind == cert.KindSubmission {
			files++
		}
	}
	if len(subs) != files || len(subs) > 1 {
		c.violate("twice", run.ID, "it has %d submissions and %d files that are one", len(subs), files)
	}
	if run.State != cert.Completed {
		return
	}
	if len(subs) != 1 {
		c.violate("lost", run.ID, "it is completed and has %d submissions", len(subs))
		return
	}
	sub := subs[0]
	if run.Submission != sub.ID || sub.IndexState != cert.IndexDone || sub.Machine != run.Machine {
		c.violate("wrong", run.ID, "its submission is %q, and there is %s of machine %s, index %s %s", run.Submission, sub.ID, sub.Machine, sub.IndexState, sub.IndexError)
	}
	read, ok := c.download(ctx, sub)
	if !ok {
		return
	}
	if read.Plan != run.Spec.Plan || read.Title != run.Spec.Title {
		c.violate("wrong", run.ID, "its submission %s is of %q, %q", sub.ID, read.Plan, read.Title)
	}
	counts, outcomes := map[string]int{}, map[string]string{}
	for i := range read.Results {
		r := &read.Results[i]
		if _, ok := outcomes[r.ID]; ok {
			c.violate("twice", run.ID, "job %s is twice in submission %s", r.ID, sub.ID)
		}
		outcomes[r.ID] = string(r.Outcome)
		counts[string(r.Outcome)]++
	}
	c.report.Submission++
	c.report.Jobs += len(read.Results)
	c.sameCounts(ctx, run, sub, counts)
	c.interrupted(run, outcomes)
	c.sameJobs(run, outcomes)
}

// download fetches an archive, compares its bytes with its hash, and reads it.
func (c *checker) download(ctx context.Context, sub cert.Submission) (*results.Submission, bool) {
	var body bytes.Buffer
	if err := c.api.Download(ctx, sub.ID, &body); err != nil {
		c.violate("lost", sub.Run, "submission %s: %v", sub.ID, err)
		return nil, false
	}
	sum := sha256.Sum256(body.Bytes())
	if hex.EncodeToString(sum[:]) != sub.SHA256 || int64(body.Len()) != sub.Size {
		c.violate("lost", sub.Run, "submission %s has not the bytes that it should", sub.ID)
	}
	read, err := results.Read(&body, results.Options{})
	if err != nil {
		c.violate("lost", sub.Run, "submission %s cannot be read: %v", sub.ID, err)
	}
	return read, err == nil
}

// sameCounts compares what the archive says with all places where the API says it.
func (c *checker) sameCounts(ctx context.Context, run cert.Run, sub cert.Submission, counts map[string]int) {
	if !maps.Equal(counts, run.Counts) || !maps.Equal(counts, sub.Counts) {
		c.violate("wrong", run.ID, "the archive counts %v, the run %v, the submission %v", counts, run.Counts, sub.Counts)
	}
	listed, err := c.api.Results(ctx, query("run", run.ID), 0)
	if err != nil {
		c.violate("unreachable", run.ID, "%v", err)
		return
	}
	api := map[string]int{}
	for _, r := range listed {
		api[r.Outcome]++
	}
	if !maps.Equal(counts, api) {
		c.violate("wrong", run.ID, "the archive counts %v, and the API lists %v", counts, api)
	}
}

// interrupted checks that no job has passed that was in progress when something was killed under it.
func (c *checker) interrupted(run cert.Run, outcomes map[string]string) {
	for _, a := range run.Attempts {
		for _, i := range a.Interruptions {
			if i.Job != "" && !i.Expected && outcomes[i.Job] == "pass" {
				c.violate("passed", run.ID, "job %s was interrupted (%s) and passed", i.Job, i.Cause)
			}
		}
	}
	for _, cut := range c.ledger.cuts {
		if cut.Run == run.ID && outcomes[cut.Job] == "pass" {
			c.violate("passed", run.ID, "job %s was in progress at %.1fs, when %s struck, and passed; interruptions: %+v", cut.Job, cut.At.Seconds(), cut.By, run.Attempts)
		}
	}
}

// sameJobs checks that each submission of a plan has the same jobs, and that those that nothing struck ended alike.
func (c *checker) sameJobs(run cert.Run, outcomes map[string]string) {
	struck := map[string]bool{}
	for _, a := range run.Attempts {
		for _, i := range a.Interruptions {
			if !i.Expected {
				struck[i.Job] = true
			}
		}
	}
	known, ok := c.jobs[run.Spec.Plan]
	if !ok {
		if len(struck) == 0 {
			c.jobs[run.Spec.Plan] = outcomes
		}
		return
	}
	if got, want := sortedKeys(outcomes), sortedKeys(known); !slices.Equal(got, want) {
		c.violate("lost", run.ID, "its submission has the jobs %s, and others of %s have %s", brief(got), run.Spec.Plan, brief(want))
		return
	}
	if run.Spec.Plan == namespace+"preflight" || len(struck) > 0 { // what it finds may change; what was struck may take others along
		return
	}
	for job, outcome := range outcomes {
		if known[job] != outcome {
			c.violate("outcome", run.ID, "job %s is %s, and %s elsewhere, though nothing struck it", job, outcome, known[job])
		}
	}
}

func sortedKeys(m map[string]string) []string {
	keys := slices.Collect(maps.Keys(m))
	sort.Strings(keys)
	return keys
}

// uploads checks the archives that were added by hand.
func (c *checker) uploads(ctx context.Context) {
	known, byRun := map[string][]cert.Submission{}, map[string]bool{}
	for run, subs := range c.subs {
		if c.runs[run].Origin == cert.FromUpload {
			for _, sub := range subs {
				known[sub.SHA256] = append(known[sub.SHA256], sub)
				byRun[run] = true
			}
		}
	}
	for id, run := range c.runs {
		if run.Origin == cert.FromUpload && !byRun[id] {
			c.violate("lost", id, "a run of an archive that was added by hand has no submission")
		}
	}
	for _, u := range c.ledger.uploads {
		subs := known[u.SHA256]
		delete(known, u.SHA256)
		if u.ID == "" && len(subs) == 0 {
			continue // never acknowledged
		}
		if len(subs) != 1 || u.ID != "" && subs[0].ID != u.ID {
			c.violate("twice", u.ID, "the archive %q was added once, and there are %d submissions of it", u.Title, len(subs))
			continue
		}
		read, ok := c.download(ctx, subs[0])
		if !ok {
			continue
		}
		c.report.Submission++
		c.report.Jobs += len(read.Results)
		counts := map[string]int{}
		for i := range read.Results {
			counts[string(read.Results[i].Outcome)]++
		}
		if read.Title != u.Title || subs[0].IndexState != cert.IndexDone || !maps.Equal(counts, subs[0].Counts) {
			c.violate("wrong", u.ID, "the archive %q is titled %q, index %s, counts %v and %v", u.Title, read.Title, subs[0].IndexState, counts, subs[0].Counts)
		}
	}
	for _, subs := range known {
		c.violate("unknown", subs[0].ID, "nobody added this archive: %q", subs[0].Title)
	}
}
