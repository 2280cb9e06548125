package cert

import (
	"maps"
	"strings"
)

// WantsManifest reports whether the result is of a job that was not run because of a manifest entry. Checkbox says so in the comments of the
// result, and since 2026 in its skip reason or outcome (reference/checkbox.md).
func (r Result) WantsManifest() bool {
	if r.Section != "" && r.Section != SectionResults {
		return false
	}
	switch r.Outcome {
	case "skipped-manifest":
		return true
	case "skip", "not-supported", "skipped-resource", "skipped-dependency":
		return strings.Contains(r.Comments, "expression \"manifest.") || strings.Contains(r.Comments, "expression 'manifest.") || relatedManifests(r.SkipReason)
	}
	return false
}

// relatedManifests reports whether a skip reason names manifest entries.
func relatedManifests(reason string) bool {
	_, rest, found := strings.Cut(reason, `"related_manifests"`)
	rest = strings.TrimLeft(rest, ": \n\t")
	return found && strings.HasPrefix(rest, "[") && !strings.HasPrefix(strings.TrimLeft(rest[1:], " \n\t"), "]") ||
		found && strings.HasPrefix(rest, "{") && !strings.HasPrefix(strings.TrimLeft(rest[1:], " \n\t"), "}")
}

// ApartWithoutManifest returns the counts of a submission of a machine of which nobody had a manifest: results that were skipped for want of one
// are taken out of the others and counted apart.
func ApartWithoutManifest(counts Counts, results []Result) Counts {
	out := maps.Clone(counts)
	for _, r := range results {
		if r.WantsManifest() && out[r.Outcome] > 0 {
			out[r.Outcome]--
			out[OutcomeNoManifest]++
		}
	}
	maps.DeleteFunc(out, func(_ string, n int) bool { return n == 0 })
	return out
}
