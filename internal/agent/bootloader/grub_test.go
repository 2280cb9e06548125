package bootloader_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/agent/bootloader"
)

// menu is a grub.cfg as Ubuntu 24.04 writes it, with DEFAULT in its place.
const menu = `if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="DEFAULT"
fi
function gfxmode {
	set gfxpayload="${1}"
}
menuentry 'Ubuntu' --class ubuntu $menuentry_id_option 'gnulinux-simple-11aa' {
	recordfail
	if [ x$feature_platform_search_hint = xy ]; then
	  search --no-floppy --fs-uuid --set=root 11aa
	fi
	linux	/boot/vmlinuz-6.8.0-51-generic root=UUID=11aa ro  quiet
}
submenu 'Advanced options for Ubuntu' $menuentry_id_option 'gnulinux-advanced-11aa' {
	menuentry 'Ubuntu, with Linux 6.8.0-51-generic' --class ubuntu $menuentry_id_option 'gnulinux-6.8.0-51-generic-advanced-11aa' {
		linux	/boot/vmlinuz-6.8.0-51-generic root=UUID=11aa ro  quiet
	}
	menuentry 'Ubuntu, with Linux 6.8.0-51-generic (recovery mode)' $menuentry_id_option 'gnulinux-6.8.0-51-generic-recovery-11aa' {
		linux	/boot/vmlinuz-6.8.0-51-generic root=UUID=11aa ro recovery
	}
	menuentry 'Ubuntu, with Linux 6.8.0-5-generic' $menuentry_id_option 'gnulinux-6.8.0-5-generic-advanced-11aa' {
		linux	/boot/vmlinuz-6.8.0-5-generic root=UUID=11aa ro  quiet
	}
}
menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' {
	fwsetup
}
`

// machine has that menu, and update-grub and grub-editenv that do what they are told with it.
type machine struct {
	t    *testing.T
	root string
	keep bool // update-grub writes the default that was there
	fail error
}

func newMachine(t *testing.T, env string) *machine {
	m := &machine{t: t, root: t.TempDir()}
	m.write("boot/grub/grub.cfg", strings.ReplaceAll(menu, "DEFAULT", "0"))
	m.write("boot/grub/grubenv", "# GRUB Environment Block\n"+env+"####")
	return m
}

func (m *machine) write(name, text string) {
	require.NoError(m.t, os.MkdirAll(filepath.Dir(filepath.Join(m.root, name)), 0o755))
	require.NoError(m.t, os.WriteFile(filepath.Join(m.root, name), []byte(text), 0o644))
}

func (m *machine) loader(missing ...string) (bootloader.Loader, error) {
	path := func(name string) (string, error) {
		for _, n := range missing {
			if n == name {
				return "", exec.ErrNotFound
			}
		}
		return "/usr/sbin/" + name, nil
	}
	return bootloader.Find(m.root, path, func(_ context.Context, name string, args ...string) (string, error) {
		switch {
		case m.fail != nil:
			return "grub-probe: error: failed to get canonical path\n", m.fail
		case name == "grub-editenv":
			m.write("boot/grub/grubenv", "# GRUB Environment Block\n####")
		case !m.keep:
			preset := "0"
			if text, err := os.ReadFile(filepath.Join(m.root, "etc/default/grub.d/zz-certlab.cfg")); err == nil {
				_, preset, _ = strings.Cut(string(text), `GRUB_DEFAULT="`)
				preset, _, _ = strings.Cut(preset, `"`)
			}
			m.write("boot/grub/grub.cfg", strings.ReplaceAll(menu, "DEFAULT", preset))
		}
		return "", nil
	})
}

func TestChoiceLastsAndIsTakenBack(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "saved_entry=x\nnext_entry=gnulinux-old\n")
	l, err := m.loader()
	require.NoError(t, err)
	before, err := l.Default()
	require.NoError(t, err)
	require.Equal(t, bootloader.Default{Entry: "0", Release: "6.8.0-51-generic"}, before)
	require.NoError(t, l.Select(t.Context(), "6.8.0-5-generic"))
	d, err := l.Default()
	require.NoError(t, err)
	require.Equal(t, bootloader.Default{Entry: "gnulinux-advanced-11aa>gnulinux-6.8.0-5-generic-advanced-11aa", Release: "6.8.0-5-generic"}, d)
	env, err := os.ReadFile(filepath.Join(m.root, "boot/grub/grubenv"))
	require.NoError(t, err)
	require.NotContains(t, string(env), "next_entry", "it would go before the default")
	require.True(t, l.Chosen())
	require.NoError(t, l.Restore(t.Context()))
	require.False(t, l.Left())
	d, err = l.Default()
	require.NoError(t, err)
	require.Equal(t, before, d)
}

