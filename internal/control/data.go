package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"certlab/internal/sqlite"
)

// Data is the controller's storage.
type Data struct{ Dir string }

// Names in the storage.
const (
	databaseName = "certlab.db"
	blobsName    = "blobs"
	keysName     = "keys"
	lockName     = "lock"
	ballastName  = "ballast"
)

// Database is the path of the database.
func (d Data) Database() string { return filepath.Join(d.Dir, databaseName) }

// Blobs is the directory of the submissions' bytes.
func (d Data) Blobs() string { return filepath.Join(d.Dir, blobsName) }

// Keys is the directory of the CA and the server certificate.
func (d Data) Keys() string { return filepath.Join(d.Dir, keysName) }

// OpenDatabase opens the database. An empty or missing one is made only where there is nothing that it would have to know of: a storage
// with keys and no database has lost it.
func (d Data) OpenDatabase(ctx context.Context) (*sqlite.DB, error) {
	info, err := os.Stat(d.Database())
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		keys, globErr := filepath.Glob(filepath.Join(d.Keys(), "ca-*.crt"))
		if globErr != nil {
			return nil, globErr
		}
		if len(keys) > 0 {
			what := "missing"
			if err == nil {
				what = "empty"
			}
			return nil, fmt.Errorf("cannot open database %s: it is %s, although this storage has been in use (repair it with certlabd repair --backup FILE, or restore a backup)",
				d.Database(), what)
		}
	}
	db, err := sqlite.OpenAlone(ctx, d.Database())
	if sqlite.Full(err) {
		// What was kept for this moment makes room for the log that SQLite needs even to read.
		if os.Remove(filepath.Join(d.Dir, ballastName)) == nil {
			db, err = sqlite.OpenAlone(ctx, d.Database())
		}
	}
	if sqlite.Full(err) {
		return nil, fmt.Errorf("cannot open database %s: the disk is full (make room in %s; it goes on by itself): %w", d.Database(), d.Dir, err)
	}
	return db, err
}

// ballast is how many bytes are kept free for a start on a full disk: SQLite needs some for its log and the log's index.
const ballast = 1 << 20

// keepBallast makes the ballast if it is not there. Where there is no room for it, it is made later.
func (d Data) keepBallast() error {
	path := filepath.Join(d.Dir, ballastName)
	if info, err := os.Stat(path); err == nil && info.Size() == ballast {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, ballast), f.Close())
	if err != nil {
		os.Remove(path)
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// Lock takes the storage for this process and returns what gives it back; the kernel does so when the process ends. It does not wait:
// a second process is told at once.
func (d Data) Lock() (release func(), err error) {
	if err := os.MkdirAll(d.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot use the data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(d.Dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		if errors.Is(err, unix.EROFS) {
			return nil, fmt.Errorf("cannot use the data directory %s: the storage is read-only (see the kernel's log, and mount it for writing)", d.Dir)
		}
		if errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("cannot use the data directory %s: %w (it must belong to the user that certlabd runs as)", d.Dir, err)
		}
		if errors.Is(err, unix.ENOSPC) {
			return nil, fmt.Errorf("cannot use the data directory %s: the disk is full (make room; it goes on by itself)", d.Dir)
		}
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
