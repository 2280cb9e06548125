package cli

import (
	"errors"
	"fmt"
	"io/fs"

	"certlab/internal/juju"
)

// readCharm reads the charm that refresh was given.
func (c *call) readCharm(path string) (*juju.Charm, error) {
	ch, err := juju.ReadCharm(c.path(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%q: file does not exist", path)
	}
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return ch, nil
}
