package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"certlab/internal/blobs"
	"certlab/internal/sqlite"
)

// A CheckReport is what Check found.
type CheckReport struct {
	Schema   int
	Blobs    int   // that the database names
	Bytes    int64 // of them
	Orphans  int   // blobs that it does not name: harmless, removed by the running service
	Problems []string
}

// maxProblems bounds how many problems a report lists.
const maxProblems = 100

// Check reads all data and looks for damage: the database's pages and references, and the hash of every blob that it names. It
// changes nothing that matters, and can run beside the service.
func Check(ctx context.Context, data Data) (CheckReport, error) {
	var out CheckReport
	add := func(format string, args ...any) {
		if len(out.Problems) < maxProblems {
			out.Problems = append(out.Problems, fmt.Sprintf(format, args...))
		}
	}
	db, err := sqlite.OpenExisting(ctx, data.Database())
	if err != nil {
		return out, err
	}
	defer db.Close()
	if out.Schema, err = db.Schema(ctx); err != nil {
		return out, err
	}
	damage, err := db.Check(ctx)
	if err != nil {
		return out, err
	}
	for _, d := range damage {
		add("database: %s", d)
	}
	if len(damage) > 0 {
		return out, nil
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
		switch err := store.Verify(ctx, sha); {
		case errors.Is(err, fs.ErrNotExist):
			add("blob %s is missing", sha)
		case errors.Is(err, blobs.ErrHash):
			add("blob %s is damaged", sha)
		default:
			return err
		}
		return nil
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
