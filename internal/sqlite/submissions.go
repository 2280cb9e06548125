package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"certlab/internal/cert"
)

const submissionColumns = `s.id, s.run, s.attempt, s.machine, m.hostname, s.sha256, s.size, s.name, s.received, s.added_by, s.index_state, s.index_version,
	s.index_error, s.plan, s.title, s.checkbox_version, s.counts`

// What is known of a machine takes many pages: lists do without.
const (
	wholeSubmission = submissionColumns + ", s.system, s.seq"
	briefSubmission = submissionColumns + ", '', s.seq"
)

const submissionTables = " FROM submissions s JOIN machines m ON m.id = s.machine"

type submissionRow struct {
	cert.Submission
	seq int64
}

func scanSubmission(s scanner) (r submissionRow, err error) {
	err = s.Scan(&r.ID, &r.Run, &r.Attempt, &r.Machine, &r.Hostname, &r.SHA256, &r.Size, &r.Name, timeColumn{&r.Received}, &r.AddedBy, &r.IndexState,
		&r.IndexVersion, &r.IndexError, &r.Plan, &r.Title, &r.CheckboxVersion, jsonColumn{&r.Counts}, jsonColumn{&r.System}, &r.seq)
	return r, err
}

// SubmissionFilter selects submissions. Empty fields select all.
type SubmissionFilter struct {
	Machine    string // id
	Run        string
	Plan       string
	SHA256     string
	IndexState string
}

// Submissions lists submissions, the newest first, without their system information.
func (db *DB) Submissions(ctx context.Context, f SubmissionFilter, p Page) ([]cert.Submission, string, error) {
	var w where
	w.narrowest(term{"s.run", f.Run}, term{"s.sha256", f.SHA256}, term{"s.machine", f.Machine}, term{"s.plan", f.Plan}, term{"s.index_state", f.IndexState})
	var before int64
	if more, err := p.parse("s", &before); err != nil {
		return nil, "", err
	} else if more {
		w.add("s.seq < ?", before)
	}
	rows, err := list(ctx, db.r, scanSubmission, "SELECT "+briefSubmission+submissionTables+w.String()+" ORDER BY s.seq DESC LIMIT ?",
		append(w.args, p.Limit+1)...)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > p.Limit {
		rows = rows[:p.Limit]
		next = cursor("s", rows[p.Limit-1].seq)
	}
	out := make([]cert.Submission, len(rows))
	for n, r := range rows {
		out[n] = r.Submission
		out[n].System = nil
	}
	each := make([]*cert.Submission, len(out))
	for n := range out {
		each[n] = &out[n]
	}
	return out, next, loadSubmissionsLost(ctx, db.r, each...)
}

// Submission returns a submission. It fails as NotFound.
func (db *DB) Submission(ctx context.Context, id string) (cert.Submission, error) {
	r, err := one(ctx, db.r, scanSubmission, notFound("submission", id), "SELECT "+wholeSubmission+submissionTables+" WHERE s.id = ?", id)
	if err != nil {
		return r.Submission, err
	}
	return r.Submission, loadSubmissionsLost(ctx, db.r, &r.Submission)
}

// AddFile records a file of a run whose bytes are durable; for a submission, it puts it in the queue for indexing. Recorded before, it
// stays as it was. It returns the file as recorded, with the submission's id. It fails as NotFound if there is no such run.
func (db *DB) AddFile(ctx context.Context, run string, f cert.File) (cert.File, error) {
	err := db.write(ctx, func(tx *sql.Tx) error {
		row, err := loadRun(ctx, tx, run)
		if err != nil {
			return err
		}
		f, err = addFile(ctx, tx, &row.Run, f, "")
		return err
	})
	return f, err
}

func addFile(ctx context.Context, tx *sql.Tx, run *cert.Run, f cert.File, addedBy string) (cert.File, error) {
	for _, old := range run.Files {
		if old.SHA256 == f.SHA256 && old.Attempt == f.Attempt {
			return old, nil
		}
	}
	if f.Kind == cert.KindSubmission {
		f.Submission = cert.NewID(cert.SubmissionID, f.Received)
		if _, err := tx.ExecContext(ctx, `INSERT INTO submissions (id, run, attempt, machine, sha256, size, name, received, added_by, index_state, index_version,
			index_error, plan, title, checkbox_version, counts, system) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', 0, '', '', '', '', '', '')`, f.Submission,
			run.ID, f.Attempt, run.Machine, f.SHA256, f.Size, f.Name, micros(f.Received), addedBy); err != nil {
			return f, fmt.Errorf("cannot store the submission: %w", err)
		}
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO files (run, attempt, sha256, kind, name, size, received, submission) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		run.ID, f.Attempt, f.SHA256, f.Kind, f.Name, f.Size, micros(f.Received), f.Submission); err != nil {
		return f, fmt.Errorf("cannot store the file: %w", err)
	}
	return f, nil
}

