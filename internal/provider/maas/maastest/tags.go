package maastest

import (
	"regexp"
	"slices"
)

type tag struct{ Name, Definition, Comment, KernelOpts string }

type tagDoc struct {
	Name        string `json:"name"`
	Definition  string `json:"definition"`
	Comment     string `json:"comment"`
	KernelOpts  string `json:"kernel_opts"`
	ResourceURI string `json:"resource_uri"`
}

func (t *tag) document() tagDoc {
	return tagDoc{t.Name, t.Definition, t.Comment, t.KernelOpts, apiRoot + "tags/" + t.Name + "/"}
}

func (r *Region) tag(name string) *tag {
	for _, t := range r.state.Tags {
		if t.Name == name {
			return t
		}
	}
	return nil
}

func (c *call) listTags() reply {
	docs := []tagDoc{}
	for _, t := range c.state.Tags {
		docs = append(docs, t.document())
	}
	return asJSON(docs)
}

var tagName = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)

func (c *call) createTag() reply {
	name := c.get("name")
	switch {
	case name == "":
		return invalid("name", "This field is required.")
	case !tagName.MatchString(name):
		return invalid("name", "Enter a valid value.")
	case c.tag(name) != nil:
		return invalid("name", "Tag with this Name already exists.")
	}
	t := &tag{Name: name, Definition: c.get("definition"), Comment: c.get("comment"), KernelOpts: c.get("kernel_opts")}
	c.state.Tags = append(c.state.Tags, t)
	return asJSON(t.document())
}

func (c *call) readTag() reply {
	if t := c.tag(c.vars["name"]); t != nil {
		return asJSON(t.document())
	}
	return missing("Tag")
}

func (c *call) updateTag() reply {
	t := c.tag(c.vars["name"])
	if t == nil {
		return missing("Tag")
	}
	if name := c.get("name"); name != "" && name != t.Name {
		if c.tag(name) != nil {
			return invalid("name", "Tag with this Name already exists.")
		}
		for _, n := range c.state.Nodes {
			if i := slices.Index(n.Tags, t.Name); i >= 0 {
				n.Tags[i] = name
			}
		}
		t.Name = name
		c.touchAll()
	}
	for name, field := range map[string]*string{"comment": &t.Comment, "definition": &t.Definition} {
		if c.has(name) {
			*field = c.get(name)
		}
	}
	return asJSON(t.document())
}

func (c *call) deleteTag() reply {
	t := c.tag(c.vars["name"])
	if t == nil {
		return missing("Tag")
	}
	for _, n := range c.state.Nodes {
		n.Tags = slices.DeleteFunc(n.Tags, func(name string) bool { return name == t.Name })
	}
	c.touchAll()
	c.state.Tags = slices.DeleteFunc(c.state.Tags, func(other *tag) bool { return other == t })
	return noContent()
}

func (c *call) taggedMachines() reply {
	t := c.tag(c.vars["name"])
	if t == nil {
		return missing("Tag")
	}
	var nodes []*node
	for _, n := range c.visible() {
		if slices.Contains(n.Tags, t.Name) {
			nodes = append(nodes, n)
		}
	}
	return c.listOf(nodes)
}

// updateTagged puts a tag on machines and takes it off others. Unknown ids are ignored. It is for administrators, though the route is not:
// rack controllers call it too.
func (c *call) updateTagged() reply {
	if !c.user.Admin {
		return forbidden()
	}
	t := c.tag(c.vars["name"])
	if t == nil {
		return missing("Tag")
	}
	counts := struct {
		Added   int `json:"added"`
		Removed int `json:"removed"`
	}{}
	for _, id := range c.all("add") {
		if n := c.nodes[id]; n != nil {
			counts.Added++
			if !slices.Contains(n.Tags, t.Name) {
				n.Tags = append(n.Tags, t.Name)
				slices.Sort(n.Tags)
			}
			n.revision++
		}
	}
	for _, id := range c.all("remove") {
		if n := c.nodes[id]; n != nil {
			counts.Removed++
			n.Tags = slices.DeleteFunc(n.Tags, func(name string) bool { return name == t.Name })
			n.revision++
		}
	}
	return asJSON(counts)
}
