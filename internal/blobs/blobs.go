// Package blobs keeps files by their SHA-256, in a directory on the same file system as the database.
//
// A file arrives in parts: Append puts bytes behind those that are durable already and syncs them before it returns, so that an upload
// that was cut goes on where it was. When the last byte is there the whole is read back and hashed; only what has the promised
// hash is renamed into place, and file and directories are synced before Append says that it is complete.
//
// Layout: <dir>/<first two hex digits>/<sha256>, and <dir>/partial/<upload> for what is on its way. After a crash at any point
// each file is either complete under its hash or a partial that can be continued.
package blobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"time"

	"certlab/internal/durable"
)

// A Store is a directory of blobs. It is safe for concurrent use by one process.
type Store struct {
	dir  string
	keep sync.RWMutex // held for reading while a blob is put in place and recorded, for writing while one is removed

	mu      sync.Mutex
	busy    map[string]bool // uploads in progress
	lasting map[string]bool // directories whose own names were synced since the start

	onStep func(step string)
}

// OnStep has fn called before and after each step that changes the disk, where tests cut the power. It is set before the store is used.
func (s *Store) OnStep(fn func(step string)) { s.onStep = fn }

func (s *Store) step(name string) {
	if s.onStep != nil {
		s.onStep(name)
	}
}

// Errors that callers tell apart.
var (
	ErrBusy = errors.New("another request is writing this upload")
	ErrHash = errors.New("the bytes do not have the promised SHA-256")
	ErrSize = errors.New("more bytes than were promised")
)

// An OffsetError means that the bytes do not continue what is durable.
type OffsetError struct {
	Have int64 // bytes that are durable
}

func (e *OffsetError) Error() string {
	return fmt.Sprintf("the upload has %d durable bytes: continue there", e.Have)
}

const partialDir = "partial"

var (
	shaPattern    = regexp.MustCompile(`^[0-9a-f]{64}$`)
	uploadPattern = regexp.MustCompile(`^[0-9A-Za-z.-]{1,200}$`)
)

// Open opens the store in dir and makes the directory if needed.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(filepath.Join(dir, partialDir), 0o700); err != nil {
		return nil, fmt.Errorf("cannot open the blob store: %w", err)
	}
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := durable.SyncDir(d); err != nil {
			return nil, fmt.Errorf("cannot open the blob store: %w", err)
		}
	}
	return &Store{dir: dir, busy: make(map[string]bool), lasting: make(map[string]bool)}, nil
}

func (s *Store) path(sha string) string { return filepath.Join(s.dir, sha[:2], sha) }

// Upload names one upload: who uploads, and what it will be. Two uploads of the same bytes do not meet before they are complete.
type Upload struct {
	Owner  string // letters, digits, dots and dashes
	SHA256 string
	Size   int64 // of the whole, in bytes
}

func (s *Store) partial(u Upload) (string, error) {
	if !shaPattern.MatchString(u.SHA256) {
		return "", fmt.Errorf("cannot use %q: not a SHA-256 in lower-case hexadecimal", u.SHA256)
	}
	if !uploadPattern.MatchString(u.Owner) {
		return "", fmt.Errorf("cannot use the upload owner %q", u.Owner)
	}
	return filepath.Join(s.dir, partialDir, u.Owner+"_"+u.SHA256), nil
}

