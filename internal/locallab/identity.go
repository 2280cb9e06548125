package locallab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// writeIdentity writes, inside the machine, the files that say which machine it is.
func writeIdentity(c bootConfig) error {
	hosts := fmt.Sprintf("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n%s %s\n", c.Address, c.Hostname)
	files := []struct {
		path, content string
	}{
		{"/etc/hostname", c.Hostname + "\n"},
		{"/etc/hosts", hosts},
		{"/etc/machine-id", c.MachineID + "\n"},
		{"/var/lib/cloud/data/instance-id", c.InstanceID + "\n"},
	}
	for _, file := range files {
		old, err := os.ReadFile(file.path)
		if err == nil && string(old) == file.content {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(file.path), 0o755); err != nil {
			return err
		}
		// A link may lead to where there is nothing, and the host's file may be one that cannot be changed in place.
		if err := os.Remove(file.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.WriteFile(file.path, []byte(file.content), 0o644); err != nil {
			return err
		}
	}
	return writeResolv("/etc/resolv.conf", c.Resolv)
}

// writeResolv makes name resolution what it is on the host. The host's file is often a link into /run, where a machine has nothing
// yet: then what it leads to is written, and the link stays.
func writeResolv(path string, content []byte) error {
	if len(content) == 0 {
		return nil
	}
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	target := path
	if link, err := os.Readlink(path); err == nil {
		if !filepath.IsAbs(link) {
			link = filepath.Join(filepath.Dir(path), link)
		}
		if strings.HasPrefix(link, "/run/") {
			target = link
		}
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile(target, content, 0o644)
}
