package debarchive

import (
	"fmt"
	"strings"
)

// A KernelSpec says which kernel's packages are wanted.
type KernelSpec struct {
	Source  string // empty: linux
	Flavour string // empty: generic
	Version string // of the packages, such as 6.8.0-51.52
	Arch    string // such as amd64
}

func (s KernelSpec) filled() KernelSpec {
	if s.Source == "" {
		s.Source = "linux"
	}
	if s.Flavour == "" {
		s.Flavour = "generic"
	}
	return s
}

// Release is what uname -r says on the kernel: 6.8.0-51-generic of 6.8.0-51.52.
func (s KernelSpec) Release() string {
	s = s.filled()
	upstream, build, _ := strings.Cut(s.Version, "-")
	abi, _, _ := strings.Cut(build, ".")
	return upstream + "-" + abi + "-" + s.Flavour
}

// imageHooks runs, as a kernel's own scripts do, what the machine wants to be done after a kernel has come or gone.
const imageHooks = `#!/bin/sh
set -e
version=%s
if [ "$1" = %s ] && [ -d "$DPKG_ROOT/etc/kernel/%s.d" ]; then
	DEB_MAINT_PARAMS="$*" run-parts --report --exit-on-error --arg="$version" --arg="$DPKG_ROOT/boot/vmlinuz-$version" "$DPKG_ROOT/etc/kernel/%s.d"
fi
exit 0
`

// Kernel returns a kernel's packages, named and depending on each other as Ubuntu's: image, modules, extra modules, headers, and the
// metapackages of its flavour that lead to them.
func Kernel(s KernelSpec) []Package {
	s = s.filled()
	release := s.Release()
	image, modules, extra, headers := "linux-image-"+release, "linux-modules-"+release, "linux-modules-extra-"+release, "linux-headers-"+release
	of := func(name, summary string, fields map[string]string, files ...File) Package {
		return Package{Name: name, Version: s.Version, Arch: s.Arch, Source: s.Source, Summary: summary, Fields: fields, Files: files}
	}
	module := func(name string) File {
		return File{Path: "/lib/modules/" + release + "/kernel/" + name, Mode: 0o644, Data: "module " + name + " of " + release + "\n"}
	}
	boot := of(image, "kernel image of the lab", map[string]string{"Depends": modules, "Provides": "linux-image"},
		File{Path: "/boot/vmlinuz-" + release, Mode: 0o600, Data: fmt.Sprintf("kernel %s, package version %s\n", release, s.Version)})
	boot.Scripts = map[string]string{
		"postinst": fmt.Sprintf(imageHooks, release, "configure", "postinst", "postinst"),
		"postrm":   fmt.Sprintf(imageHooks, release, "remove", "postrm", "postrm"),
	}
	meta := func(name, depends string) Package {
		p := of(name, "metapackage of the lab", map[string]string{"Depends": depends, "Section": "metapackages"})
		p.Source = strings.Replace(s.Source, "linux", "linux-meta", 1)
		return p
	}
	flavour := s.Flavour
	if variant := strings.TrimPrefix(s.Source, "linux"); variant != "" { // linux-hwe-6.11 has linux-generic-hwe-6.11
		flavour += variant
	}
	return []Package{
		boot,
		of(modules, "kernel modules of the lab", nil,
			File{Path: "/boot/System.map-" + release, Mode: 0o600, Data: "symbols of " + release + "\n"},
			File{Path: "/boot/config-" + release, Mode: 0o644, Data: "CONFIG_LOCALVERSION=\"\"\n"}, module("fs/ext4.ko"), module("drivers/net/e1000e.ko")),
		of(extra, "extra kernel modules of the lab", map[string]string{"Depends": modules + ", " + image}, module("drivers/gpu/nouveau.ko")),
		of(headers, "kernel headers of the lab", nil, File{Path: "/usr/src/linux-headers-" + release + "/Makefile", Mode: 0o644, Data: "# " + release + "\n"}),
		meta("linux-image-"+flavour, image+", "+extra),
		meta("linux-headers-"+flavour, headers),
		meta("linux-"+flavour, fmt.Sprintf("linux-image-%s (= %s), linux-headers-%s (= %s)", flavour, s.Version, flavour, s.Version)),
	}
}
