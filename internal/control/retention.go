package control

import (
	"context"
	"time"
)

const (
	retentionInterval = time.Hour
	retentionBatch    = 100
	partialAge        = 14 * 24 * time.Hour // an upload that nothing was added to for so long is given up
	orphanAge         = 7 * 24 * time.Hour  // a file that no run names may be one whose row is about to be repaired
	workAge           = 24 * time.Hour      // a backup or restore that has been at work for so long has crashed
)

func (l *Lab) retentionLoop(ctx context.Context) error {
	passed := time.Duration(0) // the first time, nobody knows how long
	return l.every(ctx, "remove old results", retentionInterval, func(ctx context.Context) error {
		err := l.Retain(ctx, passed)
		passed = retentionInterval
		return err
	})
}

// Retain removes runs that ended longer ago than the site keeps them, files that no run names, and uploads that were given up. passed is
// how much time has really passed since the last call, without the clock of the day. See believed.go for what is believed of that.
func (l *Lab) Retain(ctx context.Context, passed time.Duration) error {
	if err := l.readLog(ctx); err != nil {
		return err
	}
	if l.DB.Writable() != nil {
		return nil
	}
	now, err := l.believed(ctx, passed)
	if err != nil {
		return err
	}
	if _, err := l.Blobs.SweepPartials(now.Add(-partialAge)); err != nil {
		return err
	}
	if err := l.removeOrphans(ctx, now.Add(-orphanAge)); err != nil {
		return err
	}
	if err := l.Data.sweepWork(now.Add(-workAge)); err != nil {
		return err
	}
	days := l.Desired().RetentionDays
	if days <= 0 {
		return nil
	}
	for removed := 0; ctx.Err() == nil; {
		n, files, err := l.DB.RemoveRuns(ctx, now.AddDate(0, 0, -days), now, retentionBatch)
		if err != nil {
			return err
		}
		for _, sha := range files {
			if err := l.Blobs.RemoveUnless(sha, func() (bool, error) { return l.DB.Used(ctx, sha) }); err != nil {
				return err
			}
		}
		if n > 0 {
			l.Logger.Info("old runs removed", "runs", n, "older_than_days", days)
		}
		if removed += n; n < retentionBatch {
			return l.removeLogs(ctx, removed > 0)
		}
	}
	return ctx.Err()
}

// removeLogs removes what was kept of logs whose results are gone. What a crash leaves goes with the next runs that are removed.
func (l *Lab) removeLogs(ctx context.Context, some bool) error {
	for from := int64(0); some && ctx.Err() == nil; some = from != 0 {
		var err error
		if from, err = l.DB.RemoveUnusedLogs(ctx, from, 10*retentionBatch); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// removeOrphans removes blobs that no run names: of uploads and removals that a crash came between.
func (l *Lab) removeOrphans(ctx context.Context, before time.Time) error {
	return l.Blobs.Each(func(sha string, _ int64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !l.Blobs.OlderThan(sha, before) {
			return nil
		}
		used, err := l.DB.Used(ctx, sha)
		if err != nil || used {
			return err
		}
		// Asked again while no upload can commit.
		return l.Blobs.RemoveUnless(sha, func() (bool, error) { return l.DB.Used(ctx, sha) })
	})
}
