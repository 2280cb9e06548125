package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/juju/charm/v12"
	"github.com/stretchr/testify/require"
)

// overlay is a bundle overlay in a document: a YAML block that begins with its file's name as a comment.
var overlay = regexp.MustCompile("(?ms)^```yaml\n# (\\S+\\.yaml)\n(.*?)^```$")

// constraints are those of MAAS machines.
var constraints = []string{"arch", "cores", "mem", "root-disk", "tags", "zones", "spaces"}

// TestOverlaysFitTheBundle merges each overlay of the deployment guide with the bundle, as juju deploy does.
func TestOverlaysFitTheBundle(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "docs", "how-to", "deploy-on-juju.md"))
	require.NoError(t, err)
	blocks := overlay.FindAllStringSubmatch(string(text), -1)
	require.Len(t, blocks, 3)

	// A copy of the repository's layout: paths begin at the file that has them.
	dir := t.TempDir()
	bundle, err := os.ReadFile(filepath.Join(root, "bundles", "lab.yaml"))
	require.NoError(t, err)
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, content, 0o644))
		return path
	}
	base := write("bundles/lab.yaml", bundle)
	for _, name := range []string{"cert-controller_amd64", "cert-controller_arm64", "checkbox_amd64", "checkbox_arm64"} {
		write("build/charms/"+name+".charm", nil)
	}
	charmcraft, err := os.ReadFile(filepath.Join(root, "charms", "checkbox", "charmcraft.yaml"))
	require.NoError(t, err)

	merge := func(overlays ...string) *charm.BundleData {
		sources := []charm.BundleDataSource{}
		for _, path := range append([]string{base}, overlays...) {
			source, err := charm.LocalBundleDataSource(path)
			require.NoError(t, err)
			sources = append(sources, source)
		}
		merged, err := charm.ReadAndMergeBundleData(sources...)
		require.NoError(t, err)
		known := func(text string) error {
			for _, constraint := range strings.Fields(text) {
				if name, _, _ := strings.Cut(constraint, "="); !slices.Contains(constraints, name) {
					return fmt.Errorf("unknown constraint %q", name)
				}
			}
			return nil
		}
		require.NoError(t, merged.VerifyLocal(dir, known, nil, nil), "%v", overlays)
		for name, app := range merged.Applications {
			require.FileExists(t, app.Charm, name)
			if len(app.To) > 0 && app.Constraints != "" {
				require.Regexp(t, `^arch=\S+$`, app.Constraints, "constraints of %s mean nothing: its units have their machines", name)
			}
			for option := range app.Options {
				if name == "checkbox" {
					require.Contains(t, string(charmcraft), "\n    "+option+":\n")
				}
			}
		}
		return merged
	}
	paths := map[string]string{}
	for _, block := range blocks {
		paths[block[1]] = write(block[1], []byte(block[2]))
		merge(paths[block[1]])
	}
	both := merge(paths["my-lab.yaml"], paths["arm.yaml"])
	require.Len(t, both.Applications, 3)
	require.Len(t, both.Machines, 4)
}
