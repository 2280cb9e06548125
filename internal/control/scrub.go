package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"certlab/internal/blobs"
	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// Files are checked in two ways: every hour that each is there with its size, and all the time, at a bounded rate, that each has its
// hash. How far the second has come is kept in the database.
const (
	scrubLook  = time.Hour
	scrubRate  = 4 << 20            // bytes per second
	scrubEvery = 7 * 24 * time.Hour // from the beginning of one pass over all hashes to the next
	scrubBatch = 200                // files
)

const (
	fileMissing = "missing"
	fileAltered = "altered"
)

// scrubbed is how far the check of hashes has come.
type scrubbed struct {
	After string    `json:"after"` // the last hash that was checked; empty: a pass begins
	Began time.Time `json:"began"` // when the pass did
}

func (l *Lab) scrubLoop(ctx context.Context) error {
	look := time.NewTicker(scrubLook)
	defer look.Stop()
	for {
		if err := l.LookAtFiles(ctx); err != nil && ctx.Err() == nil {
			l.Logger.Error("cannot look at the files", "error", err)
		}
		for again := true; again; {
			pause, err := l.Scrub(ctx)
			if err != nil && ctx.Err() == nil {
				l.Logger.Error("cannot check the files", "error", err)
				pause = time.Minute
			}
			wait := time.NewTimer(max(pause, time.Second))
			select {
			case <-ctx.Done():
				wait.Stop()
				return nil
			case <-look.C:
				again = false
			case <-wait.C:
			}
			wait.Stop()
		}
	}
}

