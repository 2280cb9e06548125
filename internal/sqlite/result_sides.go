package sqlite

import (
	"context"

	"certlab/internal/cert"
)

// A SideFilter chooses results of one job.
type SideFilter struct {
	Job        string // full id
	Submission string
	Machine    string // id
	NotMachine string
	Campaign   string // only submissions that it counts
	Released   bool   // only those of which nothing is under test: runs without a subject, or whose subject is from a released pocket, in no open campaign but to confirm
	// NotKernelOf leaves out the results of a campaign, and those on the version of its subject.
	NotKernelOf string
}

// A ResultSide is a result elsewhere.
type ResultSide struct {
	cert.FindingSide
	Signature string
	Doubt     string
	Lost      bool
}

// ResultSides returns results of a job, the newest first.
func (db *DB) ResultSides(ctx context.Context, f SideFilter, limit int) ([]ResultSide, error) {
	var w where
	w.add("s.index_state = 'indexed'")
	if f.Submission != "" {
		w.add("s.id = ?", f.Submission)
	}
	if f.Machine != "" {
		w.add("s.machine = ?", f.Machine)
	}
	if f.NotMachine != "" {
		w.add("s.machine <> ?", f.NotMachine)
	}
	from := "jobs j CROSS JOIN results r INDEXED BY results_job ON r.job = j.id CROSS JOIN submissions s ON s.seq = r.submission"
	switch {
	case f.Campaign != "":
		from = "targets t CROSS JOIN submissions s ON s.id = t.submission CROSS JOIN jobs j CROSS JOIN results r INDEXED BY results_job ON r.job = j.id AND r.submission = s.seq"
		w.add("t.campaign = ? AND t.submission <> ''", f.Campaign)
	case f.Machine != "" || f.Submission != "":
		from = "submissions s CROSS JOIN jobs j CROSS JOIN results r INDEXED BY results_job ON r.job = j.id AND r.submission = s.seq"
	}
	w.add("j.job = ? AND j.section = 'results'", f.Job)
	if f.Released {
		w.add("NOT EXISTS (SELECT 1 FROM tries y JOIN campaigns c ON c.id = y.campaign WHERE y.run = s.run AND y.purpose <> 'confirm' AND c.state <> 'approved')")
		w.add("coalesce((SELECT u.spec ->> '$.subject.pocket' FROM runs u WHERE u.id = s.run), '') <> 'proposed' OR EXISTS (SELECT 1 FROM tries y JOIN campaigns c ON c.id = y.campaign WHERE y.run = s.run AND c.state = 'approved')")
		w.text[len(w.text)-1] = "(" + w.text[len(w.text)-1] + ")"
	}
	if f.NotKernelOf != "" {
		w.add("NOT EXISTS (SELECT 1 FROM tries y WHERE y.run = s.run AND y.campaign = ? AND y.purpose <> 'confirm')", f.NotKernelOf)
	}
	return list(ctx, db.r, func(s scanner) (v ResultSide, err error) {
		return v, s.Scan(&v.Submission, &v.Index, &v.Run, &v.Machine, &v.Hostname, &v.Kernel, &v.Outcome, timeColumn{&v.At}, &v.Signature, &v.Doubt, &v.Lost)
	}, `SELECT p.id, p.idx, p.run, p.machine, (SELECT hostname FROM machines m WHERE m.id = p.machine), p.kernel, p.outcome, p.received,
		coalesce((SELECT l.signature FROM failures x JOIN logs l ON l.id = x.log WHERE x.submission = p.seq AND x.idx = p.idx), ''),
		coalesce((SELECT x.doubt FROM failures x WHERE x.submission = p.seq AND x.idx = p.idx), ''),
		EXISTS (SELECT 1 FROM lost_jobs o WHERE o.run = p.run AND o.attempt = p.attempt AND o.job = p.job)
		FROM (SELECT s.id, s.seq, r.idx, s.run, s.attempt, s.machine, s.kernel, r.outcome, s.received, j.job FROM `+from+w.String()+` ORDER BY s.seq DESC LIMIT ?) p ORDER BY p.seq DESC`, append(w.args, limit)...)
}

// JobAttachments returns the attachments that a job has put into a submission.
func (db *DB) JobAttachments(ctx context.Context, submission, job string) ([]cert.Attachment, error) {
	return list(ctx, db.r, scanAttachment, "SELECT s.id, a.idx, a.job, a.name, a.size FROM attachments a JOIN submissions s ON s.seq = a.submission WHERE s.id = ? AND a.job = ? ORDER BY a.idx LIMIT 100",
		submission, job)
}
