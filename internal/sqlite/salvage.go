package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"certlab/internal/cert"
)

// A Salvage is what was got out of a damaged database.
type Salvage struct {
	Rows     map[string]int // that were kept, by table
	Restored map[string]int // that were taken from the backup, by table
	Rebuilt  []string       // what was put together from other rows
	Lost     []string       // what is known to be lost, by id
	Unread   []string       // places that could not be read
	Queued   int            // submissions to be indexed again
}

// primary are the tables whose rows cannot be made again from others or from archives, in the order in which they refer to each other.
var primary = []string{"machines", "runs", "removed_runs", "attempts", "submissions", "files", "tokens", "meta", "bad_files", "gone_files",
	"fleet", "reservations", "deployments", "machine_events", "machine_times", "dossiers", "zone_dossiers", "dossier_changes", "pauses", "incidents", "notices",
	"lost_jobs", "power_cycles", "shared_locks", "policies", "campaigns", "targets", "tries", "findings", "campaign_events", "decisions", "verdicts", "issues", "kernel_news"}

// ofNow are the tables that say how things are, not what has happened: what only a backup has of them is not so any more.
var ofNow = []string{"meta", "bad_files", "gone_files", "fleet", "pauses", "notices", "shared_locks", "kernel_news"}

// SalvageInto reads every row that can be read of the primary tables of the database at path, which it may change (give it a copy), into
// a new database at to, and adds rows that only the database at backup has, if that is not empty. All submissions wait to be indexed
// again. The new database has an epoch of its own.
func SalvageInto(ctx context.Context, path, backup, to string, now time.Time) (out Salvage, err error) {
	out = Salvage{Rows: map[string]int{}, Restored: map[string]int{}}
	fresh, err := Open(ctx, to)
	if err != nil {
		return out, err
	}
	defer fresh.Close()
	if err := fresh.write(ctx, func(tx *sql.Tx) error {
		// Rows that refer to lost ones are seen to at the end.
		if _, err := tx.ExecContext(ctx, "PRAGMA defer_foreign_keys = 1"); err != nil {
			return err
		}
		if err := mendHeader(path, to); err != nil {
			return err
		}
		s := salvager{ctx: ctx, to: tx, out: &out, keyOf: make(map[string]string)}
		if err := s.salvage(path); err != nil {
			return err
		}
		if backup != "" {
			if err := s.fill(backup); err != nil {
				return err
			}
		}
		if err := s.mend(now); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, "SELECT count(*) FROM submissions").Scan(&out.Queued)
	}); err != nil {
		return out, fmt.Errorf("cannot repair the database: %w", err)
	}
	return out, fresh.NewEpoch(ctx, "repair", now)
}

type salvager struct {
	ctx   context.Context
	to    *sql.Tx
	out   *Salvage
	keyOf map[string]string // machines' keys by their ids
}

func (s *salvager) unread(what string, err error) {
	s.out.Unread = append(s.out.Unread, what+": "+err.Error())
}

func (s *salvager) salvage(path string) error {
	from, err := sql.Open("sqlite", dsn(path, "&_pragma=query_only(1)"))
	if err != nil {
		return err
	}
	defer from.Close()
	from.SetMaxOpenConns(1)
	for _, table := range primary {
		cols, err := s.common(from, table)
		if err != nil {
			s.unread("table "+table, err)
			continue
		}
		if len(cols) == 0 {
			continue // of a later schema
		}
		if err := s.table(from, table, cols); err != nil {
			return err
		}
		var n int
		if err := s.to.QueryRowContext(s.ctx, "SELECT count(*) FROM "+table).Scan(&n); err != nil {
			return err
		}
		s.out.Rows[table] = n
	}
	s.readKeys(from)
	return s.lost(from)
}

// common returns the columns that a table has in both databases.
func (s *salvager) common(from *sql.DB, table string) ([]string, error) {
	have, err := columns(s.ctx, from, table)
	if err != nil {
		return nil, err
	}
	want, err := columns(s.ctx, s.to, table)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, w := range want {
		for _, h := range have {
			if h.name == w.name {
				out = append(out, w.name)
			}
		}
	}
	return out, nil
}

