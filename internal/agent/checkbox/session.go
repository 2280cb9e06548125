package checkbox

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// SessionsDir is where Checkbox keeps its sessions. The path is fixed in every version.
const SessionsDir = "/var/tmp/checkbox-ng/sessions"

// maxSessionState bounds the decompressed state of a session, in bytes. 800 jobs take about 5 MB.
const maxSessionState = 256 << 20

// A Session is one session directory and what its state says.
type Session struct {
	Dir         string
	ID          string // the directory's name without .session
	Title       string
	Plan        string
	Description string
	Incomplete  bool   // it can be resumed
	Running     string // full id of the job that was started last; empty: none yet
	RunningEnd  string // that job's outcome if it has ended since
	Comments    string // and its comments
	Results     int    // jobs that have one
	Empty       bool   // there is no readable state yet
	Modified    time.Time
}

// Interrupted returns the full id of the job that was running when the session stopped; empty if none was.
func (s Session) Interrupted() string {
	if s.RunningEnd != "" {
		return ""
	}
	return s.Running
}

// Resumable reports whether there is something in the session to go on with. One in which no job has been started is worth nothing, and
// Checkbox 1.18 refuses to go on with it ("Requested session is not resumable!", measured with 1.18.1: last_job_start_time is null).
func (s Session) Resumable() bool { return s.Incomplete && (s.Running != "" || s.Results > 0) }

// Sessions returns the sessions below dir, newest first. One whose state cannot be read is Empty.
func Sessions(dir string) ([]Session, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list Checkbox's sessions: %w", err)
	}
	var sessions []Session
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".session")
		if !ok || strings.HasPrefix(id, ".") || !e.IsDir() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // gone meanwhile
		}
		s := Session{Dir: filepath.Join(dir, e.Name()), ID: id, Modified: info.ModTime()}
		if err := s.read(); err != nil {
			s.Empty = true
		}
		sessions = append(sessions, s)
	}
	slices.SortFunc(sessions, func(a, b Session) int { return b.Modified.Compare(a.Modified) })
	return sessions, nil
}

// FindSession returns the newest session below dir whose description is description.
func FindSession(dir, description string) (Session, bool, error) {
	sessions, err := Sessions(dir)
	if err != nil {
		return Session{}, false, err
	}
	for _, s := range sessions {
		if s.Description == description {
			return s, true, nil
		}
	}
	return Session{}, false, nil
}

// read fills in what the session's state says: gzip-compressed JSON, version 1 to 8.
func (s *Session) read() error {
	f, err := os.Open(filepath.Join(s.Dir, "session"))
	if err != nil {
		return err
	}
	defer f.Close()
	return s.decode(f)
}

// decode reads the session's state from the file's bytes.
func (s *Session) decode(r io.Reader) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("cannot read session %s: %w", s.ID, err)
	}
	limited := &io.LimitedReader{R: z, N: maxSessionState}
	var state struct {
		Session struct {
			Metadata struct {
				Title   string   `json:"title"`
				AppBlob string   `json:"app_blob"`
				Flags   []string `json:"flags"`
				Running *string  `json:"running_job_name"`
			} `json:"metadata"`
			Results map[string][]struct {
				Outcome  *string `json:"outcome"`
				Comments *string `json:"comments"`
			} `json:"results"`
		} `json:"session"`
	}
	if err := json.NewDecoder(limited).Decode(&state); err != nil {
		return fmt.Errorf("cannot read session %s: %w", s.ID, err)
	}
	m := state.Session.Metadata
	s.Title = m.Title
	s.Incomplete = slices.Contains(m.Flags, "incomplete")
	for _, results := range state.Session.Results {
		if len(results) > 0 {
			s.Results++
		}
	}
	if m.Running != nil {
		s.Running = *m.Running
		if results := state.Session.Results[s.Running]; len(results) > 0 {
			if last := results[len(results)-1]; last.Outcome != nil && *last.Outcome != "none" {
				s.RunningEnd = *last.Outcome
				if last.Comments != nil {
					s.Comments = *last.Comments
				}
			}
		}
	}
	if blob, err := base64.StdEncoding.DecodeString(m.AppBlob); err == nil && len(blob) > 0 {
		var app struct {
			Plan        string `json:"testplan_id"`
			Description string `json:"description"`
		}
		if err := json.Unmarshal(blob, &app); err == nil {
			s.Plan, s.Description = app.Plan, app.Description
		}
	}
	return nil
}

// DirSize returns the size in bytes of the regular files below dir; what disappears meanwhile counts nothing.
func DirSize(dir string) int64 {
	var size int64
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				size += info.Size()
			}
		}
		return nil
	})
	return size
}