// Offset returns how many bytes of an upload are durable: 0 for one that is not known.
func (s *Store) Offset(u Upload) (int64, error) {
	path, err := s.partial(u)
	if err != nil {
		return 0, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("cannot read the upload: %w", err)
	}
	defer f.Close()
	// Bytes of a request that a crash cut short may not be on disk yet.
	if err := f.Sync(); err != nil {
		return 0, fmt.Errorf("cannot sync the upload: %w", err)
	}
	if err := durable.SyncDir(filepath.Dir(path)); err != nil {
		return 0, fmt.Errorf("cannot sync the upload: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("cannot read the upload: %w", err)
	}
	return info.Size(), nil
}

// Append writes the bytes of r at offset, which must be where the durable bytes end (*OffsetError otherwise). What arrived before r
// failed is kept and durable; offset is then where to go on, and err is r's. complete means that the whole is in place under its hash and that commit, which records it
// somewhere, has succeeded: between the two no blob is removed. If commit fails, the bytes stay durable, and an Append of nothing at
// their end tries again. ErrHash and ErrSize discard the upload: it starts again at 0. A blob of that hash that is there already is
// replaced, so that bytes that were damaged on disk can be uploaded again.
func (s *Store) Append(ctx context.Context, u Upload, at int64, r io.Reader, commit func() error) (offset int64, complete bool, err error) {
	path, err := s.partial(u)
	if err != nil {
		return 0, false, err
	}
	if !s.begin(path) {
		return 0, false, ErrBusy
	}
	defer s.end(path)

	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, false, fmt.Errorf("cannot write the upload: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, false, fmt.Errorf("cannot write the upload: %w", err)
	}
	// What is placed already shares its bytes with the blob: nothing is added to it.
	if info.Size() > u.Size || info.Size() < u.Size && placed(info) {
		return 0, false, s.discard(path, ErrSize)
	}
	if info.Size() != at {
		return info.Size(), false, &OffsetError{Have: info.Size()}
	}
	if _, err := f.Seek(at, io.SeekStart); err != nil {
		return at, false, fmt.Errorf("cannot write the upload: %w", err)
	}
	s.step("write")
	to := io.Writer(f)
	if at == u.Size {
		to = io.Discard // the file may share its bytes with the blob: an excess must not reach it
	}
	written, copyErr := io.Copy(to, io.LimitReader(reader{ctx, r}, u.Size-at+1))
	offset = at + written
	if offset > u.Size {
		return 0, false, s.discard(path, ErrSize)
	}
	s.step("written")
	if err := f.Sync(); err != nil {
		return at, false, fmt.Errorf("cannot write the upload: %w", err)
	}
	// What is whole gets its lasting name below: an upload's own has to last only when more is to come.
	if at == 0 && (copyErr != nil || offset < u.Size) {
		if err := durable.SyncDir(filepath.Dir(path)); err != nil {
			return 0, false, fmt.Errorf("cannot write the upload: %w", err)
		}
	}
	if copyErr != nil {
		return offset, false, copyErr
	}
	if offset < u.Size {
		return offset, false, nil
	}
	if err := hasHash(f, u.SHA256); err != nil {
		if errors.Is(err, ErrHash) {
			return 0, false, s.discard(path, ErrHash)
		}
		return offset, false, err
	}
	s.keep.RLock()
	defer s.keep.RUnlock()
	if err := s.place(path, u.SHA256); err != nil {
		return offset, false, err
	}
	s.step("placed")
	if err := commit(); err != nil {
		return offset, false, err
	}
	s.step("recorded")
	// What is left of it when this fails, or a crash comes before, is swept like uploads that were given up.
	_ = os.Remove(path)
	return offset, true, nil
}

// placed reports whether a partial has another name: that of the blob.
func placed(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Nlink > 1
}

func (s *Store) begin(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[path] {
		return false
	}
	s.busy[path] = true
	return true
}

func (s *Store) end(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.busy, path)
}

func (s *Store) discard(path string, why error) error {
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("cannot discard the upload: %w", err)
	}
	return why
}

func hasHash(f *os.File, sha string) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("cannot check the upload: %w", err)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return fmt.Errorf("cannot check the upload: %w", err)
	}
	if hex.EncodeToString(sum.Sum(nil)) != sha {
		return ErrHash
	}
	return nil
}

// place puts the synced file at path where its hash says, too: until the blob is recorded, the upload can go on.
func (s *Store) place(path, sha string) error {
	target := s.path(sha)
	if _, err := os.Stat(filepath.Dir(target)); errors.Is(err, fs.ErrNotExist) {
		s.mu.Lock()
		delete(s.lasting, filepath.Dir(target))
		s.mu.Unlock()
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return fmt.Errorf("cannot store the upload: %w", err)
	}
	err := os.Link(path, target)
	if errors.Is(err, fs.ErrExist) {
		err = replace(path, target)
	}
	if err != nil {
		return fmt.Errorf("cannot store the upload: %w", err)
	}
	s.step("linked")
	return s.syncName(filepath.Dir(target))
}

// syncName makes the names in one of the store's directories last, and once also that of the directory itself, which this or a process
// before may have made a moment before it was killed.
func (s *Store) syncName(dir string) error {
	s.mu.Lock()
	lasting := s.lasting[dir]
	s.mu.Unlock()
	dirs := []string{dir}
	if !lasting {
		dirs = append(dirs, s.dir)
	}
	for _, d := range dirs {
		if err := durable.SyncDir(d); err != nil {
			return fmt.Errorf("cannot store the upload: %w", err)
		}
	}
	s.mu.Lock()
	s.lasting[dir] = true
	s.mu.Unlock()
	return nil
}

