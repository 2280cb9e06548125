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

// In console blocks and indented ones.
var (
	runLine    = regexp.MustCompile(`(?m)^(?:\$ |    ).*?\bjuju run ((?:[a-z-]+/(?:\d+|leader) )+)([a-z-]+)(.*)$`)
	configLine = regexp.MustCompile(`(?m)^(?:\$ |    ).*?\bjuju config ([a-z-]+)(.*)$`)
	assignment = regexp.MustCompile(`(?:^|\s)([a-z][a-z-]*)=`)
)

// TestCommandsNameWhatTheCharmsHave checks every juju run and juju config that a document shows: the action, its parameters, the options.
func TestCommandsNameWhatTheCharmsHave(t *testing.T) {
	t.Parallel()
	type charmcraft struct {
		Config struct {
			Options map[string]any `yaml:"options"`
		} `yaml:"config"`
		Actions map[string]struct {
			Params   map[string]any `yaml:"params"`
			Required []string       `yaml:"required"`
		} `yaml:"actions"`
	}
	charms := map[string]charmcraft{}
	for _, name := range []string{"cert-controller", "checkbox"} {
		data, err := os.ReadFile(filepath.Join(root, "charms", name, "charmcraft.yaml"))
		require.NoError(t, err)
		var c charmcraft
		require.NoError(t, yaml.Unmarshal(data, &c))
		charms[name] = c
	}
	assigned := func(rest string) []string {
		rest, _, _ = strings.Cut(rest, " #")
		var names []string
		for _, m := range assignment.FindAllStringSubmatch(rest, -1) {
			names = append(names, m[1])
		}
		return names
	}
	seen := 0
	for _, path := range documents(t) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, m := range runLine.FindAllStringSubmatch(string(text), -1) {
			seen++
			app, _, _ := strings.Cut(m[1], "/")
			action, ok := charms[app].Actions[m[2]]
			require.True(t, ok, "%s: %s has no action %s", path, app, m[2])
			params := assigned(m[3])
			for _, param := range params {
				require.Contains(t, action.Params, param, "%s: %s", path, m[0])
			}
			for _, needed := range action.Required {
				require.Contains(t, params, needed, "%s: %s", path, m[0])
			}
		}
		for _, m := range configLine.FindAllStringSubmatch(string(text), -1) {
			seen++
			for _, option := range assigned(m[2]) {
				require.Contains(t, charms[m[1]].Config.Options, option, "%s: %s", path, m[0])
			}
		}
	}
	require.Greater(t, seen, 20)
}
