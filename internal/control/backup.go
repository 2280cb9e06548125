package control

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"time"

	"certlab/internal/blobs"
	"certlab/internal/cert"
	"certlab/internal/durable"
	"certlab/internal/sqlite"
	"certlab/internal/version"
)

// A backup is a tar archive: manifest.json first, which names every other member with its size and SHA-256, then the database (a
// consistent copy), the keys, and every blob that the copy of the database names.

const (
	manifestName = "manifest.json"
	backupFormat = 1
)

type manifest struct {
	Format  int          `json:"format"`
	Created time.Time    `json:"created"`
	Version string       `json:"version"` // of the certlabd that made it
	Schema  int          `json:"schema"`  // of the database
	Members []memberInfo `json:"members"`
	// Missing are the hashes of files that the database names and whose bytes were bad when the backup was made.
	Missing []string `json:"missing,omitempty"`
}

type memberInfo struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Backup writes a backup to w.
func (l *Lab) Backup(ctx context.Context, w io.Writer) error {
	_, err := Backup(ctx, l.Data, l.DB, l.Blobs, l.Now(), w)
	return err
}

// BackupTo writes a backup to a new file, which is there whole or not at all.
func (l *Lab) BackupTo(ctx context.Context, path string) (cert.Backup, error) {
	made, err := BackupTo(ctx, l.Data, l.DB, l.Blobs, l.Now(), path)
	if err != nil {
		l.Logger.Error("cannot back up", "to", path, "error", err)
	}
	return made, err
}

// room fails as NoSpace unless dir has room for need bytes.
func room(dir, what string, need int64) error {
	free, err := freeBytes(dir)
	if err != nil || free >= need {
		return nil // it will be seen
	}
	return cert.Errorf(cert.NoSpace, "cannot %s: it needs %d MiB in %s and %d MiB are free there (make room, or choose another place)", what, need>>20+1, dir, free>>20)
}

