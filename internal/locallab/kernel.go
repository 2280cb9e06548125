package locallab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"certlab/internal/debarchive"
	"certlab/internal/durable"
)

// Kernels say what a machine has besides the host's kernel, which is the one that runs in truth: packages of kernels that it can install,
// boot, and show as its own.
type Kernels struct {
	Installed string `json:"installed"` // version of the kernel that a new machine has
	Archive   string `json:"archive"`   // URL of the lab's archive
	Key       string `json:"key"`       // that the archive is signed with
	Codename  string `json:"codename"`  // of the release, as the archive's suites are named

	Faults KernelFaults `json:"faults"`
}

// KernelFaults are kernels that a machine does not boot as it should. They are its hardware's: a deployment changes nothing in them.
type KernelFaults struct {
	Panics    []string `json:"panics,omitempty"`     // versions that panic
	FallsBack []string `json:"falls_back,omitempty"` // versions of which GRUB boots another instead
}

// debArch is the architecture as dpkg has it.
func debArch() string {
	if name, ok := map[string]string{"386": "i386", "arm": "armhf", "ppc64le": "ppc64el"}[runtime.GOARCH]; ok {
		return name
	}
	return runtime.GOARCH
}

// Files of a machine that has kernels of its own.
const (
	aptSources  = "etc/apt/sources.list.d/certlab-lab.sources"
	aptKey      = "etc/apt/keyrings/certlab-lab.asc"
	aptConfig   = "etc/apt/apt.conf.d/zz-certlab-lab"
	kernelHooks = "etc/kernel"
	dpkgDir     = "var/lib/dpkg"
	grubDefault = "etc/default/grub"
)

// kernelDirs start empty on a machine, whatever the host has in them: its kernels, and where its packages come from, are not the machine's.
var kernelDirs = []string{
	"/boot", "/etc/kernel", "/etc/default/grub.d", "/etc/apt/sources.list.d", "/etc/apt/preferences.d", "/var/lib/apt/lists",
}

// furnish gives a new machine, whose file system is at root, its first kernel, as its image would have had it, and tells its apt of the
// lab's archive. On one that has them it brings up to date where the archive is. It can be repeated.
func (k *Kernels) furnish(root string, rootless bool) error {
	sources := fmt.Sprintf("Types: deb\nURIs: %s\nSuites: %s %s-updates\nComponents: main\nSigned-By: /%s\n", k.Archive, k.Codename, k.Codename, aptKey)
	// The archive is on this host: whatever proxy the host uses is not for it.
	config := fmt.Sprintf("Acquire::http::Proxy::%s \"DIRECT\";\nAcquire::Languages \"none\";\n", hostOf(k.Archive))
	if rootless {
		config += "APT::Sandbox::User \"root\";\n" // there is no other
	}
	for name, text := range map[string]string{aptSources: sources, aptKey: k.Key, aptConfig: config} {
		if err := writeInside(root, name, text, 0o644); err != nil {
			return err
		}
	}
	if _, err := os.Stat(filepath.Join(root, grubConfigFile)); err == nil {
		return nil
	}
	hook := "#!/bin/sh\nexec update-grub\n"
	for name, file := range map[string]newFile{
		"etc/apt/sources.list":                {"# What a machine of the local lab installs comes from the lab's archive.\n", 0o644},
		kernelHooks + "/postinst.d/zz-update": {hook, 0o755},
		kernelHooks + "/postrm.d/zz-update":   {hook, 0o755},
		grubDefault:                           {"GRUB_DEFAULT=0\nGRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet splash\"\nGRUB_CMDLINE_LINUX=\"\"\n", 0o644},
	} {
		if err := writeInside(root, name, file.text, file.mode); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "etc/default/grub.d"), 0o755); err != nil {
		return err
	}
	if err := k.install(root); err != nil {
		return fmt.Errorf("cannot install its first kernel: %w", err)
	}
	// Last, as it says that the rest is there.
	return writeGrubConfig(root, "0", "quiet splash")
}

