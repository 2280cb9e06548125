package workload

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// Bounds of an archive that an operator has attached.
const (
	maxArchiveFiles = 20_000
	maxArchiveBytes = 512 << 20
)

// A BadArchive is what is wrong with an archive that an operator has attached.
type BadArchive string

func (b BadArchive) Error() string { return string(b) }

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
		return BadArchive("it is no gzip file")
	}
	members := tar.NewReader(io.LimitReader(zipped, 2*maxArchiveBytes))
	files, left := 0, int64(maxArchiveBytes)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		member, err := members.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return BadArchive("it cannot be read: " + err.Error())
		}
		name := path.Clean(member.Name)
		if files++; files > maxArchiveFiles {
			return BadArchive(fmt.Sprintf("it has more than %d members", maxArchiveFiles))
		}
		if member.Typeflag == tar.TypeXGlobalHeader || name == "." {
			continue
		}
		if !filepath.IsLocal(name) {
			return BadArchive(fmt.Sprintf("member %q leads outside", member.Name))
		}
		target := filepath.Join(to, name)
		switch member.Typeflag {
		case tar.TypeDir:
			if err := os.MkdirAll(target, 0o755); err != nil {
				return BadArchive(fmt.Sprintf("member %q is a directory and a file", member.Name))
			}
		case tar.TypeReg:
			if left -= member.Size; left < 0 {
				return BadArchive(fmt.Sprintf("it unpacks to more than %d MiB", maxArchiveBytes>>20))
			}
			if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
				return BadArchive(fmt.Sprintf("member %q is below a file", member.Name))
			}
			if err := writeMember(target, members, member.FileInfo().Mode()); err != nil {
				return err
			}
		default:
			return BadArchive(fmt.Sprintf("member %q is neither a directory nor a regular file", member.Name))
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
		return BadArchive(fmt.Sprintf("%q is in it twice", filepath.Base(target)))
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
		return BadArchive("it is cut off or damaged")
	}
	return err
}
