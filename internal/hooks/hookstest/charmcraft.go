package hookstest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"certlab/internal/hooks"
	"certlab/internal/juju"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

// metadataKeys are the parts of charmcraft.yaml that charmcraft writes into metadata.yaml.
var metadataKeys = []string{"name", "summary", "description", "assumes", "charm-user", "provides", "requires", "peers", "storage", "resources",
	"extra-bindings", "subordinate", "terms", "devices", "containers"}

// readCharm reads charmcraft.yaml, or a directory with one, as charmcraft would pack it: the same four texts that Juju reads.
func readCharm(path string) (*juju.Charm, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "charmcraft.yaml")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	ch, err := parseCharm(text)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return ch, nil
}

func parseCharm(text []byte) (*juju.Charm, error) {
	var parts map[string]yaml.Node
	if err := yaml.Unmarshal(text, &parts); err != nil {
		return nil, err
	}
	metadata := make(map[string]yaml.Node)
	for _, key := range metadataKeys {
		if node, ok := parts[key]; ok {
			metadata[key] = node
		}
	}
	texts := make(map[string]string)
	for name, content := range map[string]any{"metadata.yaml": metadata, "config.yaml": parts["config"], "actions.yaml": parts["actions"]} {
		if node, ok := content.(yaml.Node); ok && node.IsZero() {
			continue
		}
		out, err := yaml.Marshal(content)
		if err != nil {
			return nil, err
		}
		texts[name] = string(out)
	}
	base := parts["base"]
	name, channel, ok := strings.Cut(base.Value, "@")
	if !ok {
		return nil, errors.New("want a base such as ubuntu@24.04")
	}
	texts["manifest.yaml"] = fmt.Sprintf("bases:\n- name: %s\n  channel: %q\n  architectures: [amd64, arm64]\n", name, channel+"/stable")
	return juju.NewCharm(texts)
}

// CheckConfig requires that the fields of the struct are the options of charmcraft.yaml, one for one and of the same types, and that
// an option without a default is read into a pointer or a type whose zero value says so: a string or a secret.
func CheckConfig(t testing.TB, target any, path string) {
	t.Helper()
	ch, err := readCharm(path)
	require.NoError(t, err)
	want := make(map[string]string)
	unset := make(map[string]bool)
	for name, option := range ch.Config.Options {
		want[name] = option.Type
		unset[name] = option.Default == nil
	}
	fields, err := hooks.ConfigFields(target)
	require.NoError(t, err)
	got := make(map[string]string)
	for _, field := range fields {
		got[field.Name] = field.Type
		if unset[field.Name] && !field.Optional && field.Type != "string" && field.Type != "secret" {
			t.Errorf("option %q has no default, so its field must be a pointer", field.Name)
		}
	}
	require.Equal(t, want, got, "options of charmcraft.yaml, fields of %T", target)
}

// CheckAction requires that the fields of the struct are the parameters of the action, one for one and of the same types, that no parameter
// is of a type that does not arrive (only strings, numbers and booleans do; measured on Juju 4.0.15), and that no others are taken.
// For an action without parameters target is struct{}{}.
func CheckAction(t testing.TB, target any, path, action string) {
	t.Helper()
	ch, err := readCharm(path)
	require.NoError(t, err)
	spec, ok := ch.Actions.ActionSpecs[action]
	require.True(t, ok, "charmcraft.yaml has no action %q", action)
	require.Equal(t, false, spec.Params["additionalProperties"], "action %q has to say additionalProperties: false, since Juju 3.6 and 4.0 differ in the default", action)
	want := make(map[string]string)
	properties, _ := spec.Params["properties"].(map[string]any)
	for name, property := range properties {
		kind, _ := property.(map[string]any)["type"].(string)
		require.Contains(t, []string{"string", "integer", "number", "boolean"}, kind, "type of parameter %q of action %q", name, action)
		want[name] = kind
	}
	fields, err := hooks.ParamFields(target)
	require.NoError(t, err)
	got := make(map[string]string)
	for _, field := range fields {
		got[field.Name] = field.Type
	}
	require.Equal(t, want, got, "parameters of action %q in charmcraft.yaml, fields of %T", action, target)
}

// CheckActions requires that the charm has code for the actions of charmcraft.yaml and for no others.
func CheckActions(t testing.TB, charm hooks.Charm, path string) {
	t.Helper()
	ch, err := readCharm(path)
	require.NoError(t, err)
	want, got := []string{}, []string{}
	for name := range ch.Actions.ActionSpecs {
		want = append(want, name)
	}
	for name := range charm.Actions {
		got = append(got, name)
	}
	slices.Sort(want)
	slices.Sort(got)
	require.Equal(t, want, got, "actions of charmcraft.yaml, actions of the charm")
}