// AddUpload records a submission that a person added for a machine, as a run of origin upload. If the same bytes were added for that
// machine before, that submission is returned, and false.
func (db *DB) AddUpload(ctx context.Context, run cert.Run, f cert.File) (string, bool, error) {
	id, added := "", false
	err := db.write(ctx, func(tx *sql.Tx) error {
		known, err := list(ctx, tx, func(s scanner) (v string, err error) { return v, s.Scan(&v) },
			"SELECT id FROM submissions WHERE machine = ? AND sha256 = ? ORDER BY seq LIMIT 1", run.Machine, f.SHA256)
		if err != nil {
			return err
		}
		if len(known) > 0 {
			id = known[0]
			return nil
		}
		if err := insertRun(ctx, tx, &run); err != nil {
			return err
		}
		f, err = addFile(ctx, tx, &run, f, run.RequestedBy)
		id, added = f.Submission, true
		return err
	})
	return id, added, err
}

// NextPending returns the oldest submission that waits to be indexed, or nil. Those whose bytes are known to be lost are left out.
func (db *DB) NextPending(ctx context.Context) (*cert.Submission, error) {
	rows, err := list(ctx, db.r, scanSubmission, "SELECT "+wholeSubmission+submissionTables+` WHERE s.index_state = 'pending'
		AND NOT EXISTS (SELECT 1 FROM bad_files b WHERE b.sha256 = s.sha256) ORDER BY s.seq LIMIT 1`)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return &rows[0].Submission, nil
}

