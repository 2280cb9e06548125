package control

import (
	"context"
	"fmt"
	"time"

	"certlab/internal/sqlite"
)

// The check of the database in the background reads it in small steps with a pause after each, so that a database of any size costs a
// small part of one processor and nobody waits: 10 million results take about an hour.
const (
	integrityDelay = 5 * time.Minute // after the start
	integrityEvery = 12 * time.Hour
	integrityPause = 20 * time.Millisecond // after each step
)

// integrityLoop reads the whole database now and then, and looks closely where damage was noticed.
func (l *Lab) integrityLoop(ctx context.Context) error {
	next := time.After(integrityDelay)
	if damage, _, _ := l.DB.Trouble(); damage != nil {
		l.noticed() // an earlier process has found it
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.locate:
			if err := l.DB.Locate(ctx); err != nil && ctx.Err() == nil {
				l.Logger.Error("cannot look for the damage", "error", err)
			}
		case <-next:
			if err := l.CheckDatabase(ctx); err != nil && ctx.Err() == nil {
				l.Logger.Error("cannot check the database", "error", err)
			}
			next = time.After(integrityEvery)
		}
	}
}

// CheckDatabase reads the whole database once, slowly. Damage that it comes upon becomes a problem.
func (l *Lab) CheckDatabase(ctx context.Context) error {
	return l.DB.Scan(ctx, func(ctx context.Context) error { return sleep(ctx, integrityPause) })
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// readLog says what a damaged write-ahead log has cost.
func (l *Lab) readLog(ctx context.Context) error {
	var lost sqlite.LostLog
	found, err := l.DB.Meta(ctx, sqlite.MetaLostLog, &lost)
	if err != nil || !found {
		return err
	}
	text := ""
	if l.Now().Sub(lost.Found) < 7*24*time.Hour {
		text = fmt.Sprintf("the database's log was damaged on disk at %s: up to %d of its last changes were lost; agents deliver again what they keep, results added by hand "+
			"just before have to be added again (the damaged log is %s)", lost.Found.Format(time.RFC3339), lost.Transactions, lost.Kept)
	}
	if say(&l.trouble.log, text) {
		l.Refresh()
	}
	return nil
}
