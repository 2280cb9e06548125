// Package arch holds the repository to its layout.
package arch

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// module is the prefix of our own import paths.
const module = "certlab/"

// allowed says, for each part of the house, which other parts of it it may import. A part is a path below the module; a
// package belongs to the longest part that is a prefix of its path. Imports point one way: charms and commands at the top,
// types at the bottom. Everything may import internal/version and internal/durable, which import nothing.
var allowed = map[string][]string{
	"charms": {"internal/hooks", "internal/relate", "internal/workload", "internal/source", "internal/order"},

	"cmd/certlab":       {"internal/client", "internal/locallab", "internal/results", "internal/cert"},
	"cmd/certlabd":      {"internal/server", "internal/control", "internal/sqlite", "internal/blobs", "internal/cert", "internal/order", "internal/sshkeys", "internal/provider", "internal/userdata"},
	"cmd/certlab-agent": {"internal/agent", "internal/order"},
	"cmd/jujuc":         {"internal/juju/toolclient"},
	"cmd/pack":          {"internal/pack"},

	"internal/server":     {"internal/control", "internal/sqlite", "internal/blobs", "internal/cert", "internal/results", "internal/order"},
	"internal/control":    {"internal/sqlite", "internal/blobs", "internal/cert", "internal/results", "internal/userdata", "internal/order", "internal/judge"},
	"internal/agent":      {"internal/results", "internal/order"},
	"internal/locallab":   {"internal/juju", "internal/provider/maas/maastest", "internal/debarchive"},
	"internal/client":     {"internal/cert", "internal/order"},
	"internal/provider":   {"internal/cert", "internal/order"},
	"internal/sqlite":     {"internal/cert", "internal/results", "internal/order"},
	"internal/sshkeys":    {"internal/cert", "internal/order"},
	"internal/blobs":      {},
	"internal/cert":       {"internal/order"},
	"internal/judge":      {"internal/cert", "internal/order"},
	"internal/results":    {},
	"internal/order":      {},
	"internal/userdata":   {"internal/order"},
	"internal/relate":     {"internal/order"},
	"internal/hooks":      {},
	"internal/workload":   {},
	"internal/source":     {"internal/hooks", "internal/order"},
	"internal/pack":       {},
	"internal/juju":       {},
	"internal/version":    {},
	"internal/fuzztest":   {},
	"internal/debarchive": {},
	"internal/durable":    {},

	// Test support may drive what it supports with the model of Juju.
	"internal/hooks/hookstest": {"internal/hooks", "internal/juju"},
	// And a machine whose packages a test may change is made of an archive.
	"internal/agent/apt/apttest": {"internal/agent", "internal/debarchive"},
}

// TestImportsPointOneWay holds every package, without its tests, to the table. Tests may import what they like.
func TestImportsPointOneWay(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output()
	require.NoError(t, err)
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		from := strings.TrimPrefix(fields[0], module)
		if strings.HasPrefix(from, "tests/") {
			continue
		}
		part := partOf(from)
		require.NotEmpty(t, part, "%s has no place in the house: put it into the table, or elsewhere", from)
		seen[part] = true
		for _, to := range fields[1:] {
			to, ours := strings.CutPrefix(to, module)
			if !ours || to == "internal/version" || to == "internal/durable" || partOf(to) == part {
				continue
			}
			require.True(t, permits(part, to), "%s imports %s: %s may import only %v", from, to, part, allowed[part])
		}
	}
	require.Contains(t, seen, "charms")
	require.Contains(t, seen, "internal/results")
}

// partOf returns the longest part of the table that holds path, or "".
func partOf(path string) string {
	best := ""
	for part := range allowed {
		if (path == part || strings.HasPrefix(path, part+"/")) && len(part) > len(best) {
			best = part
		}
	}
	return best
}

func permits(part, to string) bool {
	for _, prefix := range allowed[part] {
		if to == prefix || strings.HasPrefix(to, prefix+"/") {
			// hookstest brings the model of Juju with it: only tests may have it.
			return !strings.HasPrefix(to, "internal/hooks/hookstest")
		}
	}
	return false
}

// heavy are modules that a charm's dispatch must not link: it starts at every hook.
var heavy = []string{"modernc.org/", "github.com/alecthomas/kong", "github.com/juju/", "github.com/prometheus/", "github.com/ulikunitz/"}

// TestDispatchStaysSmall holds the charms' dispatch programs free of what makes a program slow to start.
func TestDispatchStaysSmall(t *testing.T) {
	t.Parallel()
	for _, charm := range []string{"cert-controller", "checkbox"} {
		out, err := exec.Command("go", "list", "-deps", module+"charms/"+charm).Output()
		require.NoError(t, err)
		for dep := range strings.Lines(string(out)) {
			for _, prefix := range heavy {
				require.False(t, strings.HasPrefix(dep, prefix), "%s links %s", charm, strings.TrimSpace(dep))
			}
		}
	}
}
