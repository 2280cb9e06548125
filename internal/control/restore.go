package control

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/durable"
	"certlab/internal/sqlite"
)

// Restoring has two halves. Stage unpacks a backup beside the data in place and verifies it whole; PutInPlace then moves the data in
// place aside and the copy in. Between the two there is a file that says so, and PutInPlace is called at every start, so that a
// power cut in the middle of it is made good.

func (s staged) names() []string {
	if len(s.Names) == 0 {
		return restorable
	}
	return s.Names
}

const stagedName = "restore.json"

type staged struct {
	Copy  string   `json:"copy"`            // directory with the verified copy
	Aside string   `json:"aside"`           // directory that the data in place goes to
	Names []string `json:"names,omitempty"` // what is replaced; empty: restorable
}

// restorable are the names that a restore replaces.
var restorable = []string{databaseName, databaseName + "-wal", databaseName + "-shm", databaseName + sqlite.DamageName, blobsName, keysName}

// Restore stages a backup. It is put in place when the service starts again. From its beginning on no write is taken, so that nothing is
// acknowledged that would then be gone.
func (l *Lab) Restore(ctx context.Context, path string) (cert.Restored, error) {
	if !l.replacing.TryLock() {
		return cert.Restored{}, cert.Errorf(cert.Conflict, "cannot restore: %s", replaced)
	}
	l.DB.Refuse(restoring)
	done, err := Stage(ctx, l.Data, path, l.Now())
	if err != nil {
		l.DB.Refuse("")
		l.replacing.Unlock()
	}
	return done, err
}

const (
	maxManifest = 512 << 20 // bytes
	maxMember   = 1 << 40   // bytes
)

var memberPattern = regexp.MustCompile(`^(certlab\.db|keys/[A-Za-z0-9][A-Za-z0-9._-]*|blobs/[0-9a-f]{64})$`)

// Stage unpacks the backup in the file at path, verifies it, and arranges for PutInPlace to put it in place. What is wrong with the
// backup is a cert.Error.
func Stage(ctx context.Context, data Data, path string, now time.Time) (done cert.Restored, err error) {
	f, err := os.Open(path)
	if err != nil {
		return done, cert.Errorf(cert.Invalid, "cannot restore: %v", err)
	}
	defer f.Close()
	if err := os.MkdirAll(data.Dir, 0o700); err != nil {
		return done, fmt.Errorf("cannot restore: %w", err)
	}
	if _, err := os.Stat(filepath.Join(data.Dir, stagedName)); err == nil {
		return done, cert.Errorf(cert.Conflict, "cannot restore: another restored copy waits to be put in place (restart the service)")
	}
	work, err := os.MkdirTemp(data.Dir, ".restore-*")
	if err != nil {
		return done, fmt.Errorf("cannot restore: %w", err)
	}
	keep := false
	defer func() {
		if !keep {
			os.RemoveAll(work)
		}
	}()
	m, err := unpack(ctx, f, work)
	if err != nil {
		return done, fmt.Errorf("cannot restore %s: %w", path, err)
	}
	report, err := Check(ctx, Data{Dir: work})
	if err == nil && len(report.Damage) > 0 {
		err = cert.Errorf(cert.Rejected, "cannot restore %s: its database is damaged: %s", path, strings.Join(report.Damage, "; "))
	}
	if err == nil {
		err = onlyMissing(report, m)
	}
	if err == nil {
		err = goBack(ctx, work, m, now)
	}
	if err != nil {
		return done, err
	}
	if done.SetAside, err = stage(data, work, restorable, now); err != nil {
		return done, fmt.Errorf("cannot restore: %w", err)
	}
	keep = true
	done.BackupCreated, done.Schema = m.Created, m.Schema
	done.Blobs, done.Bytes = report.Blobs, report.Bytes
	return done, nil
}

// onlyMissing fails unless the files that are bad are those that the backup says it does not have.
func onlyMissing(report CheckReport, m manifest) error {
	said := make(map[string]bool, len(m.Missing))
	for _, sha := range m.Missing {
		said[sha] = true
	}
	for _, b := range report.Bad {
		if !said[b.SHA256] {
			return cert.Errorf(cert.Rejected, "cannot restore: in the backup %s", badLine(b))
		}
	}
	return nil
}

// goBack makes the copy an epoch of its own: agents will say what they have delivered since the backup was made.
func goBack(ctx context.Context, work string, m manifest, now time.Time) error {
	db, err := sqlite.Open(ctx, filepath.Join(work, databaseName))
	if err != nil {
		return fmt.Errorf("cannot restore: %w", err)
	}
	err = db.NewEpoch(ctx, "restore", now)
	for _, sha := range m.Missing {
		if err == nil {
			err = db.MarkBad(ctx, sha, fileMissing, now)
		}
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("cannot restore: %w", err)
	}
	return nil
}

func rejected(format string, args ...any) error { return cert.Errorf(cert.Rejected, format, args...) }

