package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"certlab/internal/hooks"
	"certlab/internal/workload"
)

// maxProviders bounds how many a resource may have.
const maxProviders = 50

// shelf is where providers are kept: Checkbox asks a person before it resumes a session whose providers have changed.
func (a agent) shelf() workload.Shelf { return a.Shelf("providers") }

// providers puts the provider that the charm brings, in the directory shipped, and those of the resource, a file or nothing, in place, and
// returns their directories.
func (a agent) providers(ctx context.Context, shipped, resource string) ([]string, error) {
	own, err := a.shelf().Tree(ctx, "certlab", shipped)
	if err != nil {
		return nil, fmt.Errorf("cannot put the charm's provider in place: %w", err)
	}
	dirs := []string{own}
	if info, err := os.Stat(resource); resource == "" || err != nil || info.Size() == 0 {
		return dirs, nil
	}
	extra, err := a.shelf().Archive(ctx, "resource", resource)
	if err != nil {
		var bad workload.BadArchive
		if errors.As(err, &bad) {
			return nil, hooks.Blocked("attach a proper archive as resource provider, or an empty file: %s", bad)
		}
		return nil, fmt.Errorf("cannot put the resource's providers in place: %w", err)
	}
	found, err := providersIn(extra)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, hooks.Blocked("attach a proper archive as resource provider, or an empty file: it has no manage.py at its top or one level below")
	}
	return append(dirs, found...), nil
}

// removeOldProviders deletes what no run can need any more.
func (a agent) removeOldProviders(keep []string) error {
	if err := a.shelf().Keep(keep...); err != nil {
		return fmt.Errorf("cannot remove old providers: %w", err)
	}
	return nil
}

// providersIn finds directories with a manage.py: dir itself, or those in it.
func providersIn(dir string) ([]string, error) {
	if isProvider(dir) {
		return []string{dir}, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot look for providers: %w", err)
	}
	var found []string
	for _, entry := range entries {
		if sub := filepath.Join(dir, entry.Name()); isProvider(sub) && len(found) < maxProviders {
			found = append(found, sub)
		}
	}
	return found, nil
}

func isProvider(dir string) bool {
	info, err := os.Lstat(filepath.Join(dir, "manage.py"))
	return err == nil && info.Mode().IsRegular()
}
