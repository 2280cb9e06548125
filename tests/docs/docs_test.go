// Package docs holds the documentation to what it describes.
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

const root = "../.."

// link is the target of a Markdown link.
var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// documents returns the path of every Markdown file of the repository.
func documents(t *testing.T) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name := entry.Name(); name == "build" || name == ".venv" || name == ".git" || name == "testdata" {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) == ".md" {
			paths = append(paths, path)
		}
		return nil
	})
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	return paths
}

// TestLinksResolve follows every relative link in every Markdown file.
func TestLinksResolve(t *testing.T) {
	t.Parallel()
	links := 0
	for _, path := range documents(t) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			links++
			require.FileExists(t, filepath.Join(filepath.Dir(path), target), "linked from %s", path)
		}
	}
	require.Greater(t, links, 20)
}

// TestCharmsAreDocumented finds every option, action and action parameter of both charms in their reference.
func TestCharmsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "docs", "reference", "charms.md"))
	require.NoError(t, err)
	for _, charm := range []string{"cert-controller", "checkbox"} {
		_, section, found := strings.Cut(string(text), "\n## "+charm+"\n")
		require.True(t, found, "no section of %s", charm)
		if i := strings.Index(section, "\n## "); i >= 0 {
			section = section[:i]
		}
		data, err := os.ReadFile(filepath.Join(root, "charms", charm, "charmcraft.yaml"))
		require.NoError(t, err)
		var meta struct {
			Config struct {
				Options map[string]any `yaml:"options"`
			} `yaml:"config"`
			Actions map[string]struct {
				Params map[string]any `yaml:"params"`
			} `yaml:"actions"`
		}
		require.NoError(t, yaml.Unmarshal(data, &meta))
		require.NotEmpty(t, meta.Config.Options)
		require.NotEmpty(t, meta.Actions)
		for option := range meta.Config.Options {
			require.Contains(t, section, "`"+option+"`", "option of %s", charm)
		}
		for action, a := range meta.Actions {
			require.Contains(t, section, "`"+action+"`", "action of %s", charm)
			for param := range a.Params {
				require.Contains(t, section, "`"+param+"`", "parameter of %s's action %s", charm, action)
			}
		}
	}
}
