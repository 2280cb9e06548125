package cert

import (
	"fmt"
	"regexp"
	"strings"
)

// Class of a machine: machines of one class have the same hardware, so that one may stand in for another and what was measured of one tells
// of the others. It goes by what the provider's list says, not by what is only known after each machine was looked at closely: else a class
// would fall apart while that goes on. Empty: nothing is known that would tell.
func Class(p Provided) string {
	vendor, product := text(p.Hardware["system_vendor"]), text(p.Hardware["system_product"])
	if p.Architecture == "" && vendor == "" && product == "" {
		return ""
	}
	name := strings.TrimSpace(vendor + " " + product)
	if name == "" {
		name = "machine"
	}
	out := fmt.Sprintf("%s, %s, %d cores, %d GiB", name, p.Architecture, p.Cores, (p.MemoryMiB+512)/1024)
	if cpu := text(p.Hardware["cpu_model"]); cpu != "" {
		out += ", " + cpu
	}
	return out
}

// text is a value without what providers write for unknown.
func text(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	switch strings.ToLower(s) {
	case "unknown", "none", "to be filled by o.e.m.", "default string", "not specified":
		return ""
	}
	return s
}

var versionPattern = regexp.MustCompile(`\d+\.\d+`)

// Version of a release, from its title: 24.04 of "Ubuntu 24.04 LTS". Empty: the title tells none.
func (i Image) Version() string { return versionPattern.FindString(i.Title) }

// firstKernels are the kernels with which Ubuntu's releases first came: their ga kernels stay in that series.
var firstKernels = map[string]string{"14.04": "3.13", "16.04": "4.4", "18.04": "4.15", "20.04": "5.4", "22.04": "5.15", "24.04": "6.8", "26.04": "7.0"}

// WrongSystem says how what runs on a machine differs from what was to be deployed; empty: it does not, as far as can be told. base is as
// in order.Status.Release (ubuntu@24.04), running is uname -r. Only a general-availability kernel has a series that is known beforehand.
func WrongSystem(want Image, kernel, base, running string) string {
	if os, version, ok := strings.Cut(base, "@"); ok && want.Version() != "" && version != "" && (version != want.Version() || want.OS != "" && os != want.OS) {
		return fmt.Sprintf("asked for %s (%s), and %s is running", want.Release, want.Version(), base)
	}
	version, ok := strings.CutPrefix(kernel, "ga-")
	if series := firstKernels[version]; ok && series != "" && running != "" && !strings.HasPrefix(running, series+".") {
		return fmt.Sprintf("asked for kernel %s (%s), and %s is running", kernel, series, running)
	}
	if version, ok := strings.CutPrefix(kernel, "hwe-"); ok && running != "" {
		if series := firstKernels[version]; series != "" && kernelBefore(running, series) {
			return fmt.Sprintf("asked for kernel %s (%s or later), and %s is running", kernel, series, running)
		}
	}
	return ""
}

// kernelBefore reports whether a kernel is of an earlier series than another.
func kernelBefore(running, series string) bool {
	var a, b, c, d int
	if n, _ := fmt.Sscanf(running, "%d.%d", &a, &b); n != 2 {
		return false
	}
	if n, _ := fmt.Sscanf(series, "%d.%d", &c, &d); n != 2 {
		return false
	}
	return a < c || a == c && b < d
}
