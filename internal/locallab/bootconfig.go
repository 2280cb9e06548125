package locallab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Descriptors that a machine's first process inherits, besides its standard ones.
const (
	controlFD = 3 // the socket to the lab
	configFD  = 4 // a bootConfig, as JSON in memory
)

// A bootConfig says all that a machine's first process needs to know.
type bootConfig struct {
	Hostname    string   `json:"hostname"`
	Address     string   `json:"address"`
	InstanceID  string   `json:"instance_id"`
	MachineID   string   `json:"machine_id"`
	ProductUUID string   `json:"product_uuid"`
	BootID      string   `json:"boot_id"`
	Dir         string   `json:"dir"`     // the machine's directory on the host
	Hide        []string `json:"hide"`    // the host's directories that the machine must not see
	Share       []string `json:"share"`   // the host's files and directories that it must see
	Storage     string   `json:"storage"` // the host's directory that is storageDir inside; empty for none
	Resolv      []byte   `json:"resolv"`  // the host's resolv.conf
	Rootless    bool     `json:"rootless"`

	Programs map[string]string `json:"programs"` // name in insideDir → the host's file
	Mounts   []Mount           `json:"mounts"`
	Cloud    *Cloud            `json:"cloud"`
	Kernels  *Kernels          `json:"kernels"`
}

// storageDir is where a machine sees the lab's storage, as Juju's agents do.
const storageDir = "/var/lib/juju/storage"

// file returns an unnamed file that holds the configuration.
func (c bootConfig) file() (*os.File, error) {
	data, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	if len(data) > maxBootConfig {
		return nil, errors.New("machine's configuration is too large")
	}
	fd, err := unix.MemfdCreate("certlab-machine", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "configuration")
	if _, err := file.Write(data); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// maxBootConfig bounds a configuration, in bytes.
const maxBootConfig = 1 << 20

func readBootConfig(fd int) (bootConfig, error) {
	var c bootConfig
	// Read in place, and not through a file that would close the descriptor when nobody looks at it any more.
	data := make([]byte, maxBootConfig)
	n, err := unix.Pread(fd, data, 0)
	if err != nil {
		return c, errNotFirst
	}
	if err := json.Unmarshal(data[:n], &c); err != nil {
		return c, fmt.Errorf("cannot read the machine's configuration: %w", err)
	}
	return c, nil
}
