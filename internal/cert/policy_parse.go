package cert

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// MaxPolicyText bounds a policy's text, in bytes.
const MaxPolicyText = 64 << 10

// ParsePolicy reads a policy's YAML, strictly. What it does not say is as in the DefaultPolicy of its kind. It fails as Invalid and says where.
func ParsePolicy(text []byte) (Policy, error) {
	if len(text) > MaxPolicyText {
		return Policy{}, Errorf(Invalid, "cannot read the policy: it has %d bytes, at most %d are allowed", len(text), MaxPolicyText)
	}
	var doc, more yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) {
		return Policy{}, Errorf(Invalid, "cannot read the policy: it is empty (it begins with kind: sru, weekly, certification or adhoc)")
	} else if err != nil {
		return Policy{}, yamlError(err)
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return Policy{}, Errorf(Invalid, "cannot read the policy: there is more than one document in it (take out the --- and what follows)")
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return Policy{}, Errorf(Invalid, "cannot read the policy: line %d: it has to be keys and values, beginning with kind: sru, weekly, certification or adhoc", root.Line)
	}
	if err := checkKeys(root, reflect.TypeFor[Policy](), ""); err != nil {
		return Policy{}, err
	}
	var head struct {
		Kind CampaignKind `yaml:"kind"`
	}
	if err := root.Decode(&head); err != nil {
		return Policy{}, yamlError(err)
	}
	if head.Kind == "" {
		return Policy{}, Errorf(Invalid, "cannot read the policy: it does not say its kind (there are: %s)", strings.Join(CampaignKinds, ", "))
	}
	p := DefaultPolicy(head.Kind)
	if err := root.Decode(&p); err != nil {
		return Policy{}, yamlError(err)
	}
	return p, p.Validate()
}

var (
	goType      = regexp.MustCompile(`into (\[\])?(?:[a-z]+\.)?([A-Za-z]+)$`)
	yamlAtLine  = regexp.MustCompile(`^line \d+: `)
	yamlTagWord = regexp.MustCompile(`cannot unmarshal !!([a-z]+)`)
)

// yamlError is what the library says, in words of the file.
func yamlError(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	var wrong *yaml.TypeError
	if errors.As(err, &wrong) && len(wrong.Errors) > 0 {
		text = wrong.Errors[0]
	}
	text = strings.TrimPrefix(strings.TrimSpace(text), "unmarshal errors:\n  ")
	kinds := map[string]string{"int": "a whole number", "float": "a number", "bool": "true or false", "string": "a text", "str": "a text", "seq": "a list", "map": "keys and values"}
	if m := goType.FindStringSubmatch(text); m != nil {
		want := kinds[strings.TrimRight(m[2], "0123456789")]
		switch {
		case m[1] != "":
			want = "a list"
		case want == "":
			want = "something else (see the reference of the policy file)"
		}
		text = goType.ReplaceAllString(text, "where there has to be "+strings.ReplaceAll(want, "$", "$$"))
	}
	text = yamlTagWord.ReplaceAllStringFunc(text, func(s string) string {
		word := s[len("cannot unmarshal !!"):]
		if k := kinds[word]; k != "" {
			word = k
		}
		return "there is " + word
	})
	if !yamlAtLine.MatchString(text) {
		return Errorf(Invalid, "cannot read the policy: it is not YAML: %s", cut(text))
	}
	return Errorf(Invalid, "cannot read the policy: %s", cutTo(text, 300))
}

func cutTo(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}

// checkKeys refuses what a file says and nobody would read: unknown keys, anchors and aliases, and nulls, which would silently be the default.
func checkKeys(node *yaml.Node, want reflect.Type, path string) error {
	if node.Kind == yaml.AliasNode || node.Anchor != "" {
		return Errorf(Invalid, "cannot read the policy: line %d: anchors and aliases (& and *) are not used here; write it out (a pattern that begins with * needs quotes)", node.Line)
	}
	if node.Tag == "!!null" {
		return Errorf(Invalid, "cannot read the policy: line %d: %s has no value (give one, or take it out)", node.Line, path)
	}
	switch {
	case node.Kind == yaml.SequenceNode && want.Kind() == reflect.Slice:
		for _, item := range node.Content {
			if err := checkKeys(item, want.Elem(), path); err != nil {
				return err
			}
		}
	case node.Kind == yaml.MappingNode && want.Kind() == reflect.Struct:
		return checkMapping(node, want, path)
	}
	return nil
}

func checkMapping(node *yaml.Node, want reflect.Type, path string) error {
	fields := map[string]reflect.Type{}
	var names []string
	for f := range want.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		fields[name] = f.Type
		names = append(names, name)
	}
	seen := map[string]bool{}
	for n := 0; n+1 < len(node.Content); n += 2 {
		key, value := node.Content[n], node.Content[n+1]
		in := ""
		if path != "" {
			in = " in " + path
		}
		field, ok := fields[key.Value]
		if !ok || key.Kind != yaml.ScalarNode {
			return Errorf(Invalid, "cannot read the policy: line %d: there is no key %q%s%s (there are: %s)", key.Line, cut(key.Value), in, meant(key.Value, names), strings.Join(names, ", "))
		}
		if seen[key.Value] {
			return Errorf(Invalid, "cannot read the policy: line %d: %s is there twice%s", key.Line, key.Value, in)
		}
		seen[key.Value] = true
		if err := checkKeys(value, field, strings.TrimPrefix(fmt.Sprintf("%s.%s", path, key.Value), ".")); err != nil {
			return err
		}
	}
	return nil
}
