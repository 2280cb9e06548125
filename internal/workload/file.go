package workload

import (
	"bytes"
	"io/fs"
	"os"

	"certlab/internal/durable"
)

// WriteFile makes the file at path hold data with mode perm, if it does not already, and says whether it had to. After a
// crash the old or the new file is there, whole.
func WriteFile(path string, data []byte, perm fs.FileMode) (changed bool, err error) {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		if info, err := os.Lstat(path); err == nil && info.Mode() == perm {
			return false, nil
		}
	}
	return true, durable.WriteFile(path, data, perm)
}
