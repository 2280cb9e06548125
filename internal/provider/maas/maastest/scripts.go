package maastest

import (
	"encoding/base64"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// script is one that machines can be tested or commissioned with.
type script struct {
	ID                       int
	Name, Title, Description string
	Type                     string // testing, commissioning
	Tags                     []string
	Timeout                  time.Duration
	Text                     string
	BuiltIn                  bool
}

func builtinScripts() []*script {
	var all []*script
	for _, s := range []script{
		{Name: "20-maas-01-install-lldpd", Type: "commissioning"}, {Name: "50-maas-01-commissioning", Type: "commissioning"},
		{Name: "maas-lshw", Type: "commissioning"}, {Name: "smartctl-validate", Type: "testing", Tags: []string{"storage", "commissioning"}},
		{Name: "stress-ng-cpu-short", Type: "testing", Tags: []string{"cpu"}}, {Name: "memtester", Type: "testing", Tags: []string{"memory"}},
	} {
		s.ID, s.BuiltIn, s.Text = len(all)+1, true, "#!/bin/sh\n"
		all = append(all, &s)
	}
	return all
}

func (r *Region) script(name string) *script {
	for _, s := range r.state.Scripts {
		if s.Name == name {
			return s
		}
	}
	return nil
}

type scriptDoc struct {
	Name        string         `json:"name"`
	Title       string         `json:"title"`
	Description string         `json:"description"`
	Tags        []string       `json:"tags"`
	Type        int            `json:"type"`
	TypeName    string         `json:"type_name"`
	Hardware    int            `json:"hardware_type"`
	HWName      string         `json:"hardware_type_name"`
	Parallel    int            `json:"parallel"`
	ParName     string         `json:"parallel_name"`
	Results     struct{}       `json:"results"`
	Parameters  struct{}       `json:"parameters"`
	Packages    map[string]any `json:"packages"`
	Timeout     string         `json:"timeout"`
	Destructive bool           `json:"destructive"`
	Default     bool           `json:"default"`
	ForHardware []string       `json:"for_hardware"`
	MayReboot   bool           `json:"may_reboot"`
	Recommiss   bool           `json:"recommission"`
	ApplyNet    bool           `json:"apply_configured_networking"`
	ID          int            `json:"id"`
	History     []historyDoc   `json:"history"`
	ResourceURI string         `json:"resource_uri"`
	Script      string         `json:"script,omitempty"`
}

type historyDoc struct {
	ID      int    `json:"id"`
	Comment string `json:"comment"`
	Created string `json:"created"`
}

func (c *call) documentOfScript(s *script) scriptDoc {
	d := scriptDoc{
		Name: s.Name, Title: s.Title, Description: s.Description, Tags: append([]string{}, s.Tags...), Type: 2, TypeName: "Testing script",
		HWName: "Node", ParName: "Disabled", Packages: map[string]any{}, Timeout: runtime(time.Unix(0, 0), time.Unix(0, 0).Add(s.Timeout)),
		Default: s.BuiltIn, ForHardware: []string{}, ID: s.ID, History: []historyDoc{{ID: s.ID, Created: stamp(c.state.Started)}},
		ResourceURI: apiRoot + "scripts/" + s.Name,
	}
	if s.Type == "commissioning" {
		d.Type, d.TypeName = 0, "Commissioning script"
	}
	if c.get("include_script") != "" {
		d.Script = base64.StdEncoding.EncodeToString([]byte(s.Text))
	}
	return d
}

func (c *call) listScripts() reply {
	docs := []scriptDoc{}
	for _, s := range c.state.Scripts {
		names := strings.Split(c.get("filters"), ",")
		wanted := c.get("filters") == "" || slices.Contains(names, s.Name) || slices.ContainsFunc(s.Tags, func(t string) bool { return slices.Contains(names, t) })
		if t := c.get("type"); wanted && (t == "" || t == s.Type) {
			docs = append(docs, c.documentOfScript(s))
		}
	}
	return asJSON(docs)
}

var scriptMetadata = regexp.MustCompile(`(?s)# --- Start MAAS 1\.0 script metadata ---\n(.*?)# --- End MAAS 1\.0 script metadata ---`)

// createScript takes a script, whose own header says most about it.
func (c *call) createScript() reply {
	s := &script{Name: c.get("name"), Title: c.get("title"), Description: c.get("description"), Type: c.get("type"), Text: c.get("script")}
	if s.Text == "" {
		return invalid("script", "This field is required.")
	}
	if m := scriptMetadata.FindStringSubmatch(s.Text); m != nil {
		var header struct {
			Name, Title, Description, Type string
			ScriptType                     string `yaml:"script_type"`
			Timeout                        string
			Tags                           []string
		}
		if err := yaml.Unmarshal([]byte(strings.ReplaceAll("\n"+m[1], "\n# ", "\n")), &header); err != nil {
			return invalid("script", "Invalid YAML: "+err.Error())
		}
		for have, from := range map[*string]string{&s.Name: header.Name, &s.Title: header.Title, &s.Description: header.Description, &s.Type: header.ScriptType + header.Type} {
			if *have == "" {
				*have = from
			}
		}
		s.Tags = header.Tags
		s.Timeout, _ = time.ParseDuration(header.Timeout)
	}
	switch {
	case s.Name == "":
		return invalid("name", "This field is required.")
	case c.script(s.Name) != nil:
		return invalid("name", "Script with this Name already exists.")
	}
	if s.Type == "" {
		s.Type = "testing"
	}
	if t := c.get("timeout"); t != "" {
		seconds, err := strconv.Atoi(t)
		if err != nil {
			return invalid("timeout", "Enter a whole number.")
		}
		s.Timeout = time.Duration(seconds) * time.Second
	}
	if t := c.get("tags"); t != "" {
		s.Tags = strings.Split(t, ",")
	}
	for _, other := range c.state.Scripts {
		s.ID = max(s.ID, other.ID+1)
	}
	c.state.Scripts = append(c.state.Scripts, s)
	return asJSON(c.documentOfScript(s))
}

func (c *call) readScript() reply {
	if s := c.script(c.vars["name"]); s != nil {
		return asJSON(c.documentOfScript(s))
	}
	return missing("Script")
}

func (c *call) downloadScript() reply {
	if s := c.script(c.vars["name"]); s != nil {
		return reply{status: 200, contentType: textPlain, body: []byte(s.Text)}
	}
	return missing("Script")
}

func (c *call) deleteScript() reply {
	s := c.script(c.vars["name"])
	switch {
	case s == nil:
		return missing("Script")
	case s.BuiltIn:
		return forbidden()
	}
	c.state.Scripts = slices.DeleteFunc(c.state.Scripts, func(other *script) bool { return other == s })
	return noContent()
}
