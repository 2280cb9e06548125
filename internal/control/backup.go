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
}

type memberInfo struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Backup writes a backup to w.
func (l *Lab) Backup(ctx context.Context, w io.Writer) error {
	return Backup(ctx, l.Data, l.DB, l.Blobs, l.Now(), w)
}

// BackupTo writes a backup to a new file, which is there whole or not at all.
func (l *Lab) BackupTo(ctx context.Context, path string) (cert.Backup, error) {
	return BackupTo(ctx, l.Data, l.DB, l.Blobs, l.Now(), path)
}

// BackupTo writes a backup of data to a new file with mode 0600, which is there whole or not at all. Missing directories are made.
func BackupTo(ctx context.Context, data Data, db *sqlite.DB, store *blobs.Store, now time.Time, path string) (made cert.Backup, err error) {
	if _, err := os.Lstat(path); err == nil {
		return made, cert.Errorf(cert.Conflict, "cannot back up to %s: it exists", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return made, cert.Errorf(cert.Invalid, "cannot back up to %s: %v", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return made, cert.Errorf(cert.Invalid, "cannot back up to %s: %v", path, err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	sum := sha256.New()
	count := &countingWriter{}
	if err := Backup(ctx, data, db, store, now, io.MultiWriter(f, sum, count)); err != nil {
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
	return cert.Backup{Path: path, SHA256: hex.EncodeToString(sum.Sum(nil)), Size: count.n}, nil
}

type countingWriter struct{ n int64 }

func (c *countingWriter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// Backup writes a backup of data to w.
func Backup(ctx context.Context, data Data, db *sqlite.DB, store *blobs.Store, now time.Time, w io.Writer) error {
	work, err := os.MkdirTemp(data.Dir, ".backup-*")
	if err != nil {
		return fmt.Errorf("cannot back up: %w", err)
	}
	defer os.RemoveAll(work)
	if err := backup(ctx, data, db, store, now, w, filepath.Join(work, databaseName)); err != nil {
		return fmt.Errorf("cannot back up: %w", err)
	}
	return nil
}

func backup(ctx context.Context, data Data, db *sqlite.DB, store *blobs.Store, now time.Time, w io.Writer, snapshot string) error {
	if err := db.Snapshot(ctx, snapshot); err != nil {
		return err
	}
	m := manifest{Format: backupFormat, Created: now.UTC(), Version: version.Version}
	copied, err := sqlite.OpenExisting(ctx, snapshot)
	if err != nil {
		return err
	}
	m.Schema, err = copied.Schema(ctx)
	if err == nil {
		err = copied.EachFile(ctx, func(sha string, size int64) error {
			m.Members = append(m.Members, memberInfo{Name: path.Join(blobsName, sha), Size: size, SHA256: sha})
			return nil
		})
	}
	if closeErr := copied.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	private := map[string]string{databaseName: snapshot}
	keys, err := os.ReadDir(data.Keys())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
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
			return err
		}
		head = append(head, info)
	}
	m.Members = append(head, m.Members...)

	out := tar.NewWriter(w)
	text, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return err
	}
	if err := out.WriteHeader(header(manifestName, int64(len(text)), now)); err != nil {
		return err
	}
	if _, err := out.Write(text); err != nil {
		return err
	}
	for _, info := range m.Members {
		if err := ctx.Err(); err != nil {
			return err
		}
		var in io.ReadCloser
		if file, ok := private[info.Name]; ok {
			in, err = os.Open(file)
		} else {
			in, err = store.Open(info.SHA256)
		}
		if err != nil {
			return err
		}
		err = addMember(out, in, info, now)
		in.Close()
		if err != nil {
			return err
		}
	}
	return out.Close()
}

func header(name string, size int64, now time.Time) *tar.Header {
	return &tar.Header{Name: name, Size: size, Mode: 0o600, ModTime: now.Truncate(time.Second), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
}

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
		return fmt.Errorf("%s is damaged, or has changed meanwhile (run certlabd check)", info.Name)
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
