package control

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"certlab/internal/blobs"
	"certlab/internal/cert"
	"certlab/internal/durable"
	"certlab/internal/sqlite"
)

// Repairing makes a new database beside a damaged one out of what can be read, and stages it as a restore does: until PutInPlace the
// data are as they were, so that a repair that was cut off is begun again. Files that are missing or altered are taken from the
// backup, one by one, each verified and put in place whole. A repair of data that are sound changes nothing.

// databaseNames are the names that a repair of the database replaces.
var databaseNames = []string{databaseName, databaseName + "-wal", databaseName + "-shm", databaseName + sqlite.DamageName}

// Repair repairs the data while the service runs: no write is taken from its beginning on. If it returns that a new database was made,
// the service has to be started again.
func (l *Lab) Repair(ctx context.Context, backup string) (cert.Repaired, error) {
	if !l.replacing.TryLock() {
		return cert.Repaired{}, cert.Errorf(cert.Conflict, "cannot repair: %s", replaced)
	}
	l.DB.Refuse(repairing)
	out, err := Repair(ctx, l.Data, l.DB, backup, l.Now())
	if err != nil || !out.Database {
		l.DB.Refuse("")
		l.replacing.Unlock()
	}
	if err != nil {
		return out, err
	}
	if !out.Database && len(out.Missing)+out.Files > 0 {
		err = l.LookAtFiles(ctx)
	}
	return out, err
}

const (
	repairing = "the controller is being repaired: try again in some minutes"
	restoring = "a backup is being restored: try again in some minutes"
	replaced  = "a repair or a restore is under way already, or waits for the service to start again (see its log)"
)

// Repair repairs data that are locked, and stages a new database if that in place is damaged. db is the database in place if it is open,
// and its writes are refused; nil: it is not open. backup may be empty.
func Repair(ctx context.Context, data Data, db *sqlite.DB, backup string, now time.Time) (out cert.Repaired, err error) {
	if _, err := os.Stat(filepath.Join(data.Dir, stagedName)); err == nil {
		return out, cert.Errorf(cert.Conflict, "cannot repair: a restored or repaired copy waits to be put in place (restart the service)")
	}
	work, err := os.MkdirTemp(data.Dir, ".restore-*")
	if err != nil {
		return out, fmt.Errorf("cannot repair: %w", err)
	}
	keep := false
	defer func() {
		if !keep {
			os.RemoveAll(work)
		}
	}()
	from := filepath.Join(work, "backup.db")
	if backup == "" {
		from = ""
	} else if err := readBackup(ctx, backup, func(name string) string {
		if name == databaseName {
			return from
		}
		return ""
	}); err != nil {
		return out, fmt.Errorf("cannot repair with the backup %s: %w", backup, err)
	}
	fresh := filepath.Join(work, databaseName)
	damaged, err := isDamaged(ctx, data, db)
	if err != nil {
		return out, fmt.Errorf("cannot repair: %w", err)
	}
	named := data.Database()
	if damaged {
		if err := salvage(ctx, data, work, from, fresh, now, &out); err != nil {
			return out, err
		}
		named = fresh
	}
	if err := repairFiles(ctx, data, named, backup, now, &out); err != nil {
		return out, err
	}
	if !damaged {
		return out, nil
	}
	aside, err := stage(data, work, databaseNames, now)
	if err != nil {
		return out, fmt.Errorf("cannot repair: %w", err)
	}
	keep = true
	out.Database, out.SetAside = true, aside
	return out, nil
}

// isDamaged looks at the whole database in place.
func isDamaged(ctx context.Context, data Data, db *sqlite.DB) (bool, error) {
	if db == nil {
		info, err := os.Stat(data.Database())
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
			return true, nil
		}
		if db, err = sqlite.OpenExisting(ctx, data.Database()); err != nil {
			return sqlite.Damaged(err), onlyUnless(sqlite.Damaged(err), err)
		}
		defer db.Close()
	}
	if damage, _, _ := db.Trouble(); damage != nil {
		return true, nil
	}
	if _, err := os.Stat(data.Database() + sqlite.DamageName); err == nil {
		return true, nil
	}
	problems, err := db.Check(ctx)
	return len(problems) > 0, err
}

func onlyUnless(known bool, err error) error {
	if known {
		return nil
	}
	return err
}

func salvage(ctx context.Context, data Data, work, backup, fresh string, now time.Time, out *cert.Repaired) error {
	old := filepath.Join(work, "old.db")
	var need int64
	for _, suffix := range []string{"", "-wal"} {
		if info, err := os.Stat(data.Database() + suffix); err == nil {
			need += 2 * info.Size()
		}
	}
	if err := room(data.Dir, "repair", need); err != nil {
		return err
	}
	// What is damaged stays as it is: SQLite is given a copy.
	for _, suffix := range []string{"", "-wal"} {
		if err := copyFile(old+suffix, data.Database()+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot repair: %w", err)
		}
	}
	if _, err := os.Stat(old); errors.Is(err, fs.ErrNotExist) {
		if err := os.WriteFile(old, nil, 0o600); err != nil {
			return fmt.Errorf("cannot repair: %w", err)
		}
	}
	s, err := sqlite.SalvageInto(ctx, old, backup, fresh, now)
	if err != nil {
		return err
	}
	kept := 0
	for table, n := range s.Rows {
		if table != "meta" {
			kept += n
		}
	}
	if kept == 0 && backup == "" {
		return sqlite.ErrNothing
	}
	out.Rows, out.Restored, out.Rebuilt, out.Lost, out.Unread, out.Queued = s.Rows, s.Restored, s.Rebuilt, s.Lost, s.Unread, s.Queued
	for _, name := range []string{"old.db", "old.db-wal", "old.db-shm"} {
		if err := os.Remove(filepath.Join(work, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot repair: %w", err)
		}
	}
	return nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, in)
	return errors.Join(err, f.Close())
}

