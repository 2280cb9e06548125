package workload

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"certlab/internal/durable"
)

const (
	currentLink = "current"
	tempPrefix  = ".new-"
	// copiedFile remembers what the charm's files looked like when they were last copied, so that most calls hash nothing.
	copiedFile = "copied.json"
	// maxPrograms bounds the charm's bin directory, in files.
	maxPrograms = 16
)

// copied is the content of copiedFile.
type copied struct {
	Hash  string            `json:"hash"`  // name of the directory below bin/
	Files map[string]string `json:"files"` // program → what stat says of the charm's file
}

// Install copies the charm's programs to the unit's bin directory if they are not there yet, points bin/current at them, and
// removes copies that no process runs from any more. It returns the directory of the newest. A crash leaves either the old or the
// new programs current, never half of one.
func (w *Workload) Install(ctx context.Context) (dir string, err error) {
	source := filepath.Join(w.cfg.CharmDir, "bin")
	bin := filepath.Join(w.base, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", fmt.Errorf("cannot install the charm's programs: %w", err)
	}
	stats, err := statPrograms(source)
	if err != nil {
		return "", fmt.Errorf("cannot install the charm's programs: %w", err)
	}
	for _, needed := range []string{"pebble", w.cfg.Service.Name} {
		if stats[needed] == "" {
			return "", fmt.Errorf("cannot install the charm's programs: %q is not in the charm (pack it again)", "bin/"+needed)
		}
	}
	if dir, ok := w.alreadyInstalled(bin, stats); ok {
		return dir, nil
	}

	hash, err := hashPrograms(ctx, source, stats)
	if err != nil {
		return "", fmt.Errorf("cannot install the charm's programs: %w", err)
	}
	dir = filepath.Join(bin, hash)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		w.Step("copy programs")
		if err := copyPrograms(ctx, source, dir, stats); err != nil {
			return "", fmt.Errorf("cannot install the charm's programs: %w", err)
		}
	} else if err != nil {
		return "", fmt.Errorf("cannot install the charm's programs: %w", err)
	}
	w.Step("switch to programs")
	if err := switchLink(bin, hash); err != nil {
		return "", fmt.Errorf("cannot install the charm's programs: %w", err)
	}
	record, err := json.Marshal(copied{Hash: hash, Files: stats})
	if err != nil {
		return "", err
	}
	if _, err := w.WriteFile(filepath.Join(bin, copiedFile), record, 0o644); err != nil {
		return "", err
	}
	return dir, nil
}

func (w *Workload) alreadyInstalled(bin string, stats map[string]string) (dir string, ok bool) {
	var last copied
	data, err := os.ReadFile(filepath.Join(bin, copiedFile))
	if err != nil || json.Unmarshal(data, &last) != nil || len(last.Files) != len(stats) {
		return "", false
	}
	for name, stat := range stats {
		if last.Files[name] != stat {
			return "", false
		}
	}
	if target, err := os.Readlink(filepath.Join(bin, currentLink)); err != nil || target != last.Hash {
		return "", false
	}
	dir = filepath.Join(bin, last.Hash)
	if _, err := os.Stat(filepath.Join(dir, w.cfg.Service.Name)); err != nil {
		return "", false
	}
	return dir, true
}

// statPrograms describes each program, by its path below source, by what changes whenever it is written: a packed charm's modification
// times are all alike, but the kernel's change times are not.
func statPrograms(source string) (map[string]string, error) {
	stats := map[string]string{}
	return stats, fs.WalkDir(os.DirFS(source), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%q is not a regular file", filepath.Join(source, name))
		}
		text := fmt.Sprintf("size %d", info.Size())
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			text += fmt.Sprintf(" inode %d changed %d.%09d", st.Ino, st.Ctim.Sec, st.Ctim.Nsec)
		}
		if stats[name] = text; len(stats) > maxPrograms {
			return fmt.Errorf("%q has more than %d files", source, maxPrograms)
		}
		return nil
	})
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// hashPrograms names a set of programs: 16 hexadecimal digits over their names and contents.
func hashPrograms(ctx context.Context, source string, stats map[string]string) (string, error) {
	sum := sha256.New()
	for _, name := range sortedNames(stats) {
		one := sha256.New()
		if err := copyFile(ctx, one, filepath.Join(source, name)); err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %x\n", name, one.Sum(nil))
	}
	return hex.EncodeToString(sum.Sum(nil))[:16], nil
}

func copyFile(ctx context.Context, to io.Writer, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(to, contextReader{ctx, f}); err != nil {
		return fmt.Errorf("cannot copy %q: %w", from, err)
	}
	return nil
}

// contextReader ends a long copy when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

func copyPrograms(ctx context.Context, source, dir string, stats map[string]string) (err error) {
	bin := filepath.Dir(dir)
	temp, err := os.MkdirTemp(bin, tempPrefix)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(temp)
		}
	}()
	if err := os.Chmod(temp, 0o755); err != nil {
		return err
	}
	for _, name := range sortedNames(stats) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(temp, name)), 0o755); err != nil {
			return err
		}
		f, err := os.OpenFile(filepath.Join(temp, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
		if err != nil {
			return err
		}
		err = copyFile(ctx, f, filepath.Join(source, name))
		if err == nil {
			err = f.Chmod(0o755)
		}
		if err == nil {
			err = f.Sync()
		}
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return err
		}
	}
	if err := syncTree(temp); err != nil {
		return err
	}
	if err := os.Rename(temp, dir); err != nil {
		return err
	}
	return durable.SyncDir(bin)
}

// switchLink points bin/current at the directory called target, atomically.
func switchLink(bin, target string) error {
	link := filepath.Join(bin, currentLink)
	if old, err := os.Readlink(link); err == nil && old == target {
		return nil
	}
	temp := filepath.Join(bin, tempPrefix+currentLink)
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, temp); err != nil {
		return err
	}
	if err := os.Rename(temp, link); err != nil {
		return err
	}
	return durable.SyncDir(bin)
}

// removeUnused deletes copies of programs that are neither current nor being run, and what interrupted installations left.
func (w *Workload) removeUnused(running []process) error {
	bin := filepath.Join(w.base, "bin")
	current, err := os.Readlink(filepath.Join(bin, currentLink))
	if err != nil {
		return fmt.Errorf("cannot find the current programs: %w", err)
	}
	entries, err := os.ReadDir(bin)
	if err != nil {
		return fmt.Errorf("cannot remove old programs: %w", err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if !entry.IsDir() || name == current {
			continue
		}
		dir := filepath.Join(bin, name) + string(filepath.Separator)
		used := false
		for _, p := range running {
			used = used || strings.HasPrefix(p.exe, dir)
		}
		if used {
			continue
		}
		w.Step("remove old programs")
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("cannot remove old programs: %w", err)
		}
	}
	return nil
}
