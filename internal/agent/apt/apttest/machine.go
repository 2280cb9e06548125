// Package apttest gives tests a machine with a real apt of its own: a root of files with dpkg's database, an archive with pockets that is served
// over HTTP, a boot loader's menu, and nothing of the host's but the programs. The machine runs kernel 6.8.0-50-generic of "noble"; its -proposed, which
// it does not use by itself, has 6.8.0-51-generic.
package apttest

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/agent/apt"
	"certlab/internal/debarchive"
)

// A Machine is one whose packages may be changed.
type Machine struct {
	Root    string
	Bin     string // programs that go before the host's: update-grub, systemctl
	URL     string // of its archive
	Key     string // of its archive, armoured
	Env     []string
	Release string // file that says which kernel runs
	Asked   string // file that is there once a reboot was asked for

	t       testing.TB
	key     *debarchive.Key
	archive string
}

// Old and New are the kernels' versions, Before and After what uname -r says on them.
const (
	Old, New      = "6.8.0-50.51", "6.8.0-51.52"
	Before, After = "6.8.0-50-generic", "6.8.0-51-generic"
)

// Driver is a package with a driver that is built for a kernel.
func Driver(release, version string, fields map[string]string) debarchive.Package {
	return debarchive.Package{Name: "linux-modules-nvidia-550-" + release, Version: version, Arch: apt.Architecture(), Source: "linux-restricted-modules",
		Fields: fields, Files: []debarchive.File{{Path: "/lib/modules/" + release + "/nvidia.ko", Mode: 0o644, Data: "nvidia\n"}}}
}

// Kernel are a kernel's packages without scripts, which would need a system to run in.
func Kernel(version string) []debarchive.Package {
	all := debarchive.Kernel(debarchive.KernelSpec{Version: version, Arch: apt.Architecture()})
	for i := range all {
		all[i].Scripts = nil
	}
	return all
}

// Tool is a package that is no kernel.
func Tool(version string, fields map[string]string) debarchive.Package {
	return debarchive.Package{Name: "fwupd", Version: version, Arch: apt.Architecture(), Fields: fields,
		Files: []debarchive.File{{Path: "/usr/lib/fwupd/version", Mode: 0o644, Data: version + "\n"}}}
}