// replace makes target another name of the file at path.
func replace(path, target string) error {
	have, err := os.Stat(target)
	if err != nil {
		return err
	}
	if want, err := os.Stat(path); err != nil || os.SameFile(have, want) {
		return err
	}
	over := path + ".over"
	if err := os.Remove(over); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Link(path, over); err != nil {
		return err
	}
	return os.Rename(over, target)
}

// A Blob is an open blob.
type Blob struct {
	*os.File
	Size int64
}

// Open opens a blob for reading. The error is fs.ErrNotExist if there is none.
func (s *Store) Open(sha string) (*Blob, error) {
	if !shaPattern.MatchString(sha) {
		return nil, fs.ErrNotExist
	}
	f, err := os.Open(s.path(sha))
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Blob{f, info.Size()}, nil
}

// Size returns the size of a blob. The error is fs.ErrNotExist if there is none.
func (s *Store) Size(sha string) (int64, error) {
	if !shaPattern.MatchString(sha) {
		return 0, fs.ErrNotExist
	}
	info, err := os.Stat(s.path(sha))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Verify reads a blob and checks that it has its hash: ErrHash, also where the disk cannot give its bytes back, or fs.ErrNotExist.
func (s *Store) Verify(ctx context.Context, sha string) error {
	b, err := s.Open(sha)
	if err != nil {
		return lostBytes(err)
	}
	defer b.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, reader{ctx, b}); err != nil {
		return lostBytes(fmt.Errorf("cannot read blob %s: %w", sha, err))
	}
	if hex.EncodeToString(sum.Sum(nil)) != sha {
		return ErrHash
	}
	return nil
}

// lostBytes makes an error that says that a place on the disk is bad an ErrHash: one such file must not keep the others from being looked at.
func lostBytes(err error) error {
	for _, bad := range []error{syscall.EIO, syscall.EUCLEAN, syscall.EBADMSG} {
		if errors.Is(err, bad) {
			return fmt.Errorf("%w: %w", ErrHash, err)
		}
	}
	return err
}

// OlderThan reports whether a blob was put in place before then. One that is not there is not.
func (s *Store) OlderThan(sha string, then time.Time) bool {
	if !shaPattern.MatchString(sha) {
		return false
	}
	info, err := os.Stat(s.path(sha))
	return err == nil && info.ModTime().Before(then)
}

// RemoveUnless removes a blob unless used reports that it is still named somewhere. No upload commits while it asks and removes.
func (s *Store) RemoveUnless(sha string, used func() (bool, error)) error {
	if !shaPattern.MatchString(sha) {
		return nil
	}
	s.keep.Lock()
	defer s.keep.Unlock()
	inUse, err := used()
	if err != nil || inUse {
		return err
	}
	if err := os.Remove(s.path(sha)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove blob %s: %w", sha, err)
	}
	return nil
}

// Each calls fn with the hash and size of every blob, in the order of their hashes.
func (s *Store) Each(fn func(sha string, size int64) error) error {
	dirs, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("cannot list blobs: %w", err)
	}
	for _, d := range dirs {
		if !d.IsDir() || len(d.Name()) != 2 {
			continue
		}
		entries, err := os.ReadDir(filepath.Join(s.dir, d.Name()))
		if err != nil {
			return fmt.Errorf("cannot list blobs: %w", err)
		}
		for _, e := range entries {
			if !shaPattern.MatchString(e.Name()) {
				continue
			}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return fmt.Errorf("cannot list blobs: %w", err)
			}
			if err := fn(e.Name(), info.Size()); err != nil {
				return err
			}
		}
	}
	return nil
}

// SweepPartials removes uploads that nothing was added to since before, and returns how many.
func (s *Store) SweepPartials(before time.Time) (int, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, partialDir))
	if err != nil {
		return 0, fmt.Errorf("cannot list uploads: %w", err)
	}
	removed := 0
	for _, e := range entries {
		path := filepath.Join(s.dir, partialDir, e.Name())
		info, err := e.Info()
		if err != nil || !info.ModTime().Before(before) || !s.begin(path) {
			continue
		}
		err = os.Remove(path)
		s.end(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return removed, fmt.Errorf("cannot remove an old upload: %w", err)
		}
		removed++
	}
	return removed, nil
}

// reader stops at the context's end.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// Discard forgets an upload that will not be continued.
func (s *Store) Discard(u Upload) error {
	path, err := s.partial(u)
	if err != nil {
		return err
	}
	if !s.begin(path) {
		return ErrBusy
	}
	defer s.end(path)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot discard the upload: %w", err)
	}
	return nil
}
