package locallab

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// RunHere runs the lab in this process until ctx ends or somebody calls for its end, and logs to standard error.
func (c Client) RunHere(ctx context.Context, options Options) error {
	for _, dir := range []string{"", "bin"} {
		if err := os.MkdirAll(filepath.Join(c.Dir, dir), 0o700); err != nil {
			return fmt.Errorf("cannot make the lab's directory: %w", err)
		}
	}
	if _, err := installPrograms(filepath.Join(c.Dir, "bin")); err != nil {
		return fmt.Errorf("cannot start the lab: %w", err)
	}
	lab, err := OpenLab(c.Dir, options, slog.New(slog.NewTextHandler(c.Stderr, nil)))
	if err != nil {
		return fmt.Errorf("cannot start the lab: %w", err)
	}
	defer lab.Close()
	return lab.Serve(ctx, func() { fmt.Fprintf(c.Stdout, "The lab in %s is up. Interrupt it to end it.\n", c.Dir) })
}
