package locallab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/debarchive"
)

// testKernels are those of a machine whose archive nobody serves.
func testKernels() *Kernels {
	return &Kernels{Installed: "6.8.0-50.51", Archive: "http://127.77.1.2:5248/ubuntu", Key: "key\n", Codename: "noble"}
}

// furnished makes what a new machine has, without the machine.
func furnished(t *testing.T, k *Kernels) string {
	t.Helper()
	root := t.TempDir()
	const status = "Package: bash\nStatus: install ok installed\n\nPackage: linux-image-6.1.0-1-amd64\nStatus: install ok installed\n\nPackage: linux-libc-dev\nStatus: install ok installed\n"
	require.NoError(t, writeInside(root, "var/lib/dpkg/status", status, 0o644))
	require.NoError(t, k.furnish(root, false))
	return root
}

// add unpacks a kernel on the machine at root, as dpkg would.
func add(t *testing.T, root, version string) {
	t.Helper()
	for _, p := range debarchive.Kernel(debarchive.KernelSpec{Version: version, Arch: "amd64"}) {
		for _, f := range p.Files {
			require.NoError(t, writeInside(root, f.Path, f.Data, f.Mode))
		}
	}
}

func TestANewMachineHasTheKernelOfItsImage(t *testing.T) {
	t.Parallel()
	root := furnished(t, testKernels())
	status, err := os.ReadFile(filepath.Join(root, "var/lib/dpkg/status"))
	require.NoError(t, err)
	require.Contains(t, string(status), "Package: linux-image-6.8.0-50-generic\nStatus: install ok installed\nVersion: 6.8.0-50.51\n")
	require.Contains(t, string(status), "Package: linux-libc-dev\n")
	require.NotContains(t, string(status), "6.1.0-1", "the host's kernel is not on the machine")
	require.FileExists(t, filepath.Join(root, "var/lib/dpkg/info/linux-modules-6.8.0-50-generic.list"))
	require.NoFileExists(t, filepath.Join(root, "usr/src/linux-headers-6.8.0-50-generic/Makefile"))
	before, err := os.ReadFile(filepath.Join(root, grubConfigFile))
	require.NoError(t, err)
	// A later boot of the same machine keeps what is there, and learns where the archive is now.
	add(t, root, "6.8.0-51.52")
	moved := testKernels()
	moved.Archive = "http://127.77.9.2:5248/ubuntu"
	require.NoError(t, moved.furnish(root, false))
	after, err := os.ReadFile(filepath.Join(root, grubConfigFile))
	require.NoError(t, err)
	require.Equal(t, string(before), string(after))
	sources, err := os.ReadFile(filepath.Join(root, aptSources))
	require.NoError(t, err)
	require.Contains(t, string(sources), "URIs: http://127.77.9.2:5248/ubuntu\nSuites: noble noble-updates\n")
}

func TestWhichKernelIsBooted(t *testing.T) {
	t.Parallel()
	const fifty, fiftyOne = "6.8.0-50-generic", "6.8.0-51-generic"
	for name, test := range map[string]struct {
		preset  string
		faults  KernelFaults
		remove  string
		want    string
		panics  bool
		console string
	}{
		"the newest":                           {preset: "0", want: fiftyOne},
		"by id":                                {preset: grubMenuID + ">gnulinux-" + fifty + "-advanced-lab", want: fifty},
		"by number":                            {preset: "1>1", want: fifty},
		"by title":                             {preset: "Advanced options for Ubuntu>Ubuntu, with Linux " + fifty, want: fifty},
		"a default that is not there":          {preset: "gnulinux-6.8.0-99-generic-advanced-lab", want: fiftyOne},
		"a kernel whose file is not there":     {preset: "0", remove: fiftyOne, want: fifty},
		"Fault: it panics":                     {preset: "0", faults: KernelFaults{Panics: []string{"6.8.0-51.52"}}, want: fiftyOne, panics: true, console: "Kernel panic - not syncing"},
		"Fault: another panics":                {preset: "1>1", faults: KernelFaults{Panics: []string{"6.8.0-51.52"}}, want: fifty},
		"Fault: it falls back":                 {preset: "0", faults: KernelFaults{FallsBack: []string{"6.8.0-51"}}, want: fifty, console: "you need to load the kernel first"},
		"Fault: what it falls back to panics":  {preset: "0", faults: KernelFaults{FallsBack: []string{"6.8.0-51"}, Panics: []string{fifty}}, want: fifty, panics: true, console: "Kernel panic"},
		"Fault: of a version that begins so":   {preset: "0", faults: KernelFaults{Panics: []string{"6.8.0-5.6"}}, want: fiftyOne},
		"a default of the kernel that is gone": {preset: grubMenuID + ">gnulinux-" + fifty + "-advanced-lab", remove: fifty, want: fiftyOne},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := furnished(t, testKernels())
			add(t, root, "6.8.0-51.52")
			require.NoError(t, writeGrubConfig(root, test.preset, "quiet"))
			if test.remove != "" {
				require.NoError(t, os.Remove(filepath.Join(root, "boot/vmlinuz-"+test.remove)))
			}
			k := testKernels()
			k.Faults = test.faults
			var console strings.Builder
			b := k.boot(root, func(format string, args ...any) { fmt.Fprintf(&console, format, args...) })
			require.Equal(t, test.want, b.release)
			require.Equal(t, test.panics, b.panics)
			require.Contains(t, console.String(), test.console)
			require.Contains(t, console.String(), "Linux version "+b.release)
			require.Equal(t, "BOOT_IMAGE=/boot/vmlinuz-"+b.release+" root=/dev/vda1 ro quiet", b.cmdline)
		})
	}
}

