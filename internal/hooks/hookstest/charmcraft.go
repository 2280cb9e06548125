package hookstest

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"certlab/internal/hooks"
	"certlab/internal/juju"

	"github.com/google/go-cmp/cmp"
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
// an option without a default is read into a pointer or a type whose zero value says so: a string or a secret. Every event of a
// Scenario checks the structs that it decodes into; this is for those that no test reaches.
func CheckConfig(t testing.TB, target any, path string) {
	t.Helper()
	ch, err := readCharm(path)
	require.NoError(t, err)
	require.NoError(t, compareConfig(ch, target))
}

func compareConfig(ch *juju.Charm, target any) error {
	fields, err := hooks.ConfigFields(target)
	if err != nil {
		return err
	}
	want := make(map[string]string)
	for name, option := range ch.Config.Options {
		want[name] = option.Type
	}
	for _, field := range fields {
		option, known := ch.Config.Options[field.Name]
		if known && option.Default == nil && !field.Optional && field.Type != "string" && field.Type != "secret" {
			return fmt.Errorf("option %q of charmcraft.yaml has no default, so its field in %T has to be a pointer", field.Name, target)
		}
	}
	return compareFields(fmt.Sprintf("options of charmcraft.yaml and fields of %T differ", target), want, fields)
}

// compareFields says how the fields differ from what charmcraft.yaml has: types by name.
func compareFields(about string, want map[string]string, fields []hooks.Field) error {
	got := make(map[string]string)
	for _, field := range fields {
		got[field.Name] = field.Type
	}
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Errorf("%s (-yaml +code):\n%s", about, diff)
	}
	return nil
}

// CheckAction requires that the fields of the struct are the parameters of the action, one for one and of the same types, that no parameter
// is of a type that does not arrive (only strings, numbers and booleans do; measured on Juju 4.0.15), and that no others are taken.
// For an action without parameters target is struct{}{}. RunAction checks the struct that the action decodes into.
func CheckAction(t testing.TB, target any, path, action string) {
	t.Helper()
	ch, err := readCharm(path)
	require.NoError(t, err)
	require.NoError(t, compareParams(ch, action, target))
}

func compareParams(ch *juju.Charm, action string, target any) error {
	spec, ok := ch.Actions.ActionSpecs[action]
	if !ok {
		return fmt.Errorf("charmcraft.yaml has no action %q", action)
	}
	if spec.Params["additionalProperties"] != false {
		return fmt.Errorf("action %q of charmcraft.yaml has to say additionalProperties: false, since Juju 3.6 and 4.0 differ in the default", action)
	}
	want := make(map[string]string)
	properties, _ := spec.Params["properties"].(map[string]any)
	for name, property := range properties {
		schema, _ := property.(map[string]any)
		kind, _ := schema["type"].(string)
		if !slices.Contains([]string{"string", "integer", "number", "boolean"}, kind) {
			return fmt.Errorf("parameter %q of action %q has type %q, and only string, integer, number and boolean arrive", name, action, kind)
		}
		want[name] = kind
	}
	fields, err := hooks.ParamFields(target)
	if err != nil {
		return err
	}
	return compareFields(fmt.Sprintf("parameters of action %q in charmcraft.yaml and fields of %T differ", action, target), want, fields)
}

// CheckActions requires that the charm has code for the actions of charmcraft.yaml and for no others.
func CheckActions(t testing.TB, charm hooks.Charm, path string) {
	t.Helper()
	ch, err := readCharm(path)
	require.NoError(t, err)
	require.Equal(t, slices.Sorted(maps.Keys(ch.Actions.ActionSpecs)), slices.Sorted(maps.Keys(charm.Actions)),
		"actions of charmcraft.yaml, actions of the charm")
}
