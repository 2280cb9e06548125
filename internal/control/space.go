package control

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"certlab/internal/cert"
)

const spaceInterval = 10 * time.Second

func freeBytes(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("cannot measure the free space of %s: %w", dir, err)
	}
	return int64(s.Bavail) * s.Bsize, nil
}

// measure looks at the free space, and wakes everybody who waits when there is enough again.
func (l *Lab) measure() {
	free, err := l.Free(l.Data.Dir)
	if err != nil {
		l.Logger.Error("cannot measure the free space", "error", err)
		return
	}
	l.free.Store(free)
	low := free < l.Desired().MinFreeBytes
	if was := l.low.Swap(low); was != low {
		if low {
			l.Logger.Warn("too little disk space is free: no new runs are handed out", "free_bytes", free, "min_free_bytes", l.Desired().MinFreeBytes)
		} else {
			l.Logger.Info("enough disk space is free again", "free_bytes", free)
			l.hub.wakeAll()
		}
		l.Refresh()
	}
}

func (l *Lab) spaceLoop(ctx context.Context) error {
	return l.every(ctx, "watch the free space", spaceInterval, func(ctx context.Context) error {
		l.measure()
		if free, _ := l.Space(); free > 16*ballast {
			if err := l.Data.keepBallast(); err != nil {
				return err
			}
		}
		return l.probe(ctx)
	})
}

// Space returns the free bytes at the last look, and whether they are fewer than must stay free.
func (l *Lab) Space() (free int64, low bool) { return l.free.Load(), l.low.Load() }

// RoomForRuns fails as NoSpace when no new runs are taken.
func (l *Lab) RoomForRuns() error {
	l.measure()
	free, low := l.Space()
	if !low {
		return nil
	}
	return cert.Errorf(cert.NoSpace, "cannot start a run: %d MiB are free in %s and %d MiB must stay free (make room, extend the storage, or lower min-free-space)",
		free>>20, l.Data.Dir, l.Desired().MinFreeBytes>>20)
}
