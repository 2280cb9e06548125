package locallab

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"certlab/internal/durable"
	"certlab/internal/juju"
)

// keepFiles copies the charms and resources that the model names into the lab's directory, as a controller stores what is uploaded:
// what was deployed does not change when the operator's file does.
func (l *Lab) keepFiles() error {
	state := l.model.Snapshot()
	moved := map[string]string{} // from the operator's path with its hash to ours
	var problems []error
	keep := func(dir, path, sum string, h hash.Hash) {
		if sum == "" || path == "" || strings.HasPrefix(path, l.path(dir)+"/") {
			return
		}
		target := l.path(dir, sum)
		if err := keepFile(path, target, sum, h); err != nil {
			problems = append(problems, err)
			return
		}
		moved[path+" "+sum] = target
	}
	for _, ch := range state.Charms {
		keep("charms", ch.Path, ch.SHA256, sha256.New())
	}
	for _, app := range state.Applications {
		for _, r := range app.Resources {
			keep("resources", r.Path, r.SHA384, sha512.New384())
		}
	}
	if len(moved) == 0 {
		return errors.Join(problems...)
	}
	problems = append(problems, l.model.Update(func(s *juju.State) error {
		for url, ch := range s.Charms {
			if target, ok := moved[ch.Path+" "+ch.SHA256]; ok {
				kept := *ch // charms are shared between states
				kept.Path = target
				s.Charms[url] = &kept
			}
		}
		for _, app := range s.Applications {
			for name, r := range app.Resources {
				if target, ok := moved[r.Path+" "+r.SHA384]; ok {
					r.Path = target
					app.Resources[name] = r
				}
			}
		}
		return nil
	}))
	return errors.Join(problems...)
}

// keepFile copies a file whose hash is known. It does nothing when it has the copy.
func keepFile(path, target, sum string, h hash.Hash) error {
	if _, err := os.Stat(target); err == nil {
		return nil
	}
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(target), ".copy")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	if _, err := io.Copy(io.MultiWriter(out, h), in); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != sum {
		return fmt.Errorf("%s has changed since it was deployed", path)
	}
	if err := out.Sync(); err != nil {
		return err
	}
	if err := os.Rename(out.Name(), target); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(target))
}

// dropUnused removes the kept files that the model does not name any more.
func (l *Lab) dropUnused() error {
	state := l.model.Snapshot()
	used := map[string]bool{}
	for _, ch := range state.Charms {
		used[ch.Path] = true
	}
	for _, app := range state.Applications {
		for _, r := range app.Resources {
			used[r.Path] = true
		}
	}
	for _, dir := range []string{"charms", "resources"} {
		entries, err := os.ReadDir(l.path(dir))
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if path := l.path(dir, entry.Name()); !used[path] {
				if err := os.Remove(path); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// openUp lets the owner into every directory below dir.
func openUp(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if entry != nil && entry.IsDir() && err == nil {
			if info, infoErr := entry.Info(); infoErr == nil && info.Mode().Perm()&0o700 != 0o700 {
				return os.Chmod(path, 0o700)
			}
		}
		return nil
	})
}
