package cli

import (
	"fmt"
	"sort"
	"strconv"
	"strings"

	"certlab/internal/juju"
)

// constraintNames are those that Juju knows; the value says how `show-application` prints them.
var constraintNames = map[string]string{
	"allocate-public-ip": "bool", "arch": "text", "container": "text", "cores": "number", "cpu-power": "number", "image-id": "text",
	"instance-role": "text", "instance-type": "text", "mem": "size", "root-disk": "size", "root-disk-source": "text", "spaces": "list",
	"tags": "list", "virt-type": "text", "zones": "list",
}

// parseConstraints checks constraints and returns them in Juju's order.
func parseConstraints(constraints string) (string, error) {
	var parts []string
	for _, part := range strings.Fields(constraints) {
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return "", fmt.Errorf("malformed constraint %q", part)
		}
		switch kind, known := constraintNames[name]; {
		case !known:
			return "", fmt.Errorf("unknown constraint %q", name)
		case kind == "number":
			if _, err := strconv.ParseUint(value, 10, 64); value != "" && err != nil {
				return "", fmt.Errorf("bad %q constraint: must be a non-negative integer", name)
			}
		case kind == "size":
			if _, ok := juju.ParseSize(value); value != "" && !ok {
				if _, err := strconv.ParseUint(value, 10, 64); err != nil {
					return "", fmt.Errorf("bad %q constraint: must be a non-negative float with optional M/G/T/P suffix", name)
				}
			}
		}
		parts = append(parts, part)
	}
	sort.Strings(parts)
	return strings.Join(parts, " "), nil
}

// constraintDoc is constraints as yaml and json show them.
func constraintDoc(constraints string) map[string]any {
	doc := map[string]any{}
	for _, part := range strings.Fields(constraints) {
		name, value, _ := strings.Cut(part, "=")
		switch constraintNames[name] {
		case "list":
			doc[name] = strings.Split(value, ",")
		case "number":
			n, _ := strconv.ParseUint(value, 10, 64)
			doc[name] = n
		case "size":
			mib, ok := juju.ParseSize(value)
			if !ok {
				mib, _ = strconv.ParseUint(value, 10, 64)
			}
			doc[name] = mib
		case "bool":
			doc[name] = value == "true"
		default:
			doc[name] = value
		}
	}
	return doc
}