func TestFaultRestoringIsCutOff(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "")
	l, err := m.loader()
	require.NoError(t, err)
	require.NoError(t, l.Select(t.Context(), "6.8.0-5-generic"))
	// As a power cut leaves it: the choice is set aside, the menu is still the old one.
	choice := filepath.Join(m.root, "etc/default/grub.d/zz-certlab.cfg")
	require.NoError(t, os.Rename(choice, choice+".dpkg-old"))
	require.False(t, l.Chosen())
	require.True(t, l.Left(), "it is not forgotten")
	require.NoError(t, l.Restore(t.Context()))
	d, err := l.Default()
	require.NoError(t, err)
	require.Equal(t, "0", d.Entry)
	require.False(t, l.Left())
}

func TestFaultGRUBKeepsItsDefault(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, env, release, message string
		missing                     string
		change                      func(*machine)
	}{
		{"another file sets it", "", "6.8.0-5-generic", `cannot select kernel 6.8.0-5-generic: GRUB's menu still has "0" as its default (does another file in /etc/default/grub.d set GRUB_DEFAULT?)`, "", func(m *machine) { m.keep = true }},
		{"no entry", "", "6.8.0-52-generic", "cannot select kernel 6.8.0-52-generic: GRUB's menu has no entry for it", "", func(*machine) {}},
		{"update-grub fails", "", "6.8.0-5-generic", "cannot write GRUB's menu: exit status 1: grub-probe: error: failed to get canonical path", "", func(m *machine) { m.fail = errors.New("exit status 1") }},
		{"the next boot is chosen already", "next_entry=old\n", "6.8.0-5-generic", `cannot select a kernel: "old" was chosen for the next boot (grub-reboot), and there is no grub-editenv to take that back`, "grub-editenv", func(*machine) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, test.env)
			test.change(m)
			l, err := m.loader(test.missing)
			require.NoError(t, err)
			require.EqualError(t, l.Select(t.Context(), test.release), test.message)
		})
	}
}

func TestFaultLoaderThatIsNotKnown(t *testing.T) {
	t.Parallel()
	for path, message := range map[string]string{
		"etc/flash-kernel/db":         "cannot select a kernel: the machine boots with flash-kernel, and only GRUB can be told what to boot",
		"boot/efi/loader/loader.conf": "cannot select a kernel: the machine boots with systemd-boot, and only GRUB can be told what to boot",
		"etc/hostname":                "cannot select a kernel: the machine has no /boot/grub/grub.cfg, and only GRUB can be told what to boot",
	} {
		m := newMachine(t, "")
		require.NoError(t, os.RemoveAll(filepath.Join(m.root, "boot")))
		m.write(path, "x\n")
		_, err := m.loader()
		require.EqualError(t, err, message)
	}
	_, err := newMachine(t, "").loader("update-grub")
	require.EqualError(t, err, "cannot select a kernel: the machine boots with GRUB, and there is no update-grub (install grub2-common)")
}

func TestSavedDefaultIsFollowed(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "saved_entry=Advanced options for Ubuntu>Ubuntu, with Linux 6.8.0-5-generic\n")
	m.write("boot/grub/grub.cfg", strings.ReplaceAll(menu, "DEFAULT", "${saved_entry}"))
	l, err := m.loader()
	require.NoError(t, err)
	d, err := l.Default()
	require.NoError(t, err)
	require.Equal(t, "6.8.0-5-generic", d.Release)
	m.write("boot/grub/grub.cfg", strings.ReplaceAll(menu, "DEFAULT", "1>2"))
	d, err = l.Default()
	require.NoError(t, err)
	require.Equal(t, "6.8.0-5-generic", d.Release)
}
