package workload

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"certlab/internal/durable"
)

// A Shelf is a directory below the unit's for trees of files that the service uses and that the charm brings, or an operator attaches. Each
// is kept by its hash, away from the charm's directory, so that a refresh changes nothing under what is running.
type Shelf struct {
	w   *Workload
	dir string
}

// Shelf returns the one with that name. It makes nothing.
func (w *Workload) Shelf(name string) Shelf { return Shelf{w, filepath.Join(w.base, name)} }

// Tree puts a copy of a directory with regular files on the shelf, as NAME-HASH, and returns its path. It appears whole or not at all.
func (s Shelf) Tree(ctx context.Context, name, from string) (string, error) {
	return s.place(ctx, name, func(sum io.Writer) error { return hashTree(ctx, from, sum) },
		func(to string) error { return copyTree(ctx, from, to) })
}

// Archive does the same with what is in a tar.gz archive. What is wrong with the archive is a BadArchive.
func (s Shelf) Archive(ctx context.Context, name, archive string) (string, error) {
	return s.place(ctx, name, func(sum io.Writer) error { return copyFile(ctx, sum, archive) },
		func(to string) error { return unpack(ctx, archive, to) })
}

// place makes the directory NAME-HASH with what fill writes into the directory it is given, unless it is there already.
func (s Shelf) place(ctx context.Context, name string, sum func(io.Writer) error, fill func(dir string) error) (string, error) {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return "", err
	}
	h := sha256.New()
	if err := sum(h); err != nil {
		return "", err
	}
	dir := filepath.Join(s.dir, name+"-"+hex.EncodeToString(h.Sum(nil))[:16])
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	temp, err := os.MkdirTemp(s.dir, tempPrefix)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	if err := os.Chmod(temp, 0o755); err != nil {
		return "", err
	}
	if err := fill(temp); err != nil {
		return "", err
	}
	if err := syncTree(temp); err != nil {
		return "", err
	}
	s.w.Step("place " + name)
	if err := os.Rename(temp, dir); err != nil {
		return "", err
	}
	return dir, durable.SyncDir(s.dir)
}

// Keep deletes all trees but those that are named, or that something named is in.
func (s Shelf) Keep(paths ...string) error {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		dir := filepath.Join(s.dir, entry.Name())
		if slices.ContainsFunc(paths, func(k string) bool { return k == dir || strings.HasPrefix(k, dir+"/") }) {
			continue
		}
		s.w.Step("remove old tree")
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// Remove takes the shelf away, with all that is on it.
func (s Shelf) Remove() error { return os.RemoveAll(s.dir) }

// syncTree makes the names in dir, and in the directories below it, durable.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		return durable.SyncDir(path)
	})
}

// hashTree sums names, modes and contents below dir.
func hashTree(ctx context.Context, dir string, sum io.Writer) error {
	return walk(dir, func(rel string, info fs.FileInfo) error {
		fmt.Fprintf(sum, "%q %v\n", rel, info.Mode()&0o111)
		if info.IsDir() {
			return nil
		}
		one := sha256.New()
		if err := copyFile(ctx, one, filepath.Join(dir, rel)); err != nil {
			return err
		}
		fmt.Fprintf(sum, "%x\n", one.Sum(nil))
		return nil
	})
}

func copyTree(ctx context.Context, from, to string) error {
	return walk(from, func(rel string, info fs.FileInfo) error {
		if info.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		in, err := os.Open(filepath.Join(from, rel))
		if err != nil {
			return err
		}
		defer in.Close()
		return writeMember(filepath.Join(to, rel), in, info.Mode())
	})
}

// walk visits directories and regular files below dir in a fixed order.
func walk(dir string, visit func(rel string, info fs.FileInfo) error) error {
	return filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if !info.IsDir() && !info.Mode().IsRegular() {
			return fmt.Errorf("%q is neither a directory nor a regular file", name)
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil || rel == "." {
			return err
		}
		return visit(rel, info)
	})
}