// table copies what can be read of a table: from the front, from the back, and what lies between by its keys.
func (s *salvager) table(from *sql.DB, table string, cols []string) error {
	src, err := tableSource(s.ctx, s.to, table, false)
	if err != nil {
		return err
	}
	var text string
	if err := s.to.QueryRowContext(s.ctx, "SELECT sql FROM sqlite_schema WHERE name = ?", table).Scan(&text); err != nil {
		return err
	}
	rowid := !strings.Contains(text, "WITHOUT ROWID")
	if !rowid {
		if src, err = tableSource(s.ctx, s.to, table, true); err != nil {
			return err
		}
	}
	var first, last int64
	for _, order := range []string{"", " DESC"} {
		err := s.copy(from, table, cols, " ORDER BY "+strings.Join(src.keys, order+", ")+order)
		if err == nil {
			return nil
		}
		s.unread("table "+table, err)
	}
	switch {
	case rowid:
		if err := s.to.QueryRowContext(s.ctx, "SELECT coalesce(max(seq), 0) FROM "+table).Scan(&last); err != nil {
			return err
		}
		return s.between(from, table, cols, first, last)
	case table == "attempts" || table == "files" || table == "gone_files":
		runs, err := list(s.ctx, s.to, func(sc scanner) (v string, err error) { return v, sc.Scan(&v) }, "SELECT id FROM runs")
		if err != nil {
			return err
		}
		for _, run := range runs {
			_ = s.copy(from, table, cols, " WHERE run = ?", run) // what stays unread is compared with other tables
		}
	}
	return nil
}

// between copies the rows with a number in [low, high], halving a range that cannot be read.
func (s *salvager) between(from *sql.DB, table string, cols []string, low, high int64) error {
	if err := s.ctx.Err(); err != nil || low > high {
		return err
	}
	if s.copy(from, table, cols, " WHERE seq BETWEEN ? AND ?", low, high) == nil || low == high {
		return nil
	}
	middle := low + (high-low)/2
	if err := s.between(from, table, cols, low, middle); err != nil {
		return err
	}
	return s.between(from, table, cols, middle+1, high)
}

