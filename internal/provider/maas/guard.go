package maas

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"certlab/internal/cert"
)

// A stance says which machines a change may be made to, beside this lab's own.
type stance int

const (
	heldOnly stance = iota // none
	orFree                 // those that nobody holds: what is changed of them takes them from nobody
)

// guard reads a machine and refuses it unless the change may be made. It is called right before each change.
func (p *Provider) guard(ctx context.Context, doing, id string, who stance) (*machine, error) {
	if !identifier.MatchString(id) {
		return nil, cert.ProviderErrorf(cert.ProviderInvalid, "cannot %s: that is no system id of MAAS", doing)
	}
	me, err := p.whoami(ctx, doing)
	if err != nil {
		return nil, err
	}
	if who == heldOnly {
		found, err := p.machines(ctx, doing, "id", id, "agent_name", p.agentName())
		if err != nil {
			return nil, err
		}
		if len(found) == 1 && found[0].SystemID == id {
			if m := found[0]; string(m.Owner) == me && m.mark(jujuMark) == "" {
				return m, nil
			}
			return nil, p.foreign(found[0], doing, me)
		}
	}
	m, err := p.read(ctx, doing, id)
	if err != nil {
		return nil, err
	}
	switch {
	case m.Owner == "" && who == orFree:
		return m, nil
	case m.Owner == "":
		return m, cert.ProviderErrorf(cert.ProviderConflict, "cannot %s: nobody holds it (%s): it has to be acquired first", doing, m.statusWord())
	case who == orFree:
		return p.guard(ctx, doing, id, heldOnly)
	case p.holder(m, me, nil) == cert.ThisLab && m.releasing():
		return m, nil
	}
	return m, p.foreign(m, doing, me)
}

// change makes one change of a machine: it reads the machine, lets decide say what to ask of MAAS (nil: nothing, it is so already), and
// asks. Should nothing have happened, both are repeated.
func (p *Provider) change(ctx context.Context, doing, id string, who stance, decide func(*machine) (*call, error)) error {
	err := p.attempts(ctx, func() (*cert.ProviderError, bool) {
		m, err := p.guard(ctx, doing, id, who)
		if err != nil {
			return providerError(err, doing), false
		}
		c, err := decide(m)
		if err != nil {
			return providerError(err, doing), false
		}
		if c == nil {
			return nil, false
		}
		c.doing, c.change = doing, true
		if c.right == "" {
			c.right = "hold"
		}
		return p.once(ctx, *c)
	})
	return p.naming(id, err)
}

// naming lets an error call a machine by its name, if that was learned only on the way.
func (p *Provider) naming(id string, err error) error {
	var e *cert.ProviderError
	if !errors.As(err, &e) {
		return err
	}
	return &cert.ProviderError{Fault: e.Fault, Wait: e.Wait, Message: strings.Replace(e.Message, " "+quoted(id), " "+p.name(id), 1)}
}

// providerError returns err as what it always is here.
func providerError(err error, doing string) *cert.ProviderError {
	var e *cert.ProviderError
	if errors.As(err, &e) {
		return e
	}
	return cert.ProviderErrorf(cert.ProviderBroken, "cannot %s: %v", doing, err)
}

// read reads one machine, whoever has it.
func (p *Provider) read(ctx context.Context, doing, id string) (*machine, error) {
	found, err := p.machines(ctx, doing, "id", id)
	if err != nil {
		return nil, err
	}
	if len(found) != 1 || found[0].SystemID != id {
		return nil, p.absent(doing)
	}
	return found[0], nil
}

// absent is the fault of a machine that MAAS does not show.
func (p *Provider) absent(doing string) error {
	if p.admin() {
		return cert.ProviderErrorf(cert.ProviderNotFound, "cannot %s: MAAS at %s has no such machine (any more)", doing, p.url)
	}
	return cert.ProviderErrorf(cert.ProviderNotFound, "cannot %s: another user of MAAS has it, or MAAS at %s does not have it any more (the key sees only its own user's machines and free ones)", doing, p.url)
}

func (p *Provider) foreign(m *machine, doing, me string) error {
	return cert.ProviderErrorf(cert.ProviderForeign, "cannot %s: %s; this lab changes only machines that it has acquired", doing, p.whose(m, me))
}

// whose says who has a machine, for a message.
func (p *Provider) whose(m *machine, me string) string {
	switch lab := m.mark(labMark); {
	case m.mark(jujuMark) != "":
		return fmt.Sprintf("the Juju model %s has it (MAAS user %s, %s)", plain(m.mark(jujuMark)), m.Owner, m.statusWord())
	case string(m.Owner) != me:
		return fmt.Sprintf("MAAS user %s has it (%s)", m.Owner, m.statusWord())
	case lab != "" && lab != p.config.Lab:
		return fmt.Sprintf("the lab %s has it, with the same MAAS user %s (%s)", plain(lab), m.Owner, m.statusWord())
	}
	return fmt.Sprintf("MAAS user %s has it, but not for this lab: it was taken by hand or by another program with the same user (%s)", m.Owner, m.statusWord())
}
