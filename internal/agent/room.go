package agent

import (
	"errors"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"certlab/internal/order"
)

// orFull is err, or, where the disk is full and may be why, that.
func (t *attempt) orFull(err error) error {
	var f *failure
	if !errors.As(err, &f) {
		return err
	}
	for _, dir := range []string{t.agent.opts.Dir, t.agent.opts.SessionsDir, t.agent.opts.TempDir} {
		free, statErr := freeBytes(dir)
		if statErr == nil && free < t.agent.opts.MinFree {
			return fail(order.FailSpool, "the machine's disk is full, only %d MiB are free in %s (make room, and run the plan again): %s", free>>20, dir, f.Message)
		}
	}
	if strings.Contains(f.Message, "No space left on device") {
		return fail(order.FailSpool, "the machine's disk was full (make room, and run the plan again): %s", f.Message)
	}
	return err
}

// plainly is the end of err's text that an operator understands.
func plainly(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// freeBytes is what root may still write to the file system of dir.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}
