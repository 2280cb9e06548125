package maas

import (
	"context"
	"encoding/json"
	"io"
	"sort"
	"strings"

	"certlab/internal/cert"
	gomaas "github.com/canonical/gomaasclient/client"
)

// resource is as much of MAAS's document of a boot resource as is used here.
type resource struct {
	Type         string `json:"type"`
	Name         string `json:"name"`         // ubuntu/noble
	Architecture string `json:"architecture"` // amd64/ga-24.04
	Title        string `json:"title"`
}

// Releases lists what MAAS has images of for an architecture, the default first, the others by name.
func (p *Provider) Releases(ctx context.Context, architecture string) ([]cert.Image, error) {
	ctx, cancel := p.within(ctx, p.limits.Long)
	defer cancel()
	const doing = "list the releases that MAAS has"
	var found []resource
	err := p.do(ctx, call{
		op: "boot-resources", doing: doing, long: true, right: "images",
		into: func(r io.Reader) error { return decodeJSON(r, &found) },
		ask: func(api gomaas.APIClient) error {
			_, err := (&gomaas.BootResources{APIClient: api}).Get(nil)
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	series, err := p.setting(ctx, doing, "default_distro_series")
	if err != nil && cert.ProviderFaultOf(err) != cert.ProviderForbidden {
		return nil, err
	}
	return images(found, architecture, series), nil
}

// images makes one image of all resources of a release: MAAS has one per kernel.
func images(found []resource, architecture, series string) []cert.Image {
	byName := map[string]*cert.Image{}
	var all []*cert.Image
	for _, r := range found {
		arch, kernel, _ := strings.Cut(r.Architecture, "/")
		os, release, ok := strings.Cut(r.Name, "/")
		if !ok {
			// What a person has uploaded.
			os, release = "custom", r.Name
		}
		if arch != architecture || release == "" || os == "bootloader" || os == "grub-efi" || os == "grub-efi-signed" || os == "pxelinux" {
			continue
		}
		name := os + "/" + release
		image := byName[name]
		if image == nil {
			image = &cert.Image{OS: os, Release: release, Title: r.Title, Default: os == "ubuntu" && release == series}
			byName[name] = image
			all = append(all, image)
		}
		// Of what is not installed by a kernel of its own MAAS says generic.
		if kernel != "" && kernel != "generic" && !has(image.Kernels, kernel) {
			image.Kernels = append(image.Kernels, kernel)
		}
	}
	sort.SliceStable(all, func(i, j int) bool {
		a, b := all[i], all[j]
		if a.Default != b.Default {
			return a.Default
		}
		if (a.OS == "ubuntu") != (b.OS == "ubuntu") {
			return a.OS == "ubuntu"
		}
		return a.OS+"/"+a.Release < b.OS+"/"+b.Release
	})
	images := make([]cert.Image, len(all))
	for i, image := range all {
		sort.Strings(image.Kernels)
		images[i] = *image
	}
	return images
}

// setting reads one of MAAS's settings. Only text can be read.
func (p *Provider) setting(ctx context.Context, doing, name string) (string, error) {
	var value string
	err := p.do(ctx, call{op: "get_config", doing: doing, right: "config", ask: func(api gomaas.APIClient) error {
		data, err := (&gomaas.MAASServer{APIClient: api}).Get(name)
		if err == nil && json.Unmarshal(data, &value) != nil {
			value = strings.TrimSpace(string(data))
		}
		return err
	}})
	return value, err
}

// decodeJSON reads one JSON value as it comes, mildly; see decodeMachines.
func decodeJSON(r io.Reader, into any) error {
	if err := mild(json.NewDecoder(r).Decode(into)); err != nil {
		return broken(err)
	}
	return nil
}
