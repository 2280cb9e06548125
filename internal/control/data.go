package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Data is the controller's storage.
type Data struct{ Dir string }

// Names in the storage.
const (
	databaseName = "certlab.db"
	blobsName    = "blobs"
	keysName     = "keys"
	lockName     = "lock"
)

// Database is the path of the database.
func (d Data) Database() string { return filepath.Join(d.Dir, databaseName) }

// Blobs is the directory of the submissions' bytes.
func (d Data) Blobs() string { return filepath.Join(d.Dir, blobsName) }

// Keys is the directory of the CA and the server certificate.
func (d Data) Keys() string { return filepath.Join(d.Dir, keysName) }

// Lock takes the storage for this process and returns what gives it back; the kernel does so when the process ends. It does not wait:
// a second process is told at once.
func (d Data) Lock() (release func(), err error) {
	if err := os.MkdirAll(d.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot use the data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(d.Dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("cannot use the data directory %s: another certlabd is running on it", d.Dir)
		}
		return nil, fmt.Errorf("cannot lock the data directory %s: %w", d.Dir, err)
	}
	return func() { f.Close() }, nil
}

// sweepWork removes what backups and restores that crashed before then have left, unless it waits to be put in place.
func (d Data) sweepWork(before time.Time) error {
	if _, err := os.Stat(filepath.Join(d.Dir, stagedName)); err == nil {
		return nil
	}
	for _, pattern := range []string{".backup-*", ".restore-*"} {
		paths, err := filepath.Glob(filepath.Join(d.Dir, pattern))
		if err != nil {
			return err
		}
		for _, path := range paths {
			info, err := os.Stat(path)
			if err != nil || !info.ModTime().Before(before) {
				continue
			}
			if err := os.RemoveAll(path); err != nil {
				return fmt.Errorf("cannot remove what a crash has left: %w", err)
			}
		}
	}
	return nil
}
