package workload

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"

	"certlab/internal/durable"
)

// WriteFile makes the file at path hold data with mode perm, if it does not already, and says whether it had to. After a
// crash the old or the new file is there, whole.
func (w *Workload) WriteFile(path string, data []byte, perm fs.FileMode) (changed bool, err error) {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		if info, err := os.Lstat(path); err == nil && info.Mode() == perm {
			return false, nil
		}
	}
	w.Step("write " + filepath.Base(path))
	return true, durable.WriteFile(path, data, perm)
}

// Step tells a test what is about to be changed on the machine.
func (w *Workload) Step(what string) {
	if w.cfg.Step != nil {
		w.cfg.Step(what)
	}
}