// readManifest reads the first member of a backup, and checks that this certlabd can do something with the rest.
func readManifest(in *tar.Reader) (m manifest, err error) {
	h, err := in.Next()
	if err != nil || h.Name != manifestName || h.Size > maxManifest {
		return m, rejected("it is not a backup of Certlab: a tar archive that begins with %s", manifestName)
	}
	if err := json.NewDecoder(in).Decode(&m); err != nil {
		return m, rejected("its manifest cannot be read: %v", err)
	}
	if m.Format != backupFormat {
		return m, rejected("its format is %d, this certlabd knows %d (refresh cert-controller)", m.Format, backupFormat)
	}
	if m.Schema > sqlite.Version {
		return m, rejected("a newer certlabd made it (%s, schema %d; this one knows up to %d): refresh cert-controller first", m.Version, m.Schema, sqlite.Version)
	}
	for _, info := range m.Members {
		if !memberPattern.MatchString(info.Name) || info.Size < 0 || info.Size > maxMember {
			return m, rejected("its manifest names %q, which is no part of a backup", info.Name)
		}
	}
	return m, nil
}

// unpack writes a backup's members to dir, each verified against the manifest and synced.
func unpack(ctx context.Context, r io.Reader, dir string) (m manifest, err error) {
	in := tar.NewReader(contextReader{ctx, r})
	if m, err = readManifest(in); err != nil {
		return m, err
	}
	want := make(map[string]memberInfo, len(m.Members))
	for _, info := range m.Members {
		want[info.Name] = info
	}
	if _, ok := want[databaseName]; !ok {
		return m, rejected("its manifest names no database")
	}
	dirs := map[string]bool{dir: true}
	for {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return m, rejected("it is cut off or damaged: %v", err)
		}
		info, ok := want[h.Name]
		if !ok || h.Typeflag != tar.TypeReg || h.Size != info.Size {
			return m, rejected("its member %q is not what its manifest says", h.Name)
		}
		delete(want, h.Name)
		target := filepath.Join(dir, filepath.FromSlash(h.Name))
		if sha, ok := strings.CutPrefix(h.Name, blobsName+"/"); ok {
			target = filepath.Join(dir, blobsName, sha[:2], sha)
		}
		if err := unpackMember(in, target, info, dirs); err != nil {
			return m, err
		}
	}
	for name := range want {
		return m, rejected("it is cut off: %d members are missing, %s among them", len(want), name)
	}
	for d := range dirs {
		if err := durable.SyncDir(d); err != nil {
			return m, err
		}
	}
	return m, nil
}

func unpackMember(in io.Reader, target string, info memberInfo, dirs map[string]bool) error {
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return err
	}
	dirs[filepath.Dir(target)], dirs[filepath.Dir(filepath.Dir(target))] = true, true
	f, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(f, sum), in); err != nil {
		return rejected("%s: it is cut off or damaged: %v", info.Name, err)
	}
	if hexSum(sum) != info.SHA256 {
		return rejected("%s does not have the SHA-256 that the manifest says", info.Name)
	}
	return f.Sync()
}

// PutInPlace puts a staged copy in place, if there is one, and returns the directory that the data before it went to. It is called
// with the data locked and nothing of it open.
func PutInPlace(data Data) (aside string, err error) {
	mark := filepath.Join(data.Dir, stagedName)
	text, err := os.ReadFile(mark)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot put the restored copy in place: %w", err)
	}
	var s staged
	if err := json.Unmarshal(text, &s); err != nil {
		return "", fmt.Errorf("cannot put the restored copy in place: %s: %w", mark, err)
	}
	copied := filepath.Join(data.Dir, s.Copy)
	_, err = os.Stat(copied)
	if err == nil {
		if err := swap(data.Dir, copied, s.Aside, s.names()); err != nil {
			return "", fmt.Errorf("cannot put the restored copy in place: %w", err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("cannot put the restored copy in place: %w", err)
	}
	if err := os.Remove(mark); err != nil {
		return "", fmt.Errorf("cannot put the restored copy in place: %w", err)
	}
	if s.Aside == "" {
		return "", durable.SyncDir(data.Dir)
	}
	return filepath.Join(data.Dir, s.Aside), durable.SyncDir(data.Dir)
}

// swap moves what is in place aside, then the copy in, and removes the copy's directory. It can be repeated: "aside.done" in the copy
// says that what is in place from then on is the copy's.
func swap(dir, copied, aside string, names []string) error {
	mark := filepath.Join(copied, "aside.done")
	if _, err := os.Lstat(mark); errors.Is(err, fs.ErrNotExist) {
		for _, name := range names {
			err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, aside, name))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if aside != "" {
			if err := durable.SyncDir(filepath.Join(dir, aside)); err != nil {
				return err
			}
		}
		if err := durable.SyncDir(dir); err != nil {
			return err
		}
		if err := durable.WriteFile(mark, nil, 0o600); err != nil {
			return err
		}
	}
	for _, name := range names {
		err := os.Rename(filepath.Join(copied, name), filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := durable.SyncDir(dir); err != nil {
		return err
	}
	return os.RemoveAll(copied)
}