func TestFaultNoKernelIsInstalled(t *testing.T) {
	t.Parallel()
	var console strings.Builder
	b := testKernels().boot(t.TempDir(), func(format string, args ...any) { fmt.Fprintf(&console, format, args...) })
	require.True(t, b.panics, "there is nothing that it could run")
	require.Contains(t, console.String(), "file `/boot/grub/grub.cfg' not found")
}

func TestReleasesAreOrderedAsVersions(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, name := range []string{"6.8.0-9-generic", "6.8.0-51-generic", "6.11.0-1-generic", "6.8.0-51-generic.dpkg-new", "6.8.0-50-lowlatency"} {
		require.NoError(t, writeInside(root, "boot/vmlinuz-"+name, "", 0o600))
	}
	require.Equal(t, []string{"6.11.0-1-generic", "6.8.0-51-generic", "6.8.0-50-lowlatency", "6.8.0-9-generic"}, installedKernels(root))
}

// TestAMachineRunsTheKernelThatItInstalls takes a machine of a lab through what an agent does with one: another kernel by apt, made the
// default, booted, and back.
func TestAMachineRunsTheKernelThatItInstalls(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("apt-get"); err != nil || rootless() {
		t.Skip("needs apt, and root")
	}
	l := newTestLabWith(t, Options{Nodes: 1})
	region := l.maas()
	region.deploy("node-1", "#!/bin/sh\n")
	name := codename(osReleaseFile())
	const shows = `uname -r; cat /proc/sys/kernel/osrelease; uname -s; cut -d' ' -f3 /proc/version; uname -a | grep -o '[^ ]*-generic #[0-9]*'; grep -o 'BOOT_IMAGE=[^ ]*' /proc/cmdline`
	kernel := func(release, build string) string {
		return strings.Join([]string{release, release, "Linux", release, release + " #" + build, "BOOT_IMAGE=/boot/vmlinuz-" + release}, "\n")
	}
	require.Equal(t, kernel("6.8.0-50-generic", "51"), l.on("node-1", shows))
	l.on("node-1", `apt-get -q update 2>&1; apt-get check`)
	require.Contains(t, l.on("node-1", `apt-cache policy linux-image-6.8.0-50-generic`), "Installed: 6.8.0-50.51\n  Candidate: 6.8.0-50.51")
	l.on("node-1", `echo "deb [signed-by=/`+aptKey+`] `+`$(sed -n 's/^URIs: //p' /`+aptSources+`) `+name+`-proposed main" > /etc/apt/sources.list.d/proposed.list
		apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install linux-image-6.8.0-51-generic=6.8.0-51.52 linux-modules-extra-6.8.0-51-generic=6.8.0-51.52`)
	require.Contains(t, l.on("node-1", "cat /"+grubConfigFile), "$menuentry_id_option 'gnulinux-6.8.0-51-generic-advanced-lab'", "the package has had the menu made anew")
	l.must(Call{Op: "reboot", Target: "node-1"})
	require.Equal(t, kernel("6.8.0-51-generic", "52"), l.on("node-1", shows))
	l.on("node-1", `echo 'GRUB_DEFAULT="`+grubMenuID+`>gnulinux-6.8.0-50-generic-advanced-lab"' > /etc/default/grub.d/zz.cfg && update-grub`)
	l.must(Call{Op: "reboot", Target: "node-1"})
	require.Equal(t, kernel("6.8.0-50-generic", "51"), l.on("node-1", shows))

	// A kernel that panics: on, to its BMC; silent; and so again after a power cycle, since the menu's default stays.
	l.on("node-1", `rm /etc/default/grub.d/zz.cfg && update-grub`)
	l.must(Call{Op: "fault", Target: "node-1", Args: []string{"kernel-panics=6.8.0-51.52"}})
	for range 2 {
		l.must(Call{Op: "kill", Target: "node-1"})
		l.must(Call{Op: "on", Target: "node-1"})
		out, code := l.call(Call{Op: "exec", Target: "node-1", Args: []string{"true"}})
		require.NotZero(t, code)
		require.Contains(t, out, errFrozen.Error())
		require.Equal(t, "on", region.node("node-1").Power)
	}
	require.Equal(t, 2, strings.Count(l.must(Call{Op: "console", Target: "node-1"}), "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n"))
	out, code := l.call(Call{Op: "thaw", Target: "node-1"})
	require.NotZero(t, code)
	require.Contains(t, out, "its kernel has panicked")
	out, code = l.call(Call{Op: "fault", Target: "node-1", Args: []string{"kernel-panics=new"}})
	require.NotZero(t, code)
	require.Contains(t, out, `"new" is no version of a kernel`)
	l.must(Call{Op: "fault", Target: "node-1", Args: []string{"none"}})
	l.must(Call{Op: "kill", Target: "node-1"})
	l.must(Call{Op: "on", Target: "node-1"})
	require.Equal(t, kernel("6.8.0-51-generic", "52"), l.on("node-1", shows))
}
