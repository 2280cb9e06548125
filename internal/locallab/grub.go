package locallab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"certlab/internal/durable"
)

// Where a machine's stand-in for GRUB keeps its menu.
const (
	grubConfigFile = "boot/grub/grub.cfg"
	grubMenuID     = "gnulinux-advanced-lab"
)

// updateGrubMain is update-grub: it makes the menu from the kernels in /boot and what /etc/default/grub and grub.d say.
func updateGrubMain(string, []string) int {
	// The files are a shell's, so a shell reads them.
	const script = `set -e
[ ! -r /etc/default/grub ] || . /etc/default/grub
for file in /etc/default/grub.d/*.cfg; do [ ! -r "$file" ] || . "$file"; done
printf '%s\n%s %s' "$GRUB_DEFAULT" "$GRUB_CMDLINE_LINUX" "$GRUB_CMDLINE_LINUX_DEFAULT"`
	out, err := exec.Command("/bin/sh", "-c", script).Output()
	if err == nil {
		preset, arguments, _ := strings.Cut(string(out), "\n")
		err = writeGrubConfig("/", preset, arguments)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "update-grub: cannot make the menu: %v\n", err)
		return 1
	}
	for _, release := range installedKernels("/") {
		fmt.Fprintf(os.Stderr, "Found linux image: /boot/vmlinuz-%s\n", release)
	}
	fmt.Fprintln(os.Stderr, "done")
	return 0
}

// writeGrubConfig makes the menu of the machine at root, in the form that Ubuntu's has.
func writeGrubConfig(root, preset, arguments string) error {
	if preset == "" {
		preset = "0"
	}
	kernels := installedKernels(root)
	var b strings.Builder
	b.WriteString("# Made by update-grub of the local lab; what is changed here is lost.\n")
	fmt.Fprintf(&b, "if [ \"${next_entry}\" ] ; then\n   set default=\"${next_entry}\"\nelse\n   set default=\"%s\"\nfi\n", preset)
	entry := func(indent, title, id, release string) {
		fmt.Fprintf(&b, "%smenuentry '%s' --class ubuntu --class gnu-linux --class os $menuentry_id_option '%s' {\n", indent, title, id)
		fmt.Fprintf(&b, "%s\tlinux\t/boot/vmlinuz-%s %s\n%s}\n", indent, release, strings.Join(strings.Fields("root=/dev/vda1 ro "+arguments), " "), indent)
	}
	if len(kernels) > 0 {
		entry("", "Ubuntu", "gnulinux-simple-lab", kernels[0])
		fmt.Fprintf(&b, "submenu 'Advanced options for Ubuntu' $menuentry_id_option '%s' {\n", grubMenuID)
		for _, release := range kernels {
			entry("\t", "Ubuntu, with Linux "+release, "gnulinux-"+release+"-advanced-lab", release)
		}
		b.WriteString("}\n")
	}
	file := filepath.Join(root, grubConfigFile)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return durable.WriteFile(file, []byte(b.String()), 0o644)
}

// installedKernels are the releases of the kernels in /boot, the newest first.
func installedKernels(root string) []string {
	found, _ := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*")) // the pattern is a good one
	var releases []string
	for _, file := range found {
		release := strings.TrimPrefix(filepath.Base(file), "vmlinuz-")
		if !strings.Contains(release, ".dpkg-") {
			releases = append(releases, release)
		}
	}
	slices.SortFunc(releases, func(a, b string) int { return compareReleases(b, a) })
	return releases
}

var releaseParts = regexp.MustCompile(`[0-9]+|[^0-9]+`)

// compareReleases orders releases as update-grub does: runs of digits by their value, the rest by its text.
func compareReleases(a, b string) int {
	as, bs := releaseParts.FindAllString(a, -1), releaseParts.FindAllString(b, -1)
	for i := range min(len(as), len(bs)) {
		m, errA := strconv.Atoi(as[i])
		n, errB := strconv.Atoi(bs[i])
		if errA == nil && errB == nil && m != n {
			return m - n
		}
		if c := strings.Compare(as[i], bs[i]); (errA != nil || errB != nil) && c != 0 {
			return c
		}
	}
	return len(as) - len(bs)
}

