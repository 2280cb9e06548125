package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"certlab/internal/durable"
)

// A will is a small file whose room on the disk is taken before it is known what it will say, so that it can be written when the disk is
// full.
type will struct {
	path      string
	temporary *os.File // nil: there was no room
}

// willSize is the room that is taken, in bytes.
const willSize = 8 << 10

// willPatience is how long writing is tried again where even that does not help: not every file system writes in place.
const willPatience = 10 * time.Minute

// reserve takes room for the file at path.
func reserve(path string) will {
	f, err := os.OpenFile(path+".reserved", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return will{path: path}
	}
	// Zeros, not a hole.
	if _, err := f.Write(make([]byte, willSize)); err != nil || f.Sync() != nil {
		f.Close()
		os.Remove(f.Name())
		return will{path: path}
	}
	return will{path: path, temporary: f}
}

// write writes v as JSON, durably, and lets go of the room.
func (w will) write(v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", w.path, err)
	}
	data = append(data, '\n')
	if w.temporary != nil {
		err := w.inPlace(data)
		if err == nil {
			return nil
		}
		os.Remove(w.temporary.Name())
	}
	for deadline := time.Now().Add(willPatience); ; {
		err := durable.WriteFile(w.path, data, 0o600)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(time.Second)
	}
}

// inPlace writes data over what was reserved, and gives it its name.
func (w will) inPlace(data []byte) error {
	f := w.temporary
	_, err := f.WriteAt(data, 0)
	if err == nil {
		err = f.Truncate(int64(len(data)))
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), w.path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(w.path))
}
