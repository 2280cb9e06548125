package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"certlab/internal/cert"
)

type noticeRow struct {
	cert.SentNotice
	seq int64
	due time.Time
}

const noticeColumns = "seq, data, due, tries, delivered, given_up, error"

func scanNotice(s scanner) (n noticeRow, err error) {
	err = s.Scan(&n.seq, jsonColumn{&n.Notice}, timeColumn{&n.due}, &n.Tries, timePtrColumn{&n.Delivered}, timePtrColumn{&n.GivenUp}, &n.Error)
	if n.Delivered == nil && n.GivenUp == nil {
		due := n.due
		n.Next = &due
	}
	return n, err
}

// Notice stores what others have to be told, with what it tells of. One that is there already stays as it is.
func (t *FleetTx) Notice(n cert.Notice) error {
	_, err := t.tx.ExecContext(t.ctx, "INSERT INTO notices (id, due, tries, error, data) VALUES (?, ?, 0, '', ?) ON CONFLICT (id) DO NOTHING", n.ID, micros(n.At), mustJSON(n))
	if err != nil {
		return fmt.Errorf("cannot store a notice: %w", err)
	}
	return nil
}

// Notices lists notices, the newest first.
func (db *DB) Notices(ctx context.Context, p Page) ([]cert.SentNotice, string, error) {
	var w where
	var before int64
	if more, err := p.parse("n", &before); err != nil {
		return nil, "", err
	} else if more {
		w.add("seq < ?", before)
	}
	rows, err := list(ctx, db.r, scanNotice, "SELECT "+noticeColumns+" FROM notices"+w.String()+" ORDER BY seq DESC LIMIT ?", append(w.args, p.Limit+1)...)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > p.Limit {
		rows = rows[:p.Limit]
		next = cursor("n", rows[p.Limit-1].seq)
	}
	out := make([]cert.SentNotice, len(rows))
	for n, r := range rows {
		out[n] = r.SentNotice
	}
	return out, next, nil
}

// DueNotices returns notices that are to be sent now, the longest due first.
func (db *DB) DueNotices(ctx context.Context, now time.Time, limit int) ([]cert.SentNotice, error) {
	rows, err := list(ctx, db.r, scanNotice, "SELECT "+noticeColumns+` FROM notices WHERE delivered IS NULL AND given_up IS NULL AND due <= ?
		ORDER BY due, seq LIMIT ?`, micros(now), limit)
	out := make([]cert.SentNotice, len(rows))
	for n, r := range rows {
		out[n] = r.SentNotice
	}
	return out, err
}

// A NoticeTry is what became of one try at sending a notice.
type NoticeTry struct {
	At        time.Time
	Delivered bool
	GivenUp   bool
	Error     string
	Next      time.Time // of the next try, if it is neither
}

// NoticeTried stores what became of a try.
func (db *DB) NoticeTried(ctx context.Context, id string, t NoticeTry) error {
	var delivered, given any
	if t.Delivered {
		delivered = micros(t.At)
	}
	if t.GivenUp {
		given = micros(t.At)
	}
	next := t.Next
	if next.IsZero() {
		next = t.At
	}
	return db.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "UPDATE notices SET tries = tries + 1, due = ?, delivered = ?, given_up = ?, error = ? WHERE id = ?",
			micros(next), delivered, given, t.Error, id); err != nil {
			return fmt.Errorf("cannot store what became of a notice: %w", err)
		}
		return nil
	})
}

// NoticeCounts returns how many notices wait and how many were given up.
func (db *DB) NoticeCounts(ctx context.Context) (waiting, given int, err error) {
	const text = "SELECT count(*) FILTER (WHERE delivered IS NULL AND given_up IS NULL), count(given_up) FROM notices"
	err = db.r.QueryRowContext(ctx, text).Scan(&waiting, &given)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, noted(db.r, text, fmt.Errorf("cannot count notices: %w", err))
	}
	return waiting, given, nil
}