// A grubEntry is a line of the menu: a kernel, or a menu below.
type grubEntry struct {
	title, id         string
	kernel, arguments string
	entries           []*grubEntry
}

// release is that of the entry's kernel.
func (e *grubEntry) release() string { return strings.TrimPrefix(path.Base(e.kernel), "vmlinuz-") }

// first is the kernel that is booted when the entry is chosen.
func (e *grubEntry) first() *grubEntry {
	for len(e.entries) > 0 {
		e = e.entries[0]
	}
	return e
}

var (
	grubEntryLine  = regexp.MustCompile(`^(?:menuentry|submenu) '([^']*)'.*\$menuentry_id_option '([^']*)' \{$`)
	grubLinuxLine  = regexp.MustCompile(`^linux\s+(\S+)\s*(.*)$`)
	grubPresetLine = regexp.MustCompile(`^set default="([^"$]*)"$`)
)

// readGrubConfig reads the menu, as GRUB does at each boot.
func readGrubConfig(root string) (preset string, entries []*grubEntry, err error) {
	text, err := os.ReadFile(filepath.Join(root, grubConfigFile))
	if err != nil {
		return "", nil, fmt.Errorf("file `/%s' not found", grubConfigFile)
	}
	top := &grubEntry{}
	open := []*grubEntry{top}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		last := open[len(open)-1]
		if f := grubPresetLine.FindStringSubmatch(line); f != nil {
			preset = f[1]
		} else if f := grubEntryLine.FindStringSubmatch(line); f != nil {
			entry := &grubEntry{title: f[1], id: f[2]}
			last.entries = append(last.entries, entry)
			open = append(open, entry)
		} else if f := grubLinuxLine.FindStringSubmatch(line); f != nil {
			last.kernel, last.arguments = f[1], f[2]
		} else if line == "}" && len(open) > 1 {
			open = open[:len(open)-1]
		}
	}
	return preset, top.entries, nil
}

// chosenEntry is the kernel that the machine at root boots: the one that the menu has as its default, the menu's first where there is no
// such entry, and the first that is there where that one's file is not.
func chosenEntry(root string) (*grubEntry, error) {
	preset, entries, err := readGrubConfig(root)
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return nil, errors.New("no kernel is installed")
	}
	chosen := entries[0].first()
	if found := findEntry(entries, preset); found != nil {
		chosen = found.first()
	}
	if _, err := os.Stat(filepath.Join(root, chosen.kernel)); err == nil {
		return chosen, nil
	}
	if other, found := otherEntry(root, chosen); found {
		return other, nil
	}
	return nil, fmt.Errorf("file `%s' not found", chosen.kernel)
}

// findEntry follows a default, such as 1>0 or gnulinux-advanced-lab>gnulinux-6.8.0-50-generic-advanced-lab.
func findEntry(entries []*grubEntry, name string) *grubEntry {
	var found *grubEntry
	for part := range strings.SplitSeq(name, ">") {
		found = nil
		number, err := strconv.Atoi(part)
		for i, e := range entries {
			if err == nil && i == number || e.id == part || e.title == part {
				found = e
				break
			}
		}
		if found == nil {
			return nil
		}
		entries = found.entries
	}
	return found
}

// otherEntry is the newest kernel of the menu that is there and is not the one given.
func otherEntry(root string, not *grubEntry) (*grubEntry, bool) {
	_, entries, err := readGrubConfig(root)
	if err != nil {
		return nil, false
	}
	for next := entries; len(next) > 0; next = next[1:] {
		e := next[0]
		next = append(next, e.entries...)
		if e.kernel == "" || e.kernel == not.kernel {
			continue
		}
		if _, err := os.Stat(filepath.Join(root, e.kernel)); err == nil {
			return e, true
		}
	}
	return nil, false
}