// LookAtFiles checks that every file is there with its size, and brings what is said of bad files up to date.
func (l *Lab) LookAtFiles(ctx context.Context) error {
	for after := ""; ; {
		files, err := l.DB.FilesAfter(ctx, after, scrubBatch)
		if err != nil {
			return err
		}
		for _, f := range files {
			l.look(ctx, f)
			after = f.SHA256
		}
		if len(files) < scrubBatch {
			return l.sayFiles(ctx)
		}
		if err := sleep(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}

func (l *Lab) look(ctx context.Context, f sqlite.Stored) {
	size, err := l.Blobs.Size(f.SHA256)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		l.badFile(ctx, f.SHA256, fileMissing)
	case err == nil && size != f.Size:
		l.badFile(ctx, f.SHA256, fileAltered)
	case err != nil:
		l.Logger.Error("cannot look at a file", "sha256", f.SHA256, "error", err)
	}
}

// Scrub checks the hashes of the next files, and returns how long to wait before the next call.
func (l *Lab) Scrub(ctx context.Context) (time.Duration, error) {
	var at scrubbed
	if _, err := l.DB.Meta(ctx, sqlite.MetaScrub, &at); err != nil {
		return 0, err
	}
	now := l.Now()
	if at.After == "" {
		if wait := at.Began.Add(scrubEvery).Sub(now); !at.Began.IsZero() && wait > 0 && wait <= scrubEvery {
			return min(wait, scrubLook), nil
		}
		at.Began = now
	}
	files, err := l.DB.FilesAfter(ctx, at.After, scrubBatch)
	if err != nil {
		return 0, err
	}
	var read int64
	for _, f := range files {
		if err := l.verify(ctx, f.SHA256); err != nil {
			return 0, err
		}
		at.After = f.SHA256
		if read += f.Size; read > 16*scrubRate {
			break
		}
	}
	if len(files) == 0 {
		at.After = ""
	}
	if l.DB.Writable() == nil {
		if err := l.DB.SetMeta(ctx, sqlite.MetaScrub, at); err != nil {
			return 0, err
		}
	}
	return time.Duration(read) * time.Second / scrubRate, l.sayFiles(ctx)
}

// verify checks a file's hash, and records when it is not right, or right again.
func (l *Lab) verify(ctx context.Context, sha string) error {
	switch err := l.Blobs.Verify(ctx, sha); {
	case errors.Is(err, fs.ErrNotExist):
		l.badFile(ctx, sha, fileMissing)
	case errors.Is(err, blobs.ErrHash):
		l.badFile(ctx, sha, fileAltered)
	case err != nil:
		return err
	case l.isBad(sha):
		return l.FileIsBack(ctx, sha)
	}
	return nil
}

// badFile records that a file's bytes are missing or altered, says so, and asks its machine for it.
func (l *Lab) badFile(ctx context.Context, sha, reason string) {
	l.mu.Lock()
	known := l.bad[sha]
	l.bad[sha] = true
	l.mu.Unlock()
	if known {
		return
	}
	l.Logger.Error("a file is "+reason, "sha256", sha)
	if err := l.DB.MarkBad(ctx, sha, reason, l.Now()); err != nil {
		l.Logger.Error("cannot record that a file is bad", "sha256", sha, "error", err)
	}
	if err := l.sayFiles(ctx); err != nil {
		l.Logger.Error("cannot say which files are bad", "error", err)
	}
	l.hub.wakeAll()
}

func (l *Lab) isBad(sha string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bad[sha]
}

// FileIsBad reports whether a file's bytes are known to be missing or altered, so that they are welcome again.
func (l *Lab) FileIsBad(sha string) bool { return l.isBad(sha) }

// FileIsBack records that a file's bytes are what they should be again.
func (l *Lab) FileIsBack(ctx context.Context, sha string) error {
	if err := l.DB.MarkGood(ctx, sha); err != nil {
		return err
	}
	l.Logger.Info("a file is what it should be again", "sha256", sha)
	l.Index()
	return l.sayFiles(ctx)
}

// FileIsGone records that a machine cannot send a file again.
func (l *Lab) FileIsGone(ctx context.Context, run string, attempt int, sha, reason string) error {
	if err := l.DB.MarkGone(ctx, run, attempt, sha, reason, l.Now()); err != nil {
		return err
	}
	l.Logger.Error("a machine cannot send a file again", "run", run, "sha256", sha, "reason", reason)
	return l.sayFiles(ctx)
}

// maxBad bounds how many bad files are looked at together.
const maxBad = 1000

// sayFiles brings what is known of bad files in line with the database.
func (l *Lab) sayFiles(ctx context.Context) error {
	list, err := l.DB.BadFiles(ctx, maxBad)
	if err != nil {
		return err
	}
	all, err := l.DB.BadHashes(ctx)
	if err != nil {
		return err
	}
	bad := make(map[string]bool, len(all))
	for _, sha := range all {
		bad[sha] = true
	}
	l.mu.Lock()
	if l.DB.Writable() == nil || len(bad) > 0 {
		l.bad = bad
	}
	l.mu.Unlock()
	if say(&l.trouble.files, badText(list, l.Data.Dir)) {
		l.Refresh()
	}
	return nil
}

// badText is what the operator reads.
func badText(list []sqlite.BadFile, dir string) string {
	if len(list) == 0 {
		return ""
	}
	hopeless, first := 0, list[0]
	for _, b := range list {
		if b.Upload || b.Gone != "" {
			if hopeless == 0 {
				first = b
			}
			hopeless++
		}
	}
	what := first.Name + " of run " + first.Run
	if first.Submission != "" {
		what += " (submission " + first.Submission + ")"
	}
	text := fmt.Sprintf("%s of machine %s is %s on disk", what, first.Hostname, first.Reason)
	if len(list) > 1 {
		text = fmt.Sprintf("%d files are missing or altered on disk; %s", len(list), text)
	}
	switch {
	case hopeless == 0:
		return text + ": the machine was asked to send it again"
	case first.Upload:
		return text + fmt.Sprintf(": it was added by hand; add it again, or run certlabd repair --data %s --backup FILE", dir)
	}
	return text + fmt.Sprintf(", and the machine cannot send it again (%s): run certlabd repair --data %s --backup FILE", first.Gone, dir)
}

// Resend returns the files that a machine is asked to send again.
func (l *Lab) resend(ctx context.Context, machine string) ([]sqlite.BadFile, error) {
	l.mu.Lock()
	none := len(l.bad) == 0
	l.mu.Unlock()
	if none || l.DB.Writable() != nil {
		return nil, nil
	}
	return l.DB.Wanted(ctx, machine, maxOrders)
}

// anySize is the size of a file whose size the caller does not know.
const anySize = -1

// OpenFile opens a stored file of that size for reading. Where its bytes are not what they should be, that is noted, and whoever asked is
// told (Unavailable).
func (l *Lab) OpenFile(ctx context.Context, sha string, size int64) (*blobs.Blob, error) {
	b, err := l.Blobs.Open(sha)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		l.badFile(context.WithoutCancel(ctx), sha, fileMissing)
		return nil, badBytes(sha, fileMissing)
	case err != nil:
		return nil, fmt.Errorf("cannot open blob %s: %w", sha, err)
	case size != anySize && b.Size != size:
		b.Close()
		l.badFile(context.WithoutCancel(ctx), sha, fileAltered)
		return nil, badBytes(sha, fileAltered)
	}
	return b, nil
}

func badBytes(sha, reason string) error {
	return cert.Errorf(cert.Unavailable, "cannot read the file %s: it is %s on the controller's disk; it is there again when its machine has sent it again, or after a repair from a backup", sha, reason)
}

// altered reports whether a file that could not be understood is not what it was, and notes it.
func (l *Lab) altered(ctx context.Context, sha string) bool {
	if err := l.Blobs.Verify(ctx, sha); !errors.Is(err, blobs.ErrHash) {
		return false
	}
	l.badFile(context.WithoutCancel(ctx), sha, fileAltered)
	return true
}