// A newFile is one that a new machine has.
type newFile struct {
	text string
	mode fs.FileMode
}

func hostOf(url string) string {
	host := strings.TrimPrefix(url, "http://")
	host, _, _ = strings.Cut(host, "/")
	host, _, _ = strings.Cut(host, ":")
	return host
}

func writeInside(root, name, text string, mode fs.FileMode) error {
	path := filepath.Join(root, name)
	if old, err := os.ReadFile(path); err == nil && string(old) == text {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // it may be a link
		return err
	}
	return os.WriteFile(path, []byte(text), mode)
}

// imagePackages are those of a kernel that an image has.
var imagePackages = regexp.MustCompile(`^linux-(image|modules|modules-extra)-[0-9]`)

// install puts the packages of the machine's first kernel in its place, as dpkg would have. What dpkg knows of kernels of the host's goes:
// their files are not on the machine.
func (k *Kernels) install(root string) error {
	var stanzas strings.Builder
	_, err := os.Stat(filepath.Join(root, dpkgDir, "status"))
	dpkg := err == nil
	for _, p := range debarchive.Kernel(debarchive.KernelSpec{Version: k.Installed, Arch: debArch()}) {
		if !imagePackages.MatchString(p.Name) {
			continue
		}
		for _, f := range p.Files {
			if err := writeInside(root, f.Path, f.Data, f.Mode); err != nil {
				return err
			}
		}
		if !dpkg {
			continue
		}
		info := filepath.Join(dpkgDir, "info", p.Name)
		for name, text := range map[string]string{".list": strings.Join(p.Paths(), "\n") + "\n", ".md5sums": p.Sums()} {
			if err := writeInside(root, info+name, text, 0o644); err != nil {
				return err
			}
		}
		for name, text := range p.Scripts {
			if err := writeInside(root, info+"."+name, text, 0o755); err != nil {
				return err
			}
		}
		stanzas.WriteString(strings.Replace(p.Control(), "\n", "\nStatus: install ok installed\n", 1) + "\n")
	}
	if !dpkg {
		return nil // a host of another kind: there is no apt on its machines, and their kernel stays
	}
	path := filepath.Join(root, dpkgDir, "status")
	status, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, []byte(withoutKernels(string(status))+stanzas.String()), 0o644)
}

// hostKernels are the packages of kernels, and those that lead to them.
var hostKernels = regexp.MustCompile(`^Package: linux-(image|modules|headers|generic|virtual|oem|lowlatency|hwe|signed|restricted|objects|signatures|tools|cloud-tools|buildinfo|azure|aws|gcp|amd64|arm64)`)

// withoutKernels takes the kernels out of what dpkg knows (deb-status is one paragraph for each package).
func withoutKernels(status string) string {
	var kept strings.Builder
	for paragraph := range strings.SplitSeq(status, "\n\n") {
		paragraph = strings.Trim(paragraph, "\n")
		if paragraph != "" && !hostKernels.MatchString(paragraph) {
			kept.WriteString(paragraph + "\n\n")
		}
	}
	return kept.String()
}

// A bootedKernel is what a machine shows as the kernel that it runs.
type bootedKernel struct {
	release string // as uname -r has it
	version string // as uname -v has it
	cmdline string
	panics  bool
}

// bootAt boots the machine whose file system is at root as far as its kernel, a new one with what its image has.
func (k *Kernels) bootAt(root string, rootless bool) (*bootedKernel, error) {
	if err := k.furnish(root, rootless); err != nil {
		return nil, fmt.Errorf("cannot give the machine its kernel: %w", err)
	}
	b := k.boot(root, func(format string, args ...any) { fmt.Fprintf(os.Stderr, format, args...) })
	return &b, nil
}

