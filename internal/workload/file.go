package workload

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile makes the file at path hold data with mode perm, if it does not already, and says whether it had to. It writes a
// temporary file, syncs it, renames it over path and syncs the directory: after a crash the old or the new file is there, whole.
func WriteFile(path string, data []byte, perm fs.FileMode) (changed bool, err error) {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		if info, err := os.Lstat(path); err == nil && info.Mode() == perm {
			return false, nil
		}
	}
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".new-*")
	if err != nil {
		return false, fmt.Errorf("cannot write %q: %w", path, err)
	}
	defer func() {
		if err != nil {
			os.Remove(temp.Name())
		}
	}()
	if err := fill(temp, data, perm); err != nil {
		return false, fmt.Errorf("cannot write %q: %w", path, err)
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return false, fmt.Errorf("cannot write %q: %w", path, err)
	}
	return true, syncDir(dir)
}

func fill(f *os.File, data []byte, perm fs.FileMode) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Chmod(perm)
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot sync directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("cannot sync directory %q: %w", path, err)
	}
	return nil
}
