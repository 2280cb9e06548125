package juju

import (
	"bytes"
	"encoding/json"
	"strings"

	"gopkg.in/yaml.v2" // Juju's own: its folding and quoting are what users see
)

// knownFormat reports whether a tool with the given default format has another one. Tools whose default is yaml lack smart.
func knownFormat(def, format string) bool {
	return format == "yaml" || format == "json" || format == "smart" && def == "smart"
}

// render writes a value as Juju's command line does. Smart text is bare for strings, lists of strings and booleans, nothing for
// nil and empty ones, and YAML for the rest.
func render(format string, value any) ([]byte, error) {
	switch format {
	case "json":
		var buf bytes.Buffer
		if err := json.NewEncoder(&buf).Encode(value); err != nil { // escapes <, > and &, as Juju's does
			return nil, err
		}
		return buf.Bytes(), nil
	case "smart":
		switch v := value.(type) {
		case nil:
			return nil, nil
		case string:
			return line(v), nil
		case []string:
			return line(strings.Join(v, "\n")), nil
		case bool:
			if v {
				return []byte("True\n"), nil
			}
			return []byte("False\n"), nil
		}
	}
	if value == nil && format == "yaml" {
		return nil, nil
	}
	return yaml.Marshal(value)
}

func line(text string) []byte {
	if text == "" {
		return nil
	}
	return []byte(text + "\n")
}
