package locallab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"certlab/internal/durable"
)

// rootlessDirs are what a machine can write in when the lab does not run as root.
var rootlessDirs = []string{"/etc", "/opt", "/usr", "/var"}

// rootlessSkeleton are the directories in which files can be added and replaced: the kernel cannot copy up a directory whose owner
// has no number in the user namespace, so each has to be in the upper layer from the beginning.
var rootlessSkeleton = []string{"/etc", "/opt", "/usr/local", "/usr/sbin", "/usr/bin", "/usr/lib/systemd", "/var/lib", "/var/log", "/var/cache", "/var/spool"}

// maxSkeleton bounds the directories of the skeleton.
const maxSkeleton = 50_000

// mountRootless shows the host's file system read-only, with overlays over the directories that a machine writes in.
func mountRootless(c bootConfig, root string) error {
	if err := unix.Mount("/", root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("cannot show the host's file system: %w", err)
	}
	if err := unix.MountSetattr(-1, root, unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return fmt.Errorf("cannot protect the host's file system: %w", err)
	}
	marker := filepath.Join(c.Dir, "provisioned")
	_, err := os.Stat(marker)
	fresh := errors.Is(err, os.ErrNotExist)
	if fresh {
		if err := rootlessProvision(c.Dir, c.blankDirs()); err != nil {
			return fmt.Errorf("cannot prepare the machine's file system: %w", err)
		}
	}
	for _, dir := range rootlessDirs {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		if err := mountLayer(c, root, dir, ",userxattr"); err != nil {
			return fmt.Errorf("cannot mount an overlay over %s without being root: %w (the kernel has to be 5.11 or later and allow overlays in user "+
				"namespaces; or run the lab as root)", dir, err)
		}
	}
	own := []string{"/root", "/srv", "/home"}
	if c.Kernels != nil {
		own = append(own, "/boot")
	}
	for _, dir := range own {
		own := filepath.Join(c.Dir, "layers", "own"+layerName(dir))
		if err := os.MkdirAll(own, 0o755); err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(root, dir)); err != nil {
			continue
		}
		if dir == "/home" && c.shares(dir) {
			continue // what has to be seen there is seen, and cannot be written
		}
		if err := bind(own, filepath.Join(root, dir), false); err != nil {
			return fmt.Errorf("cannot mount %s: %w", dir, err)
		}
	}
	if fresh {
		return durable.WriteFile(marker, nil, 0o600)
	}
	return nil
}

// shares reports whether something below dir has to be seen on the machine.
func (c bootConfig) shares(dir string) bool {
	for _, path := range c.Share {
		if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
			return true
		}
	}
	return false
}

func rootlessProvision(dir string, blankDirs []string) error {
	count := 0
	for _, top := range rootlessDirs {
		if err := os.MkdirAll(filepath.Join(dir, "layers", layerName(top), "upper"), 0o755); err != nil {
			return err
		}
	}
	upper := func(path string) string {
		for _, top := range rootlessDirs {
			if rel, err := filepath.Rel(top, path); err == nil && filepath.IsLocal(rel) {
				return filepath.Join(dir, "layers", layerName(top), "upper", rel)
			}
		}
		return ""
	}
	for _, start := range rootlessSkeleton {
		err := filepath.WalkDir(start, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.IsDir() {
				return nil // what cannot be read cannot be written either
			}
			if count++; count > maxSkeleton {
				return fs.SkipAll
			}
			return os.MkdirAll(upper(path), 0o755)
		})
		if err != nil {
			return err
		}
	}
	for _, blank := range blankDirs {
		target := upper(blank)
		if target == "" {
			continue
		}
		if err := os.RemoveAll(target); err != nil {
			return err
		}
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := unix.Setxattr(target, "user.overlay.opaque", []byte("y"), 0); err != nil {
			return err
		}
	}
	return os.WriteFile(upper("/usr/sbin/policy-rc.d"), []byte("#!/bin/sh\nexit 101\n"), 0o755)
}
