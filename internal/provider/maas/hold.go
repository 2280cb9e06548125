package maas

import (
	"context"

	"certlab/internal/cert"
	gomaas "github.com/canonical/gomaasclient/client"
	"github.com/canonical/gomaasclient/entity"
)

// Lock keeps a machine from being released in MAAS by mistake.
func (p *Provider) Lock(ctx context.Context, id, comment string) error {
	return p.simple(ctx, "lock "+p.name(id), id, func(m *machine) (*call, error) {
		if m.Locked {
			return nil, nil
		}
		return &call{op: "lock", right: "lock", ask: func(api gomaas.APIClient) error {
			_, err := (&gomaas.Machine{APIClient: api}).Lock(id, comment)
			return err
		}}, nil
	})
}

// Unlock allows a machine to be released again.
func (p *Provider) Unlock(ctx context.Context, id, comment string) error {
	return p.simple(ctx, "unlock "+p.name(id), id, func(m *machine) (*call, error) {
		if !m.Locked {
			return nil, nil
		}
		return unlock(id, comment), nil
	})
}

func unlock(id, comment string) *call {
	return &call{op: "unlock", right: "lock", ask: func(api gomaas.APIClient) error {
		_, err := (&gomaas.Machine{APIClient: api}).Unlock(id, comment)
		return err
	}}
}

// Release gives a machine back, unlocking it first if need be. What its disks get is r's, or else its pool's.
func (p *Provider) Release(ctx context.Context, id string, r cert.ReleaseOptions) error {
	ctx, cancel := p.within(ctx, p.limits.Answer)
	defer cancel()
	doing := "release " + p.name(id)
	err := p.change(ctx, doing, id, heldOnly, func(m *machine) (*call, error) {
		if m.Status == stReleasing || m.Status == stErasing {
			return nil, nil
		}
		if err := p.unlockFirst(ctx, doing, m, r.Comment); err != nil {
			return nil, err
		}
		p.annotate(ctx, m)
		params := p.releaseParams(m, r)
		return &call{op: "release", ask: func(api gomaas.APIClient) error {
			_, err := (&gomaas.Machine{APIClient: api}).Release(id, params)
			return err
		}}, nil
	})
	if cert.ProviderFaultOf(err) == cert.ProviderConflict {
		// Nobody holds it: there is nothing to release. A Broken machine especially: releasing would make it Ready.
		if m, readErr := p.read(ctx, doing, id); readErr == nil && (m.Owner == "" || m.Status == stReleasing) {
			return nil
		}
	}
	return err
}

func (p *Provider) releaseParams(m *machine, r cert.ReleaseOptions) *entity.MachineReleaseParams {
	how := r.Erase
	if how == "" {
		how = p.config.Erase[m.Pool.Name]
	}
	if how == "" {
		how = p.config.Erase[""]
	}
	e := erasing[how]
	return &entity.MachineReleaseParams{Comment: r.Comment, Erase: e.erase, QuickErase: e.quick, SecureErase: e.secure}
}

// unlockFirst unlocks a machine, within a change that MAAS refuses of a locked one.
func (p *Provider) unlockFirst(ctx context.Context, doing string, m *machine, comment string) error {
	if !m.Locked {
		return nil
	}
	c := unlock(m.SystemID, comment)
	c.doing, c.change = doing, true
	if failed, _ := p.once(ctx, *c); failed != nil {
		return failed
	}
	m.Locked = false
	return nil
}

// Abort ends what MAAS is doing with a machine: deploying, erasing, testing.
func (p *Provider) Abort(ctx context.Context, id, comment string) error {
	return p.simple(ctx, "abort what MAAS does with "+p.name(id), id, func(*machine) (*call, error) {
		return &call{op: "abort", ask: func(api gomaas.APIClient) error {
			_, err := (&gomaas.Machine{APIClient: api}).Abort(id, comment)
			return err
		}}, nil
	})
}

// MarkBroken takes a machine of this lab out of use, and so releases it: MAAS switches it off, without waiting for its BMC.
func (p *Provider) MarkBroken(ctx context.Context, id, comment string) error {
	doing := "mark " + p.name(id) + " broken"
	ctx, cancel := p.within(ctx, p.limits.Answer)
	defer cancel()
	broken := func(m *machine) bool { return m.Status == stBroken && m.Owner == "" }
	err := p.change(ctx, doing, id, heldOnly, func(m *machine) (*call, error) {
		if err := p.unlockFirst(ctx, doing, m, comment); err != nil {
			return nil, err
		}
		return &call{op: "mark_broken", ask: func(api gomaas.APIClient) error {
			_, err := (&gomaas.Machine{APIClient: api}).MarkBroken(id, comment)
			return err
		}}, nil
	})
	if cert.ProviderFaultOf(err) != cert.ProviderConflict {
		return err
	}
	m, readErr := p.read(ctx, doing, id)
	switch {
	case readErr != nil:
		return err
	case broken(m):
		return nil
	case m.Owner == "":
		return cert.ProviderErrorf(cert.ProviderConflict, "cannot %s: nobody holds it (%s), and MAAS lets only its holder do that (acquire it first)", doing, m.statusWord())
	}
	return err
}

// MarkFixed returns a broken machine to the free ones. MAAS keeps that for administrators, but lets anybody release a broken machine,
// which does the same.
func (p *Provider) MarkFixed(ctx context.Context, id, comment string) error {
	doing := "mark " + p.name(id) + " fixed"
	ctx, cancel := p.within(ctx, p.limits.Answer)
	defer cancel()
	return p.change(ctx, doing, id, orFree, func(m *machine) (*call, error) {
		switch {
		case m.Status == stReady:
			return nil, nil
		case m.Status != stBroken:
			return nil, cert.ProviderErrorf(cert.ProviderConflict, "cannot %s: it is not broken (%s)", doing, m.statusWord())
		case p.admin():
			return &call{op: "mark_fixed", right: "fix", ask: func(api gomaas.APIClient) error {
				_, err := (&gomaas.Machine{APIClient: api}).MarkFixed(id, comment)
				return err
			}}, nil
		}
		return &call{op: "release", ask: func(api gomaas.APIClient) error {
			_, err := (&gomaas.Machine{APIClient: api}).Release(id, &entity.MachineReleaseParams{Comment: comment})
			return err
		}}, nil
	})
}

// simple makes a change of a machine of this lab that needs nothing but itself.
func (p *Provider) simple(ctx context.Context, doing, id string, decide func(*machine) (*call, error)) error {
	ctx, cancel := p.within(ctx, p.limits.Answer)
	defer cancel()
	return p.change(ctx, doing, id, heldOnly, decide)
}
