package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"certlab/internal/durable"
	"certlab/internal/hooks"
)

// Bounds of a provider, ours or the resource's.
const (
	maxProviderFiles = 20_000
	maxProviderBytes = 512 << 20
	maxProviders     = 50
)

// Providers are kept by their hash, away from the charm's directory, so that a refresh changes nothing under a run: Checkbox
// asks a person before it resumes a session whose providers have changed.
func (a agent) providersDir() string { return filepath.Join(a.Base(), "providers") }

// providers puts the provider that the charm brings, in the directory shipped, and those of the resource, a file or nothing, in place, and
// returns their directories.
func (a agent) providers(ctx context.Context, shipped, resource string) ([]string, error) {
	if err := os.MkdirAll(a.providersDir(), 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the providers' directory: %w", err)
	}
	own, err := a.place(ctx, "certlab", func(sum hash.Hash) error { return hashTree(ctx, shipped, sum) },
		func(to string) error { return copyTree(ctx, shipped, to) })
	if err != nil {
		return nil, fmt.Errorf("cannot put the charm's provider in place: %w", err)
	}
	dirs := []string{own}
	if info, err := os.Stat(resource); resource == "" || err != nil || info.Size() == 0 {
		return dirs, nil
	}
	extra, err := a.place(ctx, "resource", func(sum hash.Hash) error { return copyInto(ctx, sum, resource) },
		func(to string) error { return unpack(ctx, resource, to) })
	if err != nil {
		var bad badArchive
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

// place makes the directory NAME-HASH with what fill writes into the directory it is given, unless it is there already. It
// appears whole or not at all.
func (a agent) place(ctx context.Context, name string, sum func(hash.Hash) error, fill func(dir string) error) (string, error) {
	h := sha256.New()
	if err := sum(h); err != nil {
		return "", err
	}
	dir := filepath.Join(a.providersDir(), name+"-"+hex.EncodeToString(h.Sum(nil))[:16])
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	temp, err := os.MkdirTemp(a.providersDir(), ".new-")
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
	a.Step("place provider " + name)
	if err := os.Rename(temp, dir); err != nil {
		return "", err
	}
	return dir, durable.SyncDir(a.providersDir())
}

// removeOldProviders deletes what no run can need any more.
func (a agent) removeOldProviders(keep []string) error {
	entries, err := os.ReadDir(a.providersDir())
	if err != nil {
		return fmt.Errorf("cannot remove old providers: %w", err)
	}
	for _, entry := range entries {
		dir := filepath.Join(a.providersDir(), entry.Name())
		if slices.ContainsFunc(keep, func(k string) bool { return k == dir || strings.HasPrefix(k, dir+"/") }) {
			continue
		}
		a.Step("remove old provider")
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("cannot remove old providers: %w", err)
		}
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

// badArchive is what is wrong with an archive that an operator has attached.
type badArchive string

func (b badArchive) Error() string { return string(b) }

// unpack writes a tar.gz archive's directories and regular files. Anything else, a path that leads outside, and more than the bounds is
// refused: an archive is written with root's rights.
func unpack(ctx context.Context, archive, to string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	zipped, err := gzip.NewReader(f)
	if err != nil {
		return badArchive("it is no gzip file")
	}
	members := tar.NewReader(io.LimitReader(zipped, 2*maxProviderBytes))
	files, left := 0, int64(maxProviderBytes)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		member, err := members.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return badArchive("it cannot be read: " + err.Error())
		}
		name := path.Clean(member.Name)
		if files++; files > maxProviderFiles {
			return badArchive(fmt.Sprintf("it has more than %d members", maxProviderFiles))
		}
		if member.Typeflag == tar.TypeXGlobalHeader || name == "." {
			continue
		}
		if !filepath.IsLocal(name) {
			return badArchive(fmt.Sprintf("member %q leads outside", member.Name))
		}
		target := filepath.Join(to, name)
		switch member.Typeflag {
		case tar.TypeDir:
			if err := os.MkdirAll(target, 0o755); err != nil {
				return badArchive(fmt.Sprintf("member %q is a directory and a file", member.Name))
			}
		case tar.TypeReg:
			if left -= member.Size; left < 0 {
				return badArchive(fmt.Sprintf("it unpacks to more than %d MiB", maxProviderBytes>>20))
			}
			if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
				return badArchive(fmt.Sprintf("member %q is below a file", member.Name))
			}
			if err := writeMember(target, members, member.FileInfo().Mode()); err != nil {
				return err
			}
		default:
			return badArchive(fmt.Sprintf("member %q is neither a directory nor a regular file", member.Name))
		}
	}
}

func writeMember(target string, from io.Reader, mode fs.FileMode) error {
	perm := fs.FileMode(0o644)
	if mode&0o111 != 0 {
		perm = 0o755
	}
	out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if errors.Is(err, fs.ErrExist) {
		return badArchive(fmt.Sprintf("%q is in it twice", filepath.Base(target)))
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(out, from)
	if err == nil {
		err = out.Chmod(perm)
	}
	if err == nil {
		err = out.Sync()
	}
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, gzip.ErrChecksum) {
		return badArchive("it is cut off or damaged")
	}
	return err
}

// hashTree sums names, modes and contents below dir.
func hashTree(ctx context.Context, dir string, sum hash.Hash) error {
	return walk(dir, func(rel string, info fs.FileInfo) error {
		fmt.Fprintf(sum, "%q %v\n", rel, info.Mode()&0o111)
		if info.IsDir() {
			return nil
		}
		one := sha256.New()
		if err := copyInto(ctx, one, filepath.Join(dir, rel)); err != nil {
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

func copyInto(ctx context.Context, to io.Writer, from string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(to, f)
	return err
}
