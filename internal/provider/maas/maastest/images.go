package maastest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// An Image can be deployed.
type Image struct {
	OS, Release, Title string   // ubuntu, noble, "Ubuntu 24.04 LTS"
	Architectures      []string // amd64
	Kernels            []string // ga-24.04 first, which is the release's default
	Default            bool
}

// DefaultImages are the Ubuntu releases of which a lab has images: noble is the default.
func DefaultImages() []Image {
	both := []string{"amd64", "arm64"}
	return []Image{
		{OS: "ubuntu", Release: "jammy", Title: "22.04 LTS", Architectures: both, Kernels: []string{"ga-22.04", "hwe-22.04", "hwe-22.04-edge"}},
		{OS: "ubuntu", Release: "noble", Title: "24.04 LTS", Architectures: both, Kernels: []string{"ga-24.04", "hwe-24.04", "hwe-24.04-edge"}, Default: true},
	}
}

type imageDoc struct {
	ID           int    `json:"id"`
	Type         string `json:"type"`
	Name         string `json:"name"`
	Architecture string `json:"architecture"`
	ResourceURI  string `json:"resource_uri"`
	LastDeployed any    `json:"last_deployed"`
	Subarches    string `json:"subarches"`
	Title        string `json:"title,omitempty"`
}

// listImages lists a resource per release, architecture and kernel, as simplestreams has them.
func (c *call) listImages() reply {
	docs := []imageDoc{}
	if t := c.get("type"); t != "" && t != "synced" && t != "uploaded" {
		return text(400, "Bad type '%s'", t)
	} else if t == "uploaded" {
		return asJSON(docs)
	}
	for _, i := range c.options.Images {
		for _, arch := range i.Architectures {
			for _, k := range i.Kernels {
				id := len(docs) + 1
				docs = append(docs, imageDoc{
					ID: id, Type: "Synced", Name: i.OS + "/" + i.Release, Architecture: arch + "/" + k, ResourceURI: fmt.Sprintf("%sboot-resources/%d/", apiRoot, id),
					Subarches: "generic," + strings.Join(i.Kernels, ","), Title: i.Title,
				})
			}
		}
	}
	return asJSON(docs)
}

// image finds what "jammy", "ubuntu/jammy" or "ubuntu" name, for an architecture.
func (r *Region) image(osystem, series, arch string) (Image, bool) {
	arch, _, _ = strings.Cut(arch, "/")
	if o, s, ok := strings.Cut(series, "/"); ok {
		osystem, series = o, s
	}
	if series == "" {
		series = r.config("default_distro_series")
	}
	for _, i := range r.options.Images {
		if i.Release == series && (osystem == "" || osystem == i.OS) && slices.Contains(i.Architectures, arch) {
			return i, true
		}
	}
	return Image{}, false
}

// releases are the names that an error offers: 'ubuntu/jammy', …
func (r *Region) releases() string {
	names := []string{"''"}
	for _, i := range r.options.Images {
		names = append(names, "'"+i.OS+"/"+i.Release+"'")
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, cmp.Compare)
	return keys
}
