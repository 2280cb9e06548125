package locallab

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"certlab/internal/durable"
)

// Bounds of a charm that is unpacked.
const (
	maxCharmFiles = 20_000
	maxCharmBytes = 4 << 30
)

// unpackMain, on a machine, unpacks the charm archive that is its standard input into the directory that it is given, in place of
// what was there.
func unpackMain(args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "usage: certlab-lab-unpack DIRECTORY <ARCHIVE")
		return 2
	}
	if err := unpackCharm(os.Stdin, args[0]); err != nil {
		fmt.Fprintf(os.Stderr, "cannot unpack charm: %v\n", err)
		return 1
	}
	return 0
}

// unpackCharm makes dir hold the charm, entirely or not at all. What still runs from the old one keeps it open.
func unpackCharm(archive *os.File, dir string) error {
	info, err := archive.Stat()
	if err != nil {
		return err
	}
	reader, err := zip.NewReader(archive, info.Size())
	if err != nil {
		return err
	}
	if len(reader.File) > maxCharmFiles {
		return fmt.Errorf("archive has more than %d files", maxCharmFiles)
	}
	next, old := dir+".new", dir+".old"
	for _, path := range []string{next, old} {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(next, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(next)
	if err != nil {
		return err
	}
	defer root.Close()
	left := int64(maxCharmBytes)
	for _, file := range reader.File {
		n, err := unpackFile(root, file, left)
		if err != nil {
			return fmt.Errorf("%s: %w", file.Name, err)
		}
		left -= n
	}
	if err := os.Rename(dir, old); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Rename(next, dir); err != nil {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	return os.RemoveAll(old)
}

// unpackFile writes one member below root, which nothing can lead out of, and returns its size.
func unpackFile(root *os.Root, file *zip.File, left int64) (int64, error) {
	mode := file.Mode()
	name := filepath.FromSlash(file.Name)
	if !filepath.IsLocal(name) {
		return 0, errors.New("name leads out of the archive")
	}
	if mode.IsDir() {
		return 0, root.MkdirAll(name, 0o755)
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return 0, err
	}
	in, err := file.Open()
	if err != nil {
		return 0, err
	}
	defer in.Close()
	if mode&fs.ModeSymlink != 0 {
		target, err := io.ReadAll(io.LimitReader(in, 4096))
		if err != nil {
			return 0, err
		}
		return 0, root.Symlink(string(target), name)
	}
	if !mode.IsRegular() {
		return 0, errors.New("is neither a file, a directory, nor a link")
	}
	out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode.Perm()|0o600)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	n, err := io.Copy(out, io.LimitReader(in, left+1))
	if err == nil && n > left {
		err = fmt.Errorf("charm is larger than %d bytes", int64(maxCharmBytes))
	}
	if err == nil {
		err = out.Chmod(mode.Perm() | 0o600)
	}
	if err != nil {
		return n, err
	}
	return n, out.Close()
}