// covers are where programs read which kernel runs, but for uname(2) itself.
func (b *bootedKernel) covers() []cover {
	return []cover{
		{"osrelease", b.release + "\n", "proc/sys/kernel/osrelease"},
		{"kernel-version", b.version + "\n", "proc/sys/kernel/version"},
		{"version", b.banner() + "\n", "proc/version"},
		{"cmdline", b.cmdline + "\n", "proc/cmdline"},
	}
}

// unameScript is uname, which asks the host's kernel, and puts the machine's in its place.
const unameScript = `#!/bin/sh
# uname(2) is the host's kernel's: the local lab's machines show another.
said=$(` + insideUname + ` "$@") || exit
case $* in
"") ;;
*)
	host=$(` + insideUname + ` -r) host_version=$(` + insideUname + ` -v)
	ours=$(cat /proc/sys/kernel/osrelease) our_version=$(cat /proc/sys/kernel/version)
	case $said in *"$host"*) said=${said%%"$host"*}$ours${said#*"$host"} ;; esac
	case $said in *"$host_version"*) said=${said%%"$host_version"*}$our_version${said#*"$host_version"} ;; esac
	;;
esac
printf '%s\n' "$said"
`

// boot finds the kernel that GRUB boots, and whether it does.
func (k *Kernels) boot(root string, console func(format string, args ...any)) bootedKernel {
	entry, err := chosenEntry(root)
	if err == nil && matchesKernel(k.Faults.FallsBack, entry.release()) {
		console("error: invalid magic number.\nerror: you need to load the kernel first.\n\nPress any key to continue...\n")
		if other, found := otherEntry(root, entry); found {
			console("Booting a command list\n  Booting '%s'\n", other.title)
			entry = other
		}
	}
	if err != nil {
		console("error: %v.\nerror: you need to load the kernel first.\n", err)
		return bootedKernel{panics: true}
	}
	b := bootedKernel{release: entry.release(), cmdline: "BOOT_IMAGE=" + entry.kernel + " " + entry.arguments}
	b.version = "#1-Ubuntu SMP PREEMPT_DYNAMIC"
	if text, err := os.ReadFile(filepath.Join(root, entry.kernel)); err == nil {
		if _, version, found := strings.Cut(strings.TrimSpace(string(text)), "package version "); found {
			b.version = fmt.Sprintf("#%s-Ubuntu SMP PREEMPT_DYNAMIC", version[strings.LastIndexByte(version, '.')+1:])
		}
	}
	console("[    0.000000] %s\n[    0.000000] Command line: %s\n", b.banner(), b.cmdline)
	if matchesKernel(k.Faults.Panics, b.release) {
		b.panics = true
		console("[    1.204817] VFS: Unable to mount root fs on unknown-block(0,0)\n" +
			"[    1.204901] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n" +
			"[    1.205112] CPU: 0 PID: 1 Comm: swapper/0 Not tainted " + b.release + " " + b.version + "\n" +
			"[    1.205377] ---[ end Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0) ]---\n")
	}
	return b
}

// banner is what /proc/version has.
func (b bootedKernel) banner() string {
	return fmt.Sprintf("Linux version %s (certlab@lab) (the local lab's stand-in) %s", b.release, b.version)
}

// matchesKernel reports whether a kernel is one of those that are named by version, release, or what both begin with: 6.8.0-51.52,
// 6.8.0-51-generic and 6.8.0-51 are one.
func matchesKernel(named []string, release string) bool {
	for _, name := range named {
		upstream, build, _ := strings.Cut(name, "-")
		abi, _, _ := strings.Cut(build, ".")
		if prefix := upstream + "-" + abi; release == prefix || strings.HasPrefix(release, prefix+"-") {
			return true
		}
	}
	return false
}

// kernelVersion is what a fault takes for a kernel's version.
var kernelVersion = regexp.MustCompile(`^[0-9]+(\.[0-9]+)*-[0-9]+[0-9A-Za-z.~+-]*$`)