// NewMachine returns a machine that has what is in installed besides its kernel; more is in its -proposed besides the new one. It skips where there is no apt.
func NewMachine(t testing.TB, installed, more []debarchive.Package) *Machine {
	t.Helper()
	for _, name := range []string{"apt-get", "apt-cache", "apt-mark", "dpkg", "gpgv"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("needs %s: %v", name, err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("dpkg unpacks as root only")
	}
	dir := t.TempDir()
	m := &Machine{t: t, Root: filepath.Join(dir, "root"), Bin: filepath.Join(dir, "bin"), Release: filepath.Join(dir, "osrelease"),
		Asked: filepath.Join(dir, "reboot-asked"), archive: filepath.Join(dir, "archive")}
	server := httptest.NewServer(http.FileServer(http.Dir(m.archive)))
	t.Cleanup(server.Close)
	m.URL = server.URL
	var err error
	m.key, err = debarchive.NewKey("Archive of a test <test@localhost>")
	require.NoError(t, err)
	m.Key, err = m.key.Public()
	require.NoError(t, err)
	base := slices.Concat(Kernel(Old), installed)
	m.Publish("noble", base)
	m.Publish("noble-updates", nil)
	m.Publish("noble-proposed", slices.Concat(Kernel(New), more))
	for _, name := range []string{"etc/apt/sources.list.d", "etc/apt/preferences.d", "etc/apt/apt.conf.d", "etc/apt/trusted.gpg.d", "etc/apt/keyrings", "etc/default/grub.d",
		"var/lib/apt/lists/partial", "var/lib/apt/mirrors", "var/cache/apt/archives/partial", "var/log/apt", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers",
		"boot/grub", "run", "tmp", "usr/share/keyrings"} {
		require.NoError(t, os.MkdirAll(filepath.Join(m.Root, name), 0o755))
	}
	m.Write("usr/share/keyrings/archive.asc", m.Key)
	m.Write("etc/os-release", "VERSION_CODENAME=noble\n")
	m.Write("etc/apt/sources.list.d/ubuntu.sources", "Types: deb\nURIs: "+m.URL+"\nSuites: noble noble-updates\nComponents: main\nSigned-By: "+m.Path("usr/share/keyrings/archive.asc")+"\n")
	var status strings.Builder
	for _, p := range base {
		control := strings.TrimRight(p.Control(), "\n")
		first, rest, _ := strings.Cut(control, "\n")
		fmt.Fprintf(&status, "%s\nStatus: install ok installed\n%s\n\n", first, rest)
		m.Write("var/lib/dpkg/info/"+p.Name+".list", strings.Join(append([]string{"/."}, p.Paths()...), "\n")+"\n")
		for _, f := range p.Files {
			m.Write(strings.TrimPrefix(f.Path, "/"), f.Data)
		}
	}
	m.Write("var/lib/dpkg/status", status.String())
	m.Write("var/lib/dpkg/available", "")
	config := filepath.Join(dir, "apt.conf")
	require.NoError(t, os.WriteFile(config, []byte(fmt.Sprintf(`Dir "%[1]s";
Dir::State::status "%[1]s/var/lib/dpkg/status";
Dir::Bin::dpkg "/usr/bin/dpkg";
DPkg::Options { "--root=%[1]s"; "--force-unsafe-io"; "--log=%[1]s/var/log/dpkg.log"; };
DPkg::Path "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
APT::Architecture "%[2]s";
APT::Architectures { "%[2]s"; };
APT::Sandbox::User "root";
Acquire::Languages "none";
`, m.Root, apt.Architecture())), 0o644))
	m.Env = []string{"APT_CONFIG=" + config, "DPKG_ROOT=" + m.Root}
	m.Program("update-grub", updateGrub)
	m.Program("systemctl", `[ "$1" = reboot ] && echo asked >> "$asked"`)
	m.Boots(Before)
	out, err := exec.Command(filepath.Join(m.Bin, "update-grub")).CombinedOutput()
	require.NoError(t, err, string(out))
	return m
}

// Path of a file of the machine's.
func (m *Machine) Path(name string) string { return filepath.Join(m.Root, name) }

// Write writes a file of the machine's.
func (m *Machine) Write(name, text string) {
	m.t.Helper()
	require.NoError(m.t, os.MkdirAll(filepath.Dir(m.Path(name)), 0o755))
	require.NoError(m.t, os.WriteFile(m.Path(name), []byte(text), 0o644))
}

// Publish makes a suite of the machine's archive anew.
func (m *Machine) Publish(suite string, packages []debarchive.Package) {
	m.t.Helper()
	require.NoError(m.t, debarchive.Write(m.archive, m.key, apt.Architecture(), debarchive.Suite{Name: suite, Codename: "noble", Packages: packages}))
}

// Program puts a shell script before the host's program of that name. It knows $root, $asked and $release.
func (m *Machine) Program(name, script string) {
	m.t.Helper()
	require.NoError(m.t, os.MkdirAll(m.Bin, 0o755))
	head := fmt.Sprintf("#!/bin/sh\nroot='%s' asked='%s' release='%s' bin='%s'\n", m.Root, m.Asked, m.Release, m.Bin)
	require.NoError(m.t, os.WriteFile(filepath.Join(m.Bin, name), []byte(head+script+"\n"), 0o755))
}

// Boots has the machine run a kernel.
func (m *Machine) Boots(release string) {
	m.t.Helper()
	require.NoError(m.t, os.WriteFile(m.Release, []byte(release+"\n"), 0o644))
	os.Remove(m.Asked)
}

// Has reports whether a program goes before the host's.
func (m *Machine) Has(name string) bool {
	_, err := os.Stat(filepath.Join(m.Bin, name))
	return err == nil
}

// Versions are what dpkg has on the machine.
func (m *Machine) Versions() map[string]string {
	m.t.Helper()
	have, err := (&apt.System{Root: m.Root}).Packages()
	require.NoError(m.t, err)
	return have.Versions()
}

// Files are the machine's files of configuration and boot, with what is in them: for comparing before and after.
func (m *Machine) Files() map[string]string {
	m.t.Helper()
	files := make(map[string]string)
	for _, dir := range []string{"etc", "boot", "lib", "usr"} {
		require.NoError(m.t, filepath.WalkDir(m.Path(dir), func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(path)
			files[strings.TrimPrefix(path, m.Root)] = string(text)
			return err
		}))
	}
	return files
}

// Differ are the names of files that are not the same in two lists.
func Differ(x, y map[string]string) []string {
	var names []string
	for name := range maps.All(x) {
		if y[name] != x[name] {
			names = append(names, name)
		}
	}
	for name := range y {
		if _, ok := x[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// updateGrub writes a menu as Ubuntu's does, of what is in /boot.
const updateGrub = `GRUB_DEFAULT=0
for f in "$root"/etc/default/grub.d/*.cfg; do [ -f "$f" ] && . "$f"; done
menu="$root/boot/grub/grub.cfg"
{
cat <<HEAD
if [ -s \$prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
if [ "\${next_entry}" ] ; then
   set default="\${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="$GRUB_DEFAULT"
fi
function gfxmode {
	set gfxpayload="\${1}"
}
HEAD
kernels=$(cd "$root/boot" && ls vmlinuz-* | sed 's/^vmlinuz-//' | sort -Vr)
first=${kernels%%
*}
entry() {
cat <<ENTRY
$4menuentry '$2' --class ubuntu --class os \$menuentry_id_option '$3' {
$4	recordfail
$4	if [ x\$feature = xy ]; then
$4	  search --no-floppy
$4	fi
$4	linux	/boot/vmlinuz-$1 root=UUID=lab ro
$4	initrd	/boot/initrd.img-$1
$4}
ENTRY
}
entry "$first" Ubuntu gnulinux-simple-lab ""
echo "submenu 'Advanced options for Ubuntu' \$menuentry_id_option 'gnulinux-advanced-lab' {"
for k in $kernels; do
entry "$k" "Ubuntu, with Linux $k" "gnulinux-$k-advanced-lab" "	"
entry "$k" "Ubuntu, with Linux $k (recovery mode)" "gnulinux-$k-recovery-lab" "	"
done
echo "}"
} > "$menu.new" && mv "$menu.new" "$menu"
`