// repairFiles checks every file that the database at path names, and takes those that are bad from the backup.
func repairFiles(ctx context.Context, data Data, path, backup string, now time.Time, out *cert.Repaired) error {
	db, err := sqlite.Open(ctx, path)
	if err != nil {
		return err
	}
	defer db.Close()
	store, err := blobs.Open(data.Blobs())
	if err != nil {
		return err
	}
	bad := make(map[string]string)
	if err := db.EachFile(ctx, func(sha string, _ int64) error {
		switch err := store.Verify(ctx, sha); {
		case errors.Is(err, fs.ErrNotExist):
			bad[sha] = fileMissing
		case errors.Is(err, blobs.ErrHash):
			bad[sha] = fileAltered
		default:
			return err
		}
		return nil
	}); err != nil {
		return err
	}
	if backup != "" && len(bad) > 0 {
		if err := takeFiles(ctx, store, backup, bad, out); err != nil {
			return fmt.Errorf("cannot repair with the backup %s: %w", backup, err)
		}
	}
	before, err := db.BadHashes(ctx)
	if err != nil {
		return err
	}
	for _, sha := range before {
		if bad[sha] == "" {
			if err := db.MarkGood(ctx, sha); err != nil {
				return err
			}
		}
	}
	for sha, reason := range bad {
		if err := db.MarkBad(ctx, sha, reason, now); err != nil {
			return err
		}
	}
	known, err := db.BadFiles(ctx, maxBad)
	if err != nil {
		return err
	}
	for _, b := range known {
		out.Missing = append(out.Missing, badLine(b))
	}
	return nil
}

func badLine(b sqlite.BadFile) string {
	line := fmt.Sprintf("%s %s of run %s of machine %s is %s", b.Name, b.SHA256, b.Run, b.Hostname, b.Reason)
	if b.Submission != "" {
		line = fmt.Sprintf("%s %s of run %s (submission %s) of machine %s is %s", b.Name, b.SHA256, b.Run, b.Submission, b.Hostname, b.Reason)
	}
	return line
}

// takeFiles puts the bad files that the backup has in place, and strikes them off.
func takeFiles(ctx context.Context, store *blobs.Store, backup string, bad map[string]string, out *cert.Repaired) error {
	return eachMember(ctx, backup, func(info memberInfo, in io.Reader) error {
		sha, ok := strings.CutPrefix(info.Name, blobsName+"/")
		if !ok || bad[sha] == "" {
			return nil
		}
		u := blobs.Upload{Owner: "repair", SHA256: sha, Size: info.Size}
		if err := store.Discard(u); err != nil {
			return err
		}
		_, complete, err := store.Append(ctx, u, 0, in, func() error { return nil })
		if errors.Is(err, blobs.ErrHash) || err == nil && !complete {
			return nil // the backup's copy is bad too
		}
		if err != nil {
			return err
		}
		delete(bad, sha)
		out.Files++
		return nil
	})
}

// eachMember calls fn with each member of a backup that its manifest names.
func eachMember(ctx context.Context, path string, fn func(memberInfo, io.Reader) error) error {
	f, err := os.Open(path)
	if err != nil {
		return cert.Errorf(cert.Invalid, "%v", err)
	}
	defer f.Close()
	in := tar.NewReader(contextReader{ctx, f})
	m, err := readManifest(in)
	if err != nil {
		return err
	}
	want := make(map[string]memberInfo, len(m.Members))
	for _, info := range m.Members {
		want[info.Name] = info
	}
	for {
		h, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return rejected("it is cut off or damaged: %v", err)
		}
		if info, ok := want[h.Name]; ok && h.Size == info.Size {
			if err := fn(info, in); err != nil {
				return err
			}
		}
	}
}

// readBackup writes the members that to names a path for, each verified.
func readBackup(ctx context.Context, path string, to func(name string) string) error {
	return eachMember(ctx, path, func(info memberInfo, in io.Reader) error {
		if target := to(info.Name); target != "" {
			return unpackMember(in, target, info, map[string]bool{})
		}
		return nil
	})
}

// stage arranges for PutInPlace to move what is in place under these names aside, and what is under them in work in.
func stage(data Data, work string, names []string, now time.Time) (aside string, err error) {
	s := staged{Copy: filepath.Base(work), Names: names}
	for _, name := range names {
		if _, err := os.Lstat(filepath.Join(data.Dir, name)); err == nil {
			s.Aside = "before-restore-" + now.UTC().Format("20060102-150405")
		}
	}
	for n := 2; s.Aside != ""; n++ { // a clock that was set back gives the same name again
		err := os.Mkdir(filepath.Join(data.Dir, s.Aside), 0o700)
		if err == nil {
			aside = filepath.Join(data.Dir, s.Aside)
			break
		}
		if !errors.Is(err, fs.ErrExist) || n > 100 {
			return "", err
		}
		s.Aside = fmt.Sprintf("before-restore-%s-%d", now.UTC().Format("20060102-150405"), n)
	}
	for _, dir := range []string{work, data.Dir} {
		if err := durable.SyncDir(dir); err != nil {
			return aside, err
		}
	}
	text, err := json.Marshal(s)
	if err == nil {
		err = durable.WriteFile(filepath.Join(data.Dir, stagedName), text, 0o600)
	}
	return aside, err
}
