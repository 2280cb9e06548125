package maas

import (
	"context"
	"io"

	"certlab/internal/cert"
	gomaas "github.com/canonical/gomaasclient/client"
)

// List returns all machines, with one call; with two if some of the key's user are not annotated.
func (p *Provider) List(ctx context.Context) ([]cert.Provided, error) {
	return p.list(ctx, "list the machines", nil)
}

// Look returns those of the machines that there are, with as many calls as List.
func (p *Provider) Look(ctx context.Context, ids ...string) ([]cert.Provided, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	for _, id := range ids {
		if !identifier.MatchString(id) {
			return nil, cert.ProviderErrorf(cert.ProviderInvalid, "cannot read machine %q: that is no system id of MAAS", plain(id))
		}
	}
	if len(ids) <= maxIDs {
		return p.list(ctx, "read the machines", ids)
	}
	all, err := p.list(ctx, "read the machines", nil)
	if err != nil {
		return nil, err
	}
	wanted := make(map[string]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	some := make([]cert.Provided, 0, len(ids))
	for _, m := range all {
		if wanted[m.ID] {
			some = append(some, m)
		}
	}
	return some, nil
}

func (p *Provider) list(ctx context.Context, doing string, ids []string) ([]cert.Provided, error) {
	ctx, cancel := p.within(ctx, p.limits.Long)
	defer cancel()
	me, err := p.whoami(ctx, doing)
	if err != nil {
		return nil, err
	}
	var pairs []string
	for _, id := range ids {
		pairs = append(pairs, "id", id)
	}
	machines, err := p.machines(ctx, doing, pairs...)
	if err != nil {
		return nil, err
	}
	unmarked := map[string]bool{}
	for _, m := range machines {
		if p.holder(m, me, nil) == cert.Otherwise && string(m.Owner) == me && m.mark(labMark) == "" {
			unmarked[m.SystemID] = true
		}
	}
	ours := map[string]*machine{}
	if len(unmarked) > 0 {
		named, err := p.machines(ctx, doing, append(pairs, "agent_name", p.agentName())...)
		if err != nil {
			return nil, err
		}
		for _, m := range named {
			ours[m.SystemID] = m
		}
	}
	all := make([]cert.Provided, 0, len(machines))
	for _, m := range machines {
		if newer := ours[m.SystemID]; newer != nil && unmarked[m.SystemID] {
			m = newer
		}
		all = append(all, m.provided(p.holder(m, me, ours)))
	}
	return all, nil
}

// machines returns the machines that MAAS's filter matches; all if there is none.
func (p *Provider) machines(ctx context.Context, doing string, pairs ...string) ([]*machine, error) {
	var all []*machine
	err := p.do(ctx, p.reading(doing, &all, pairs...))
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range all {
		p.names[m.SystemID] = m.Hostname
	}
	return all, nil
}

// manyAtOnce is how many filters make a list that MAAS takes its time for.
const manyAtOnce = 10

// reading is the call that reads machines into all.
func (p *Provider) reading(doing string, all *[]*machine, pairs ...string) call {
	return call{
		op: "machines", doing: doing, long: len(pairs) > 2*manyAtOnce || len(pairs) == 0, limit: maxList,
		into: func(r io.Reader) error {
			*all = nil // of an attempt before
			return decodeMachines(r, func(m *machine) { *all = append(*all, m) })
		},
		ask: func(api gomaas.APIClient) error {
			_, err := api.GetSubObject("machines").CallGet("", filter(pairs...))
			return err
		},
	}
}

// holder says who has a machine. ours are those that the agent name was seen of.
func (p *Provider) holder(m *machine, me string, ours map[string]*machine) cert.Holder {
	switch {
	case m.Owner == "":
		return cert.Nobody
	case m.mark(jujuMark) != "":
		return cert.AJuju
	case string(m.Owner) != me:
		return cert.Otherwise
	case m.mark(labMark) == p.config.Lab:
		return cert.ThisLab
	case m.mark(labMark) == "" && ours[m.SystemID] != nil:
		return cert.ThisLab
	}
	return cert.Otherwise
}
