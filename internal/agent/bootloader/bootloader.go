// Package bootloader says which kernel a machine boots by default, and changes that until it is put back.
//
// Machines that are tested reboot more than once, so the choice is one that lasts: not GRUB's one-time next_entry. What was chosen is read back
// from what the loader itself will read.
package bootloader

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A Loader is what starts a machine's kernel.
type Loader interface {
	Name() string
	// Default is what the loader starts if nobody intervenes.
	Default() (Default, error)
	// Select makes a kernel, by what uname -r says on it, the default from the next boot on, and makes sure that it is.
	Select(ctx context.Context, release string) error
	// Restore takes the choice back. What the loader then starts is what it would have started without it.
	Restore(ctx context.Context) error
	// Chosen reports whether a choice of Select's is in force, Left whether there is anything of one that Restore would take back.
	Chosen() bool
	Left() bool
}

// Default is what a loader starts.
type Default struct {
	Entry   string `json:"entry"`             // as the loader has it, such as 0 or gnulinux-advanced-…>gnulinux-…
	Release string `json:"release,omitempty"` // of the kernel; empty: it cannot be told
}

// Runner runs a command and returns what it printed.
type Runner func(ctx context.Context, name string, args ...string) (string, error)

// Find returns the loader of the machine with its files below root. path finds programs.
func Find(root string, path func(name string) (string, error), run Runner) (Loader, error) {
	in := func(name string) bool {
		_, err := os.Stat(filepath.Join(root, name))
		return err == nil
	}
	if in("boot/grub/grub.cfg") {
		if _, err := path("update-grub"); err != nil {
			return nil, fmt.Errorf("cannot select a kernel: the machine boots with GRUB, and there is no update-grub (install grub2-common)")
		}
		_, err := path("grub-editenv")
		return &grub{root: root, run: run, editenv: err == nil}, nil
	}
	what := "has no /boot/grub/grub.cfg"
	switch {
	case in("etc/flash-kernel") || in("usr/share/flash-kernel"):
		what = "boots with flash-kernel"
	case in("boot/efi/loader/loader.conf") || in("efi/loader/loader.conf") || in("boot/loader/loader.conf"):
		what = "boots with systemd-boot"
	case in("boot/extlinux/extlinux.conf"):
		what = "boots with extlinux"
	case in("etc/zipl.conf"):
		what = "boots with zipl"
	}
	return nil, fmt.Errorf("cannot select a kernel: the machine %s, and only GRUB can be told what to boot", what)
}

// said is the end of what a command printed.
func said(out string, err error) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	text := strings.Join(lines[max(0, len(lines)-2):], "; ")
	if len(text) > 300 {
		text = strings.ToValidUTF8(text[:300], "") + "…"
	}
	if text == "" {
		return err.Error()
	}
	return fmt.Sprintf("%v: %s", err, text)
}

// LookPath is exec.LookPath in the directories of path.
func LookPath(path string) func(string) (string, error) {
	return func(name string) (string, error) {
		for _, dir := range filepath.SplitList(path) {
			file := filepath.Join(dir, name)
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return file, nil
			}
		}
		return "", fmt.Errorf("cannot find %s: %w", name, exec.ErrNotFound)
	}
}
