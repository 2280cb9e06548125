package maas

import (
	"cmp"
	"context"
	"encoding/base64"
	"slices"
	"strings"

	"certlab/internal/cert"
	gomaas "github.com/canonical/gomaasclient/client"
	"github.com/canonical/gomaasclient/entity"
)

// Deploy begins to deploy a machine that this lab has acquired.
func (p *Provider) Deploy(ctx context.Context, id string, d cert.DeployOptions) error {
	ctx, cancel := p.within(ctx, p.limits.Long)
	defer cancel()
	doing := "deploy " + p.name(id)
	if d.Ephemeral {
		if err := p.canEphemeral(ctx, doing); err != nil {
			return err
		}
	}
	var found *machine
	err := p.change(ctx, doing, id, heldOnly, func(m *machine) (*call, error) {
		found = m
		if m.Status != stAllocated {
			// Of a machine that is free MAAS would say yes, and take it without our name.
			todo := "it has to be acquired first"
			if m.Status == stDeployFailed || m.Status == stDeployed {
				todo = "it has to be released first"
			}
			return nil, cert.ProviderErrorf(cert.ProviderConflict, "cannot %s: it is %s: %s", doing, m.statusWord(), todo)
		}
		p.annotate(ctx, m)
		return &call{op: "deploy", long: true, ask: func(api gomaas.APIClient) error {
			_, err := (&gomaas.Machine{APIClient: api}).Deploy(id, deployParams(d))
			return err
		}}, nil
	})
	if cert.ProviderFaultOf(err) == cert.ProviderInvalid && found != nil {
		return p.betterInvalid(ctx, "deploy "+p.name(id), found, d, err)
	}
	return err
}

func deployParams(d cert.DeployOptions) *entity.MachineDeployParams {
	params := &entity.MachineDeployParams{DistroSeries: d.Release, HWEKernel: d.Kernel, Comment: d.Comment, EphemeralDeploy: d.Ephemeral}
	if d.OS != "" && d.OS != "ubuntu" && d.Release != "" {
		params.DistroSeries = d.OS + "/" + d.Release
	}
	if len(d.UserData) > 0 {
		params.UserData = base64.StdEncoding.EncodeToString(d.UserData)
	}
	return params
}

// canEphemeral refuses what an older MAAS would silently do otherwise: it ignores parameters that it does not know.
func (p *Provider) canEphemeral(ctx context.Context, doing string) error {
	p.mu.Lock()
	v := p.about
	p.mu.Unlock()
	if v.text == "" {
		var err error
		if v, err = p.version(ctx, doing); err != nil {
			return err
		}
	}
	if !v.atLeast(3, 5) {
		return cert.ProviderErrorf(cert.ProviderInvalid, "cannot %s in memory: MAAS %s cannot do that (3.5 can; leave out ephemeral)", doing, v.text)
	}
	return nil
}

// betterInvalid says what can be done about what MAAS will not deploy.
func (p *Provider) betterInvalid(ctx context.Context, doing string, m *machine, d cert.DeployOptions, invalid error) error {
	_, said, _ := strings.Cut(invalid.Error(), "MAAS says: ")
	architecture, _, _ := strings.Cut(m.Architecture, "/")
	switch {
	case strings.Contains(said, "Node must be configured to use a network"):
		return cert.ProviderErrorf(cert.ProviderInvalid, "cannot %s: none of its interfaces uses a network (in MAAS, give one of them a subnet and an IP mode)", doing)
	case strings.Contains(said, "distro_series") || strings.Contains(said, "is unavailable"):
		os := d.OS
		if os == "" {
			os = "ubuntu"
		}
		wanted := "its default release"
		if d.Release != "" {
			wanted = os + "/" + d.Release
		}
		images, err := p.Releases(ctx, architecture)
		if d.Release != "" && slices.ContainsFunc(images, func(i cert.Image) bool { return i.OS == os && i.Release == d.Release }) {
			return invalid // it has: something else is wrong
		}
		return cert.ProviderErrorf(cert.ProviderInvalid, "cannot %s: MAAS has no image for %s on %s (import it%s)", doing, wanted, architecture,
			otherwise(images, err, "", said))
	case d.Kernel != "" && strings.Contains(said, "kernel"):
		images, err := p.Releases(ctx, architecture)
		return cert.ProviderErrorf(cert.ProviderInvalid, "cannot %s: MAAS has no kernel %q for %s on %s (import it%s)", doing, d.Kernel, cmp.Or(d.Release, "its default release"), architecture,
			otherwise(images, err, d.Release, said))
	}
	return invalid
}

// otherwise lists what can be chosen instead: the releases, or one release's kernels.
func otherwise(images []cert.Image, err error, release, said string) string {
	var names []string
	for _, image := range images {
		switch {
		case release == "" && image.OS == "ubuntu":
			names = append(names, image.Release)
		case release == "":
			names = append(names, image.OS+"/"+image.Release)
		case image.Release == release:
			names = append(names, image.Kernels...)
		}
	}
	if err != nil {
		return after("; MAAS says: ", said)
	}
	if len(names) == 0 {
		return "; MAAS has none at all for it"
	}
	return ", or choose one of: " + strings.Join(names, ", ")
}