// SaveIndex replaces what is known of a submission's content, in one transaction. The plan of a run that has none, because a person
// added it by hand or its row was rebuilt by a repair, is taken from its archive.
func (db *DB) SaveIndex(ctx context.Context, submission string, x cert.Index) error {
	return db.write(ctx, func(tx *sql.Tx) error {
		seq, run, err := clearIndex(ctx, tx, submission)
		if err != nil {
			return err
		}
		if err := saveResults(ctx, tx, seq, x.Results); err != nil {
			return err
		}
		if err := saveFailures(ctx, tx, seq, x.Failures); err != nil {
			return err
		}
		for _, a := range x.Attachments {
			if _, err := tx.ExecContext(ctx, "INSERT INTO attachments (submission, idx, job, name, size) VALUES (?, ?, ?, ?, ?)", seq, a.Index, a.ID, a.Name, a.Size); err != nil {
				return fmt.Errorf("cannot store attachment %d: %w", a.Index, err)
			}
		}
		counts, err := countsFor(ctx, tx, run, x)
		if err != nil {
			return err
		}
		facts, err := factsOf(ctx, tx, seq, x.System)
		if err != nil {
			return err
		}
		if err := reviewAgain(ctx, tx, seq, run); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE submissions SET index_state = 'indexed', index_version = ?, index_error = '', plan = ?, title = ?,
			checkbox_version = ?, counts = ?, system = ?, facts = ?, kernel = ?, series = ? WHERE seq = ?`, x.Version, x.Plan, x.Title, x.CheckboxVersion, mustJSON(counts),
			string(x.System), facts, x.Kernel, x.Series, seq); err != nil {
			return fmt.Errorf("cannot store the submission: %w", err)
		}
		if _, err := tx.ExecContext(ctx, "UPDATE runs SET plan = ?, spec = json_set(spec, '$.plan', ?) WHERE id = ? AND plan = ''",
			x.Plan, x.Plan, run); err != nil {
			return fmt.Errorf("cannot store the run: %w", err)
		}
		return nil
	})
}

// countsFor are the index's counts, with results that were skipped for want of a manifest counted as what they are.
func countsFor(ctx context.Context, tx *sql.Tx, run string, x cert.Index) (cert.Counts, error) {
	var none bool
	if err := tx.QueryRowContext(ctx, "SELECT no_manifest FROM runs WHERE id = ?", run).Scan(&none); err != nil {
		return nil, fmt.Errorf("cannot read run %s: %w", run, err)
	}
	if !none {
		return x.Counts, nil
	}
	return cert.ApartWithoutManifest(x.Counts, x.Results), nil
}

// SaveUnreadable records why a submission cannot be indexed by this version of the reader.
func (db *DB) SaveUnreadable(ctx context.Context, submission string, version int, why string) error {
	return db.write(ctx, func(tx *sql.Tx) error {
		seq, run, err := clearIndex(ctx, tx, submission)
		if err != nil {
			return err
		}
		if err := reviewAgain(ctx, tx, seq, run); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE submissions SET index_state = 'unreadable', index_version = ?, index_error = ?, counts = '', system = '' WHERE seq = ?",
			version, why, seq); err != nil {
			return fmt.Errorf("cannot store the submission: %w", err)
		}
		return nil
	})
}

func clearIndex(ctx context.Context, tx *sql.Tx, submission string) (seq int64, run string, err error) {
	type key struct {
		seq int64
		run string
	}
	k, err := one(ctx, tx, func(s scanner) (k key, err error) { return k, s.Scan(&k.seq, &k.run) }, notFound("submission", submission),
		"SELECT seq, run FROM submissions WHERE id = ?", submission)
	if err != nil {
		return 0, "", err
	}
	for _, table := range []string{"failures", "results", "attachments"} {
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE submission = ?", k.seq); err != nil {
			return 0, "", fmt.Errorf("cannot replace %s: %w", table, err)
		}
	}
	return k.seq, k.run, nil
}

// Reindex puts submissions back into the queue: one, or all if submission is empty, or with onlyOlder those that a reader before
// that version has seen. What was indexed stays listed until it is replaced. It returns how many.
func (db *DB) Reindex(ctx context.Context, submission string, onlyOlder int) (int, error) {
	var w where
	w.equal("id", submission)
	if onlyOlder > 0 {
		w.add("index_version < ?", onlyOlder)
	}
	n := 0
	err := db.write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "UPDATE submissions SET index_state = 'pending'"+w.String(), w.args...)
		if err != nil {
			return fmt.Errorf("cannot queue submissions: %w", err)
		}
		rows, err := res.RowsAffected()
		n = int(rows)
		return err
	})
	if err == nil && submission != "" && n == 0 {
		err = notFound("submission", submission)
	}
	return n, err
}

// IndexCounts returns how many submissions are in each index state.
func (db *DB) IndexCounts(ctx context.Context) (map[string]int, error) {
	return db.countBy(ctx, "SELECT index_state, count(*) FROM submissions GROUP BY index_state")
}

func scanAttachment(s scanner) (a cert.Attachment, err error) {
	err = s.Scan(&a.Submission, &a.Index, &a.ID, &a.Name, &a.Size)
	return a, err
}

// Attachments lists a submission's attachments, in its order.
func (db *DB) Attachments(ctx context.Context, submission string, p Page) ([]cert.Attachment, string, error) {
	var w where
	w.add("s.id = ?", submission)
	var after int64
	if more, err := p.parse("a", &after); err != nil {
		return nil, "", err
	} else if more {
		w.add("a.idx > ?", after)
	}
	rows, err := list(ctx, db.r, scanAttachment, "SELECT s.id, a.idx, a.job, a.name, a.size FROM attachments a JOIN submissions s ON s.seq = a.submission"+
		w.String()+" ORDER BY a.idx LIMIT ?", append(w.args, p.Limit+1)...)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > p.Limit {
		rows = rows[:p.Limit]
		next = cursor("a", int64(rows[p.Limit-1].Index))
	}
	return rows, next, nil
}

// Attachment returns one attachment. It fails as NotFound.
func (db *DB) Attachment(ctx context.Context, submission string, index int) (cert.Attachment, error) {
	return one(ctx, db.r, scanAttachment, cert.Errorf(cert.NotFound, "there is no attachment %d in submission %q", index, submission),
		"SELECT s.id, a.idx, a.job, a.name, a.size FROM attachments a JOIN submissions s ON s.seq = a.submission WHERE s.id = ? AND a.idx = ?", submission, index)
}
