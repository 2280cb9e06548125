package maas

import (
	"context"
	"regexp"
	"strings"

	"certlab/internal/cert"
	gomaas "github.com/canonical/gomaasclient/client"
	"github.com/canonical/gomaasclient/entity"
)

// SetPool moves a machine of this lab, or of nobody, into a pool. A pool that there is not is made.
func (p *Provider) SetPool(ctx context.Context, id, pool string) error {
	ctx, cancel := p.within(ctx, p.limits.Answer)
	defer cancel()
	doing := "move " + p.name(id) + " to pool " + quoted(pool)
	if strings.TrimSpace(pool) == "" {
		return cert.ProviderErrorf(cert.ProviderInvalid, "cannot %s: a pool has a name", doing)
	}
	move := func() error {
		return p.change(ctx, doing, id, orFree, func(m *machine) (*call, error) {
			if m.Pool.Name == pool {
				return nil, nil
			}
			return &call{op: "set_pool", right: "pool", ask: func(api gomaas.APIClient) error {
				_, err := (&gomaas.Machine{APIClient: api}).Update(id, &entity.MachineUpdateParams{Pool: pool}, nil)
				return err
			}}, nil
		})
	}
	err := move()
	if cert.ProviderFaultOf(err) != cert.ProviderInvalid || !strings.Contains(err.Error(), "pool: Select a valid choice") {
		return err
	}
	made := p.make(ctx, call{op: "create_pool", doing: doing, right: "pool", ask: func(api gomaas.APIClient) error {
		_, err := (&gomaas.ResourcePools{APIClient: api}).Create(&entity.ResourcePoolParams{Name: pool, Description: p.purpose(pool == p.config.QuarantinePool)})
		return err
	}})
	if made != nil {
		return made
	}
	return move()
}

// tagName is what MAAS takes for a tag.
var tagName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}$`)

// Tag gives a machine of this lab, or of nobody, a tag, or takes it away. A tag that there is not is made.
func (p *Provider) Tag(ctx context.Context, id, tag string, on bool) error {
	ctx, cancel := p.within(ctx, p.limits.Answer)
	defer cancel()
	doing := "tag " + p.name(id) + " with " + quoted(tag)
	if !on {
		doing = "take tag " + quoted(tag) + " from " + p.name(id)
	}
	if !tagName.MatchString(tag) || strings.Trim(tag, ".") == "" {
		return cert.ProviderErrorf(cert.ProviderInvalid, "cannot %s: tags are made of letters, digits, -, _ and .", doing)
	}
	asked := false
	update := func() error {
		return p.change(ctx, doing, id, orFree, func(m *machine) (*call, error) {
			if has(m.Tags, tag) == on {
				return nil, nil
			}
			asked = true
			return &call{op: "update_nodes", right: "tag", ask: func(api gomaas.APIClient) error {
				t := &gomaas.Tag{APIClient: api}
				if on {
					return t.AddMachines(tag, []string{id})
				}
				return t.RemoveMachines(tag, []string{id})
			}}, nil
		})
	}
	err := update()
	if !on || !asked || cert.ProviderFaultOf(err) != cert.ProviderNotFound {
		return err
	}
	// The machine is there, so it is the tag that is not.
	made := p.make(ctx, call{op: "create_tag", doing: doing, right: "tag", ask: func(api gomaas.APIClient) error {
		_, err := (&gomaas.Tags{APIClient: api}).Create(&entity.TagParams{Name: tag, Comment: p.purpose(tag == p.config.QuarantineTag)})
		return err
	}})
	if made != nil {
		return made
	}
	return update()
}

// make creates a pool or a tag. That somebody was faster is no failure.
func (p *Provider) make(ctx context.Context, c call) error {
	c.change = true
	err := p.do(ctx, c)
	if cert.ProviderFaultOf(err) == cert.ProviderInvalid && strings.Contains(err.Error(), "already exists") {
		return nil
	}
	return err
}

// purpose is what people read in MAAS about a pool or a tag that was made here.
func (p *Provider) purpose(quarantine bool) string {
	if quarantine {
		return "Machines that Certlab does not trust (lab " + p.config.Lab + "); `certlab machine return-to-service` gives them back"
	}
	return "Made by Certlab (lab " + p.config.Lab + ")"
}

func has(all []string, one string) bool {
	for _, a := range all {
		if a == one {
			return true
		}
	}
	return false
}

func quoted(text string) string { return `"` + plain(text) + `"` }
