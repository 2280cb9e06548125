package hooks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// files is what dispatch keeps on the machine for itself: the lock, what Juju cannot be asked for, and that the unit is being removed.
// All of it may be lost without harm.
type files struct {
	dir  string
	step func(string) // nil: nobody is told
}

const (
	lockFile    = "lock"
	versionFile = "application-version"
	removedFile = "removed"

	lockPoll = 50 * time.Millisecond
)

// lock waits until no other dispatch of the unit runs. The kernel gives it back when the process ends, however it does.
func (f *files) lock(ctx context.Context, wait time.Duration) (unlock func(), err error) {
	if err := f.make(); err != nil {
		return nil, fmt.Errorf("cannot keep a lock: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(f.dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot keep a lock: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			file.Close()
			return nil, fmt.Errorf("cannot lock %s: %w", file.Name(), err)
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, fmt.Errorf("cannot run now: another hook of this unit has been running for more than %s (its process holds %s)", wait, file.Name())
		case <-time.After(lockPoll):
		}
	}
}

// make makes the directory. What is above it is everybody's way to what else the unit keeps there.
func (f *files) make() error {
	if err := os.MkdirAll(filepath.Dir(f.dir), 0o755); err != nil {
		return err
	}
	return os.MkdirAll(f.dir, 0o700)
}

// version is the application version that was set last, empty if that is not known.
func (f *files) version() string {
	b, err := os.ReadFile(filepath.Join(f.dir, versionFile))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(b), "\n")
}

func (f *files) setVersion(version string) error { return f.write(versionFile, version+"\n") }

// removed reports whether Remove has begun.
func (f *files) removed() bool {
	_, err := os.Stat(filepath.Join(f.dir, removedFile))
	return err == nil
}

func (f *files) setRemoved(removed bool) error {
	if removed {
		return f.write(removedFile, "")
	}
	err := os.Remove(filepath.Join(f.dir, removedFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// forget deletes everything, and the directory above if it is empty then.
func (f *files) forget() error {
	if f.step != nil {
		f.step("forget everything")
	}
	err := os.RemoveAll(f.dir)
	os.Remove(filepath.Dir(f.dir))
	return err
}

func (f *files) write(name, text string) error {
	if err := f.make(); err != nil {
		return err
	}
	temp, err := os.CreateTemp(f.dir, "."+name+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	if f.step != nil {
		f.step("write " + name)
	}
	defer temp.Close()
	if _, err := temp.WriteString(text); err != nil {
		return err
	}
	if err := temp.Sync(); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), filepath.Join(f.dir, name)); err != nil {
		return err
	}
	dir, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