// copy copies rows until it comes to one that cannot be read, and returns why. Rows that are there already stay as they are.
func (s *salvager) copy(from *sql.DB, table string, cols []string, rest string, args ...any) error {
	rows, err := from.QueryContext(s.ctx, "SELECT "+strings.Join(cols, ", ")+" FROM "+table+rest, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	insert := "INSERT OR IGNORE INTO " + table + " (" + strings.Join(cols, ", ") + ") VALUES (" +
		strings.TrimSuffix(strings.Repeat("?, ", len(cols)), ", ") + ")"
	values, to := make([]any, len(cols)), make([]any, len(cols))
	for n := range values {
		to[n] = &values[n]
	}
	for rows.Next() {
		if err := rows.Scan(to...); err != nil {
			return err
		}
		if _, err := s.to.ExecContext(s.ctx, insert, values...); err != nil {
			if Full(err) {
				return err
			}
			// A row that the schema does not take (a text in a number's place) is a damaged row.
			s.unread("a row of table "+table, err)
		}
	}
	return rows.Err()
}

// lost finds ids that an index or another table names and whose row was not read.
func (s *salvager) lost(from *sql.DB) error {
	for _, table := range []string{"machines", "runs", "submissions", "tokens", "campaigns"} {
		ids, _ := list(s.ctx, from, func(sc scanner) (v string, err error) { return v, sc.Scan(&v) },
			"SELECT id FROM "+table+" INDEXED BY sqlite_autoindex_"+table+"_1")
		for _, id := range ids {
			var n int
			if err := s.to.QueryRowContext(s.ctx, "SELECT count(*) FROM "+table+" WHERE id = ?", id).Scan(&n); err != nil {
				return err
			}
			if n == 0 {
				s.out.Lost = append(s.out.Lost, strings.TrimSuffix(table, "s")+" "+id)
			}
		}
	}
	return nil
}

// fill adds rows that only the backup has. Runs that were removed since stay removed.
func (s *salvager) fill(backup string) error {
	from, err := sql.Open("sqlite", dsn(backup, "&_pragma=query_only(1)"))
	if err != nil {
		return err
	}
	defer from.Close()
	from.SetMaxOpenConns(1)
	for _, table := range primary {
		if slices.Contains(ofNow, table) {
			continue
		}
		cols, err := s.common(from, table)
		if err != nil {
			return fmt.Errorf("cannot read the backup: %w", err)
		}
		var before, after int
		count := "SELECT count(*) FROM " + table
		if err := s.to.QueryRowContext(s.ctx, count).Scan(&before); err != nil {
			return err
		}
		if err := s.copy(from, table, cols, ""); err != nil {
			return fmt.Errorf("cannot read the backup: %w", err)
		}
		switch table {
		case "runs":
			_, err = s.to.ExecContext(s.ctx, "DELETE FROM runs WHERE id IN (SELECT id FROM removed_runs)")
		case "attempts", "files", "submissions":
			_, err = s.to.ExecContext(s.ctx, "DELETE FROM "+table+" WHERE run IN (SELECT id FROM removed_runs)")
		}
		if err == nil {
			err = s.to.QueryRowContext(s.ctx, count).Scan(&after)
		}
		if err != nil {
			return err
		}
		s.out.Restored[table] = after - before
	}
	kept := s.out.Lost[:0]
	for _, lost := range s.out.Lost {
		table, id, _ := strings.Cut(lost, " ")
		var n int
		if err := s.to.QueryRowContext(s.ctx, "SELECT count(*) FROM "+table+"s WHERE id = ?", id).Scan(&n); err != nil {
			return err
		}
		if n == 0 {
			kept = append(kept, lost)
		}
	}
	s.out.Lost = kept
	return nil
}

// A mending puts rows together from what other tables say, in one statement that returns the ids.
type mending struct{ what, text string }

// keys gives machines that were put together the keys that they had, by which their agents are known: an index may still have them.
func (s *salvager) keys() error {
	for id, key := range s.keyOf {
		if _, err := s.to.ExecContext(s.ctx, `UPDATE OR IGNORE machines SET key = ?, origin = CASE WHEN ?1 LIKE 'manual:%' THEN 'manual' ELSE 'juju' END
			WHERE id = ? AND key = 'manual:' || id`, key, id); err != nil {
			return err
		}
	}
	return nil
}

// readKeys reads the machines' keys from the indexes of ids and of keys.
func (s *salvager) readKeys(from *sql.DB) {
	type entry struct {
		seq  int64
		text string
	}
	read := func(column, index string) map[int64]string {
		all, _ := list(s.ctx, from, func(sc scanner) (e entry, err error) { return e, sc.Scan(&e.seq, &e.text) },
			"SELECT seq, "+column+" FROM machines INDEXED BY "+index)
		found := make(map[int64]string, len(all))
		for _, e := range all {
			found[e.seq] = e.text
		}
		return found
	}
	keys := read("key", "sqlite_autoindex_machines_2")
	for seq, id := range read("id", "sqlite_autoindex_machines_1") {
		if key := keys[seq]; key != "" {
			s.keyOf[id] = key
		}
	}
}

var mendings = []mending{
	{"submission %s (its row was unreadable: from its file)", `INSERT INTO submissions (id, run, attempt, machine, sha256, size, name, received, added_by, index_state,
		index_version, index_error, plan, title, checkbox_version, counts, system)
		SELECT f.submission, f.run, f.attempt, r.machine, f.sha256, f.size, f.name, f.received, '', 'pending', 0, '', '', '', '', '', ''
		FROM files f JOIN runs r ON r.id = f.run WHERE f.submission <> '' AND NOT EXISTS (SELECT 1 FROM submissions s WHERE s.id = f.submission)
		ON CONFLICT DO NOTHING RETURNING id`},
	{"file of submission %s (its row was unreadable: from the submission)", `INSERT INTO files (run, attempt, sha256, kind, name, size, received, submission)
		SELECT s.run, s.attempt, s.sha256, 'submission', s.name, s.size, s.received, s.id FROM submissions s
		WHERE NOT EXISTS (SELECT 1 FROM files f WHERE f.submission = s.id) ON CONFLICT DO NOTHING RETURNING submission`},
	{"run %s (its row was unreadable: it has its submission, but not who asked for it and when)", `INSERT INTO runs (id, machine, origin, requested_by, plan, spec, state,
		created, finished, cancel_requested, failure, counts) SELECT s.run, s.machine, 'action', '', '', '{}', 'completed', min(s.received), max(s.received), 0,
		'null', 'null' FROM submissions s WHERE NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = s.run) GROUP BY s.run RETURNING id`},
	// Where its machine still has them, it delivers them again.
	{"run %s (its results were unreadable; its machine is asked for them)", `UPDATE runs SET state = 'failed', failure = json_object('type', 'lost', 'message',
		'the controller''s database was damaged, and the rows of this run''s results could not be read; run it again') WHERE state = 'completed'
		AND NOT EXISTS (SELECT 1 FROM submissions s WHERE s.run = runs.id) RETURNING id`},
	{"machine %s (its row was unreadable: its runs are kept under its id)", `INSERT INTO machines (id, key, origin, hostname, architecture, system_id, product_uuid, base,
		kernel, unit, model_uuid, created) SELECT r.machine, 'manual:' || r.machine, 'manual', r.machine, '', '', '', '', '', '', '', min(r.created)
		FROM runs r WHERE NOT EXISTS (SELECT 1 FROM machines m WHERE m.id = r.machine) GROUP BY r.machine RETURNING id`},
	{"machine %s (its row was unreadable: its log is kept under its id)", `INSERT INTO machines (id, key, origin, hostname, architecture, system_id, product_uuid, base,
		kernel, unit, model_uuid, created) SELECT e.machine, 'manual:' || e.machine, 'manual', e.machine, '', '', '', '', '', '', '', min(e.at)
		FROM machine_events e WHERE NOT EXISTS (SELECT 1 FROM machines m WHERE m.id = e.machine) GROUP BY e.machine RETURNING id`},
	{"machine %s (its row was unreadable: its place in campaigns is kept under its id)", `INSERT INTO machines (id, key, origin, hostname, architecture, system_id, product_uuid, base,
		kernel, unit, model_uuid, created) SELECT g.machine, 'manual:' || g.machine, 'manual', g.machine, '', '', '', '', '', '', '', 0
		FROM targets g WHERE NOT EXISTS (SELECT 1 FROM machines m WHERE m.id = g.machine) GROUP BY g.machine RETURNING id`},
	{"", "DELETE FROM targets WHERE campaign NOT IN (SELECT id FROM campaigns) RETURNING 'target ' || id || ' of campaign ' || campaign"},
	{"", "DELETE FROM tries WHERE target NOT IN (SELECT id FROM targets) RETURNING 'try ' || run || ' of campaign ' || campaign"},
	{"", "DELETE FROM findings WHERE target NOT IN (SELECT id FROM targets) OR campaign NOT IN (SELECT id FROM campaigns) RETURNING 'finding ' || id || ' of campaign ' || campaign"},
	{"try %s (its row was unreadable: from its target)", `INSERT INTO tries (run, reservation, target, campaign, number, machine, purpose, open, asked, seen)
		SELECT t.value ->> '$.run', coalesce(t.value ->> '$.reservation', ''), g.id, g.campaign, t.value ->> '$.number', t.value ->> '$.machine', t.value ->> '$.purpose',
		t.value ->> '$.ended' IS NULL, t.value ->> '$.asked' IS NOT NULL, '' FROM targets g, json_each(g.data, '$.tries') t
		WHERE NOT EXISTS (SELECT 1 FROM tries o WHERE o.run = t.value ->> '$.run') ON CONFLICT DO NOTHING RETURNING run`},
	// What an open campaign has lost is not known: it is compared anew, and goes on, and is decided, only when a person has looked at it.
	{"campaign %s (it is paused and compared anew, since machines of it may be missing: look at it and resume it)", `UPDATE campaigns SET state = 'paused', changed = changed + 1,
		data = json_set(data, '$.state', 'paused', '$.ending', 'paused: the controller''s database was repaired, and machines or findings of this campaign may be missing; look at it, and resume it if all is here')
		WHERE state IN ('active', 'paused', 'deciding') RETURNING name`},
	{"", `UPDATE targets SET compared = 0, data = json_set(data, '$.compared.version', 0) WHERE compared <> 0 AND json_extract(data, '$.compared.version') IS NOT NULL
		AND campaign IN (SELECT id FROM campaigns WHERE state = 'paused') RETURNING ''`},
	// A reservation without its deployment holds nothing that is known of: what this lab still holds at its provider is found there.
	{"", "DELETE FROM deployments WHERE reservation NOT IN (SELECT id FROM reservations) OR machine NOT IN (SELECT id FROM machines) RETURNING 'deployment ' || id"},
	{"", `UPDATE reservations SET state = 'ended', data = json_set(data, '$.state', 'ended', '$.ending', 'lost', '$.ended_by', 'certlab')
		WHERE state IN ('preparing', 'ready', 'releasing') AND json_extract(data, '$.deployment') NOT IN (SELECT id FROM deployments) RETURNING 'reservation ' || id`},
	{"", "DELETE FROM fleet WHERE machine NOT IN (SELECT id FROM machines) RETURNING ''"},
	{"", "DELETE FROM machine_times WHERE machine NOT IN (SELECT id FROM machines) RETURNING ''"},
	{"", "DELETE FROM lost_jobs WHERE run NOT IN (SELECT id FROM runs) RETURNING ''"},
	{"", "DELETE FROM power_cycles WHERE run NOT IN (SELECT id FROM runs) RETURNING ''"},
	{"", "DELETE FROM files WHERE run NOT IN (SELECT id FROM runs) RETURNING 'file ' || name || ' ' || sha256 || ' of run ' || run"},
	{"", "DELETE FROM attempts WHERE run NOT IN (SELECT id FROM runs) RETURNING 'attempt ' || number || ' of run ' || run"},
	{"", "DELETE FROM gone_files WHERE run NOT IN (SELECT id FROM runs) RETURNING ''"},
}

// mend makes rows that refer to lost ones refer to something, or drops them, and queues all submissions.
func (s *salvager) mend(now time.Time) error {
	for _, m := range mendings {
		ids, err := list(s.ctx, s.to, func(sc scanner) (v string, err error) { return v, sc.Scan(&v) }, m.text)
		if err != nil {
			return err
		}
		for _, id := range ids {
			switch {
			case m.what != "":
				s.out.Rebuilt = append(s.out.Rebuilt, fmt.Sprintf(m.what, id))
			case id != "":
				s.out.Lost = append(s.out.Lost, id)
			}
		}
	}
	if err := s.keys(); err != nil {
		return err
	}
	// A table that was rebuilt above is not lost.
	kept := s.out.Lost[:0]
	for _, lost := range s.out.Lost {
		rebuilt := false
		for _, r := range s.out.Rebuilt {
			rebuilt = rebuilt || strings.HasPrefix(r, lost+" ")
		}
		if !rebuilt {
			kept = append(kept, lost)
		}
	}
	s.out.Lost = kept
	_, err := s.to.ExecContext(s.ctx, "UPDATE submissions SET index_state = 'pending', index_error = ''")
	return err
}

// mendHeader gives the database at path a header again if its own is not one: that of the fresh database, with the number of pages that
// there are. What the header alone does not mend stays as it is.
func mendHeader(path, fresh string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 100)
	if _, err := io.ReadFull(f, head); err != nil || strings.HasPrefix(string(head), "SQLite format 3\x00") {
		return nil // too short to be mended, or good
	}
	model, err := os.Open(fresh)
	if err != nil {
		return err
	}
	defer model.Close()
	if _, err := io.ReadFull(model, head); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	page := int64(binary.BigEndian.Uint16(head[16:]))
	binary.BigEndian.PutUint32(head[28:], uint32(info.Size()/page))
	binary.BigEndian.PutUint32(head[32:], 0) // no free pages: they are only lost
	binary.BigEndian.PutUint32(head[36:], 0)
	binary.BigEndian.PutUint32(head[44:], 4) // schema format
	binary.BigEndian.PutUint32(head[56:], 1) // UTF-8
	copy(head[92:96], head[24:28])
	_, err = f.WriteAt(head, 0)
	return err
}

// ErrNothing says that a salvage found nothing to keep.
var ErrNothing = cert.Errorf(cert.Rejected, "cannot repair: nothing of the database can be read, and no backup was given (repair with a backup, or restore one)")
