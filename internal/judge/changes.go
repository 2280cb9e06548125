package judge

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"certlab/internal/cert"
)

// maxChanges bounds how many devices or manifest entries are listed one by one.
const maxChanges = 30

// changes says what else is different. What one side does not know is no change.
func changes(before, after *Side) []cert.Change {
	var out []cert.Change
	for _, c := range []cert.Change{{What: "checkbox", Before: before.Checkbox, After: after.Checkbox}, {What: "firmware", Before: before.Firmware, After: after.Firmware},
		{What: "cmdline", Before: cmdline(before.Cmdline), After: cmdline(after.Cmdline)}, {What: "processor", Before: before.Processor, After: after.Processor},
		{What: "memory", Before: memory(before.Memory), After: memory(after.Memory)}} {
		if c.Before != "" && c.After != "" && c.Before != c.After {
			out = append(out, c)
		}
	}
	out = append(out, differences("hardware", before.Hardware, after.Hardware)...)
	return append(out, differences("manifest", before.Manifest, after.Manifest)...)
}

func differences(what string, before, after map[string]string) []cert.Change {
	if before == nil || after == nil {
		return nil
	}
	keys := maps.Clone(before)
	maps.Copy(keys, after)
	var out []cert.Change
	more := 0
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		old, was := before[key]
		now, is := after[key]
		if was == is && old == now {
			continue
		}
		if len(out) == maxChanges {
			more++
			continue
		}
		c := cert.Change{What: what}
		if was {
			c.Before = key + ": " + old
		}
		if is {
			c.After = key + ": " + now
		}
		out = append(out, c)
	}
	if more > 0 {
		out = append(out, cert.Change{What: what, After: fmt.Sprintf("and %d more", more)})
	}
	return out
}

// memory in GiB, rounded to an eighth: what the firmware keeps for itself varies a little from kernel to kernel.
func memory(bytes int64) string {
	if bytes <= 0 {
		return ""
	}
	return fmt.Sprintf("%g GiB", float64((bytes+1<<26)>>27)/8)
}

var uuids = regexp.MustCompile(`[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`)

// cmdline is a kernel's command line without what names the kernel itself, or the file system that a deployment has made anew.
func cmdline(text string) string {
	var out []string
	for _, word := range strings.Fields(text) {
		if strings.HasPrefix(word, "BOOT_IMAGE=") || strings.HasPrefix(word, "initrd=") {
			continue
		}
		out = append(out, uuids.ReplaceAllString(word, "…"))
	}
	return strings.Join(out, " ")
}
