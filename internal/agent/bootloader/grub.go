package bootloader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"certlab/internal/durable"
)

// Files of GRUB's.
const (
	choiceFile = "etc/default/grub.d/zz-certlab.cfg" // read last, so that it goes before what the image or a person has set
	asideFile  = choiceFile + ".dpkg-old"            // not read: that wants names in .cfg
	configFile = "boot/grub/grub.cfg"
	envFile    = "boot/grub/grubenv"
)

// grub is GRUB as Debian and Ubuntu set it up.
type grub struct {
	root    string
	run     Runner
	editenv bool // grub-editenv is there
}

func (g *grub) path(name string) string { return filepath.Join(g.root, name) }

func (g *grub) Name() string { return "GRUB" }

func (g *grub) read() (menu, map[string]string, error) {
	data, err := os.ReadFile(g.path(configFile))
	if err != nil {
		return menu{}, nil, fmt.Errorf("cannot read GRUB's menu: %w", err)
	}
	env := make(map[string]string)
	text, err := os.ReadFile(g.path(envFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return menu{}, nil, fmt.Errorf("cannot read GRUB's environment: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\n"), "="); ok && !strings.HasPrefix(line, "#") {
			env[name] = value
		}
	}
	return parseMenu(string(data)), env, nil
}

func (g *grub) Default() (Default, error) {
	m, env, err := g.read()
	if err != nil {
		return Default{}, err
	}
	d := Default{Entry: m.preset}
	if m.preset == "${saved_entry}" {
		d.Entry = env["saved_entry"]
		if d.Entry == "" {
			d.Entry = "0"
		}
	}
	if e := m.find(d.Entry); e != nil {
		d.Release = e.boots()
	}
	return d, nil
}

func (g *grub) Chosen() bool { return exists(g.path(choiceFile)) }

func (g *grub) Left() bool { return exists(g.path(choiceFile)) || exists(g.path(asideFile)) }

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (g *grub) Select(ctx context.Context, release string) error {
	m, _, err := g.read()
	if err != nil {
		return err
	}
	entry := m.entryFor(release)
	if entry == "" {
		// What installed the kernel did not refresh the menu.
		if err := g.update(ctx); err != nil {
			return err
		}
		if m, _, err = g.read(); err != nil {
			return err
		}
		if entry = m.entryFor(release); entry == "" {
			return fmt.Errorf("cannot select kernel %s: GRUB's menu has no entry for it", release)
		}
	}
	text := fmt.Sprintf("# Certlab: the kernel that is under test. Removed afterwards.\nGRUB_DEFAULT=%q\n# Nobody is there to choose after a boot that failed.\nGRUB_RECORDFAIL_TIMEOUT=5\n", entry)
	if err := os.MkdirAll(filepath.Dir(g.path(choiceFile)), 0o755); err != nil {
		return fmt.Errorf("cannot select kernel %s: %w", release, err)
	}
	if err := durable.WriteFile(g.path(choiceFile), []byte(text), 0o644); err != nil {
		return fmt.Errorf("cannot select kernel %s: %w", release, err)
	}
	if err := g.update(ctx); err != nil {
		return err
	}
	if err := g.forgetNext(ctx); err != nil {
		return err
	}
	d, err := g.Default()
	if err != nil {
		return err
	}
	if d.Release != release {
		return fmt.Errorf("cannot select kernel %s: GRUB's menu still has %q as its default (does another file in /etc/default/grub.d set GRUB_DEFAULT?)", release, d.Entry)
	}
	return nil
}

// forgetNext makes sure that no entry is chosen for the next boot alone, which would go before the default.
func (g *grub) forgetNext(ctx context.Context) error {
	_, env, err := g.read()
	if err != nil || env["next_entry"] == "" {
		return err
	}
	if !g.editenv {
		return fmt.Errorf("cannot select a kernel: %q was chosen for the next boot (grub-reboot), and there is no grub-editenv to take that back", env["next_entry"])
	}
	if out, err := g.run(ctx, "grub-editenv", g.path(envFile), "unset", "next_entry"); err != nil {
		return fmt.Errorf("cannot take back what was chosen for the next boot: %s", said(out, err))
	}
	if _, env, err = g.read(); err == nil && env["next_entry"] != "" {
		err = fmt.Errorf("cannot select a kernel: %q stays chosen for the next boot", env["next_entry"])
	}
	return err
}

func (g *grub) Restore(ctx context.Context) error {
	if !g.Left() {
		return nil
	}
	// As long as one of the two files is there, it is known that there is something to put back.
	aside := g.path(asideFile)
	if g.Chosen() {
		if err := os.Rename(g.path(choiceFile), aside); err != nil {
			return fmt.Errorf("cannot put back what GRUB boots: %w", err)
		}
	}
	if err := g.update(ctx); err != nil {
		return errors.Join(err, os.Rename(aside, g.path(choiceFile)))
	}
	if err := os.Remove(aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot put back what GRUB boots: %w", err)
	}
	return durable.SyncDir(filepath.Dir(aside))
}

func (g *grub) update(ctx context.Context) error {
	if out, err := g.run(ctx, "update-grub"); err != nil {
		return fmt.Errorf("cannot write GRUB's menu: %s", said(out, err))
	}
	// A menu that is half on the disk when the power goes is no menu.
	if f, err := os.Open(g.path(configFile)); err == nil {
		err = errors.Join(f.Sync(), f.Close())
		if err != nil {
			return fmt.Errorf("cannot write GRUB's menu: %w", err)
		}
	}
	if err := durable.SyncDir(filepath.Dir(g.path(configFile))); err != nil {
		return fmt.Errorf("cannot write GRUB's menu: %w", err)
	}
	return nil
}