// BackupTo writes a backup of data to a new file with mode 0600, which is there whole or not at all. Missing directories are made.
func BackupTo(ctx context.Context, data Data, db *sqlite.DB, store *blobs.Store, now time.Time, path string) (made cert.Backup, err error) {
	if _, err := os.Lstat(path); err == nil {
		return made, cert.Errorf(cert.Conflict, "cannot back up to %s: it exists", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return made, cert.Errorf(cert.Invalid, "cannot back up to %s: %v", path, err)
	}
	size, err := dataSize(ctx, data, db)
	if err != nil {
		return made, err
	}
	if err := room(filepath.Dir(path), "back up to "+path, size); err != nil {
		return made, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return made, cert.Errorf(cert.Invalid, "cannot back up to %s: %v", path, err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	sum := sha256.New()
	count := &countingWriter{}
	missing, err := Backup(ctx, data, db, store, now, io.MultiWriter(f, sum, count))
	if sqlite.Full(err) {
		return made, cert.Errorf(cert.NoSpace, "cannot back up to %s: the disk became full after %d of about %d MiB (make room, or choose another place)", path, count.n>>20, size>>20+1)
	}
	if err != nil {
		return made, err
	}
	if err := f.Sync(); err != nil {
		return made, fmt.Errorf("cannot back up to %s: %w", path, err)
	}
	// A link, unlike a rename, does not replace what may have come there meanwhile.
	if err := os.Link(f.Name(), path); err != nil {
		return made, fmt.Errorf("cannot back up to %s: %w", path, err)
	}
	if err := durable.SyncDir(filepath.Dir(path)); err != nil {
		return made, fmt.Errorf("cannot back up to %s: %w", path, err)
	}
	return cert.Backup{Path: path, SHA256: hex.EncodeToString(sum.Sum(nil)), Size: count.n, Missing: missing}, nil
}

// dataSize is how many bytes a backup has, roughly.
func dataSize(ctx context.Context, data Data, db *sqlite.DB) (int64, error) {
	info, err := os.Stat(data.Database())
	if err != nil {
		return 0, fmt.Errorf("cannot back up: %w", err)
	}
	total := info.Size()
	err = db.EachFile(ctx, func(_ string, size int64) error {
		total += size + 1024
		return nil
	})
	return total, err
}

type countingWriter struct{ n int64 }

func (c *countingWriter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// Backup writes a backup of data to w. It returns the hashes of files that could not be put into it, because their bytes are bad. A
// database that is damaged is not backed up: a backup that looks good and is not would take the place of one that is.
func Backup(ctx context.Context, data Data, db *sqlite.DB, store *blobs.Store, now time.Time, w io.Writer) (missing []string, err error) {
	if damage, _, _ := db.Trouble(); damage != nil {
		return nil, cert.Errorf(cert.Conflict, "cannot back up: the database is damaged (%s); repair it first, and keep the backups that you have", damage)
	}
	if info, err := os.Stat(data.Database()); err == nil {
		if err := room(data.Dir, "back up: the copy of the database", info.Size()); err != nil {
			return nil, err
		}
	}
	work, err := os.MkdirTemp(data.Dir, ".backup-*")
	if err != nil {
		return nil, fmt.Errorf("cannot back up: %w", err)
	}
	defer os.RemoveAll(work)
	if missing, err = backup(ctx, data, db, store, now, w, filepath.Join(work, databaseName)); err != nil {
		return nil, fmt.Errorf("cannot back up: %w", err)
	}
	return missing, nil
}

func backup(ctx context.Context, data Data, db *sqlite.DB, store *blobs.Store, now time.Time, w io.Writer, snapshot string) ([]string, error) {
	if err := db.Snapshot(ctx, snapshot); err != nil {
		return nil, err
	}
	m := manifest{Format: backupFormat, Created: now.UTC(), Version: version.Version}
	copied, err := sqlite.OpenExisting(ctx, snapshot)
	if err != nil {
		return nil, err
	}
	bad := make(map[string]bool)
	m.Schema, err = copied.Schema(ctx)
	if err == nil {
		var list []string
		list, err = copied.BadHashes(ctx)
		for _, sha := range list {
			bad[sha] = true
		}
	}
	if err == nil {
		err = copied.EachFile(ctx, func(sha string, size int64) error {
			if have, err := store.Size(sha); err != nil || have != size || bad[sha] {
				m.Missing = append(m.Missing, sha)
				return nil
			}
			m.Members = append(m.Members, memberInfo{Name: path.Join(blobsName, sha), Size: size, SHA256: sha})
			return nil
		})
	}
	if closeErr := copied.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, err
	}
	private := map[string]string{databaseName: snapshot}
	keys, err := os.ReadDir(data.Keys())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range keys {
		if e.Type().IsRegular() && e.Name()[0] != '.' {
			private[path.Join(keysName, e.Name())] = filepath.Join(data.Keys(), e.Name())
		}
	}
	names := make([]string, 0, len(private))
	for name := range private {
		names = append(names, name)
	}
	sort.Strings(names)
	var head []memberInfo
	for _, name := range names {
		info, err := describe(name, private[name])
		if err != nil {
			return nil, err
		}
		head = append(head, info)
	}
	m.Members = append(head, m.Members...)

	out := tar.NewWriter(w)
	text, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return nil, err
	}
	if err := out.WriteHeader(header(manifestName, int64(len(text)), now)); err != nil {
		return nil, err
	}
	if _, err := out.Write(text); err != nil {
		return nil, err
	}
	for _, info := range m.Members {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var in io.ReadCloser
		if file, ok := private[info.Name]; ok {
			in, err = os.Open(file)
		} else {
			in, err = store.Open(info.SHA256)
		}
		if err != nil {
			return nil, err
		}
		err = addMember(out, in, info, now)
		in.Close()
		if err != nil && private[info.Name] == "" && errors.Is(store.Verify(ctx, info.SHA256), blobs.ErrHash) {
			err = fmt.Errorf("%s %w", info.Name, errChanged) // or cannot be read
		}
		if errors.Is(err, errChanged) && private[info.Name] == "" {
			// The next backup is made without it.
			if markErr := db.MarkBad(ctx, info.SHA256, fileAltered, now); markErr != nil {
				err = errors.Join(err, markErr)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return m.Missing, out.Close()
}

func header(name string, size int64, now time.Time) *tar.Header {
	return &tar.Header{Name: name, Size: size, Mode: 0o600, ModTime: now.Truncate(time.Second), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
}

var errChanged = errors.New("is damaged on disk: that is noted, its machine will be asked for it, and a backup that is tried again is made without it")

// addMember copies a member, and fails if it is not what the manifest says.
func addMember(out *tar.Writer, in io.Reader, info memberInfo, now time.Time) error {
	if err := out.WriteHeader(header(info.Name, info.Size, now)); err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, sum), in)
	if err != nil {
		return fmt.Errorf("%s: %w", info.Name, err)
	}
	if n != info.Size || hexSum(sum) != info.SHA256 {
		return fmt.Errorf("%s %w", info.Name, errChanged)
	}
	return nil
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

func describe(name, file string) (memberInfo, error) {
	f, err := os.Open(file)
	if err != nil {
		return memberInfo{}, err
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	return memberInfo{Name: name, Size: n, SHA256: hexSum(sum)}, err
}