// Save writes the session directory as a .tar.gz to w: regular files and directories only, at most max bytes of them. It reports
// whether all of it fitted.
func (s Session) Save(w io.Writer, max int64) (whole bool, err error) {
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	whole = true
	err = filepath.WalkDir(s.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // what cannot be read, or is gone, cannot be saved
		}
		name, err := filepath.Rel(filepath.Dir(s.Dir), path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		size := info.Size()
		if size > max {
			whole, size = false, max
		}
		f, err := os.Open(path)
		if err != nil {
			whole = false
			return nil
		}
		defer f.Close()
		if err := t.WriteHeader(&tar.Header{Name: filepath.ToSlash(name), Mode: 0o644, Size: size, ModTime: info.ModTime(), Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		n, err := io.Copy(t, io.LimitReader(f, size))
		if err == nil && n < size { // it became shorter while it was read
			_, err = io.CopyN(t, zeros{}, size-n)
		}
		max -= size
		return err
	})
	if err != nil {
		return false, fmt.Errorf("cannot save session %s: %w", s.ID, err)
	}
	if err := t.Close(); err != nil {
		return false, fmt.Errorf("cannot save session %s: %w", s.ID, err)
	}
	return whole, z.Close()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// Remove removes the session directory.
func (s Session) Remove() error {
	if err := os.RemoveAll(s.Dir); err != nil {
		return fmt.Errorf("cannot remove session %s: %w", s.ID, err)
	}
	return nil
}

// aside is the end of the name of a session that was set aside: Checkbox only looks at names that end in .session.
const aside = ".session.certlab-aside"

// maxAside is how many sessions that were set aside are kept.
const maxAside = 3

// SetAside takes every incomplete session but those of keep out of Checkbox's sight, by renaming it, so that a launcher does not go
// on with somebody else's session instead of its own. The newest ones are kept that way. It returns the ids.
func SetAside(dir, keep string) ([]string, error) {
	sessions, err := Sessions(dir)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, s := range sessions {
		if !s.Incomplete || s.Description == keep && keep != "" {
			continue
		}
		if s.Listing() {
			s.Remove() // made by list-bootstrapped, worth nothing
			continue
		}
		target := filepath.Join(dir, s.ID+aside)
		os.RemoveAll(target)
		if err := os.Rename(s.Dir, target); err != nil {
			return ids, fmt.Errorf("cannot set session %s aside: %w", s.ID, err)
		}
		ids = append(ids, s.ID)
	}
	old, err := filepath.Glob(filepath.Join(dir, "*"+aside))
	if err != nil || len(old) <= maxAside {
		return ids, nil
	}
	modified := func(path string) time.Time {
		if info, err := os.Stat(path); err == nil {
			return info.ModTime()
		}
		return time.Time{}
	}
	slices.SortFunc(old, func(a, b string) int { return modified(b).Compare(modified(a)) })
	for _, path := range old[maxAside:] {
		os.RemoveAll(path)
	}
	return ids, nil
}

// listingTitle is the title of the sessions that list-bootstrapped makes.
const listingTitle = "checkbox-listing-ephemeral"

// Listing reports whether list-bootstrapped made the session, which is worth nothing.
func (s Session) Listing() bool { return s.Title == listingTitle }

// RemoveListings removes the sessions that list-bootstrapped leaves behind, as of an hour ago: a younger one may still be in use.
func RemoveListings(dir string) {
	old, _ := filepath.Glob(filepath.Join(dir, listingTitle+"-*.session"))
	for _, path := range old {
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > time.Hour {
			os.RemoveAll(path)
		}
	}
}

// resultMark begins the comments of results that we preset, to tell them from those that a job presets for itself.
const resultMark = "Certlab: "

func (s Session) resultPath() string { return filepath.Join(s.Dir, "session-share", "__result") }

// PresetResult says what becomes of the job that was running, for a Checkbox that resumes by id: without it, any interrupted job
// would be a pass. Checkbox takes pass, fail and skip; a crash becomes a fail.
func (s Session) PresetResult(outcome, comments string) error {
	switch outcome {
	case "pass", "fail":
	case "crash":
		outcome = "fail"
	default:
		outcome = "skip"
	}
	text, err := json.Marshal(map[string]string{"outcome": outcome, "comments": resultMark + comments})
	if err != nil {
		return err
	}
	path := s.resultPath()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return fmt.Errorf("cannot preset the result of %s: %w", s.Running, err)
	}
	temporary := path + ".new"
	// The directory is writable for everybody: never follow what somebody put there.
	os.Remove(temporary)
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("cannot preset the result of %s: %w", s.Running, err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return fmt.Errorf("cannot preset the result of %s: %w", s.Running, err)
	}
	return nil
}

// ForgetResult removes a result that PresetResult wrote. Checkbox leaves it in place and would apply it to the next job that is
// interrupted too, also to one that is meant to be.
func (s Session) ForgetResult() error {
	text, err := os.ReadFile(s.resultPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the preset result: %w", err)
	}
	var result struct {
		Comments string `json:"comments"`
	}
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&result); err != nil || !strings.HasPrefix(result.Comments, resultMark) {
		return nil // a job's own
	}
	if err := os.Remove(s.resultPath()); err != nil {
		return fmt.Errorf("cannot remove the preset result: %w", err)
	}
	return nil
}
