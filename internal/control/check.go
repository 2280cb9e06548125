package control

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"certlab/internal/blobs"
	"certlab/internal/sqlite"
)

// A CheckReport is what Check found.
type CheckReport struct {
	Schema  int
	Blobs   int              // that the database names
	Bytes   int64            // of them
	Orphans int              // blobs that it does not name: harmless, removed by the running service
	Damage  []string         // of the database; with any, files are not looked at
	Bad     []sqlite.BadFile // files of runs whose bytes are missing or altered
}

// Problems says in words what was found.
func (r CheckReport) Problems() []string {
	var out []string
	for _, d := range r.Damage {
		out = append(out, "database: "+d)
	}
	for _, b := range r.Bad {
		out = append(out, badLine(b))
	}
	return out
}

// Check reads all data and looks for damage: the database's pages and references, and the hash of every blob that it names. It
// changes nothing that matters, and can run beside the service.
func Check(ctx context.Context, data Data) (CheckReport, error) {
	var out CheckReport
	db, err := sqlite.OpenExisting(ctx, data.Database())
	if sqlite.Damaged(err) {
		out.Damage = []string{err.Error()}
		return out, nil
	}
	if err != nil {
		return out, err
	}
	defer db.Close()
	if out.Schema, err = db.Schema(ctx); err != nil {
		return out, err
	}
	if out.Damage, err = db.Check(ctx); err != nil || len(out.Damage) > 0 {
		return out, err
	}
	if _, err := os.Stat(data.Blobs()); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(data.Blobs(), 0o700); err != nil {
			return out, err
		}
	}
	store, err := blobs.Open(data.Blobs())
	if err != nil {
		return out, err
	}
	named := make(map[string]bool)
	err = db.EachFile(ctx, func(sha string, size int64) error {
		named[sha] = true
		out.Blobs++
		out.Bytes += size
		reason := ""
		switch err := store.Verify(ctx, sha); {
		case errors.Is(err, fs.ErrNotExist):
			reason = fileMissing
		case errors.Is(err, blobs.ErrHash):
			reason = fileAltered
		default:
			return err
		}
		files, err := db.FilesOf(ctx, sha)
		for n := range files {
			files[n].Reason = reason
		}
		out.Bad = append(out.Bad, files...)
		return err
	})
	if err != nil {
		return out, err
	}
	err = store.Each(func(sha string, _ int64) error {
		if !named[sha] {
			out.Orphans++
		}
		return nil
	})
	return out, err
}
