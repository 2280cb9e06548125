package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"

	"gopkg.in/yaml.v2"
)

// An output is a command's --format and -o. yaml and json are always there; others come with the command.
type output struct {
	c       *call
	format  string
	file    string
	other   map[string]func(value any) (string, error)
	written bool
}

// options declares --format and -o. others are the formats besides yaml and json that the command has.
func (o *output) options(initial string, others map[string]func(any) (string, error)) {
	o.format = initial
	o.other = others
	names := []string{"json", "yaml"}
	for name := range others {
		names = append(names, name)
	}
	sort.Strings(names)
	f := o.c.flags
	f.add(&option{names: []string{"format"}, value: initial, usage: "Specify output format (" + strings.Join(names, "|") + ")", set: func(s string) error {
		if s != "json" && s != "yaml" && others[s] == nil {
			return fmt.Errorf("unknown format %q", s)
		}
		o.format = s
		return nil
	}})
	f.str(&o.file, "o,output", "Specify an output file")
}

// machine says whether a program reads the output.
func (o *output) machine() bool { return o.format == "json" || o.format == "yaml" }

// write prints value in the format that was asked for.
func (o *output) write(value any) error {
	text, err := o.render(value)
	if err != nil {
		return err
	}
	o.written = true
	if o.file != "" {
		return os.WriteFile(o.c.path(o.file), []byte(text), 0o644)
	}
	_, err = io.WriteString(o.c.Stdout, text)
	return err
}

func (o *output) render(value any) (string, error) {
	switch o.format {
	case "json":
		data, err := json.Marshal(value)
		return string(data) + "\n", err
	case "yaml":
		return marshalYAML(value)
	}
	return o.other[o.format](value)
}

// marshalYAML writes YAML as Juju's client does: its library folds long strings and does not indent lists, which version 3 does
// otherwise.
func marshalYAML(value any) (string, error) {
	data, err := yaml.Marshal(value)
	if err != nil {
		return "", err
	}
	return string(bytes.TrimSpace(data)) + "\n", nil
}
