package locallab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"certlab/internal/durable"
)

// wipedPrefix begins the names of what is left to remove of a machine's former file system.
const wipedPrefix = "wiped-"

// Wipe makes the machine, which has to be off, forget all that was written in it; what its services printed goes to log/last. It is another
// system afterwards, with another machine id, on the same hardware. A wipe that was interrupted is done again by the next one, and the
// machine must not boot before.
func (m *Machine) Wipe() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state != Off {
		return fmt.Errorf("cannot wipe machine %s: it is on", m.spec.ID)
	}
	if err := m.wipe(); err != nil {
		return fmt.Errorf("cannot wipe machine %s: %w", m.spec.ID, err)
	}
	return nil
}

func (m *Machine) wipe() error {
	// The mark that says that the layers are made goes first: layers without it are made anew, a mark without them would be believed.
	if err := os.Remove(filepath.Join(m.spec.Dir, "provisioned")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := durable.SyncDir(m.spec.Dir); err != nil {
		return err
	}
	layers := filepath.Join(m.spec.Dir, "layers")
	if err := os.Rename(layers, filepath.Join(m.spec.Dir, wipedPrefix+newUUID())); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Mkdir(layers, 0o700); err != nil {
		return err
	}
	id := m.identity
	id.MachineID = newMachineID()
	data, err := json.Marshal(id)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(m.spec.Dir, "identity.json"), data, 0o600); err != nil {
		return err
	}
	m.identity = id
	if err := m.putLogsAside(); err != nil {
		return err
	}
	return removeWiped(m.spec.Dir)
}

// putLogsAside keeps the services' logs of the system that is gone; the console goes on, as that of hardware does.
func (m *Machine) putLogsAside() error {
	logs := filepath.Join(m.spec.Dir, "log")
	last := filepath.Join(logs, "last")
	if err := os.RemoveAll(last); err != nil {
		return err
	}
	if err := os.Mkdir(last, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(logs)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() || strings.HasPrefix(entry.Name(), consoleLog) {
			continue
		}
		if err := os.Rename(filepath.Join(logs, entry.Name()), filepath.Join(last, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// removeWiped removes what wipes have put aside in a machine's directory.
func removeWiped(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), wipedPrefix) {
			if err := removeAll(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
