package maas

import (
	"context"
	"io"

	"certlab/internal/cert"
	gomaas "github.com/canonical/gomaasclient/client"
	"github.com/canonical/gomaasclient/entity"
)

// Acquire takes one free machine for this lab. A machine that this lab has already, whatever it is doing, is success: so is one of which
// MAAS's answer was lost.
func (p *Provider) Acquire(ctx context.Context, id, comment string) (cert.Provided, error) {
	m, err := p.acquire(ctx, id, comment)
	return m, p.naming(id, err)
}

func (p *Provider) acquire(ctx context.Context, id, comment string) (cert.Provided, error) {
	ctx, cancel := p.within(ctx, p.limits.Long)
	defer cancel()
	doing := "acquire " + p.name(id)
	if !identifier.MatchString(id) {
		return cert.Provided{}, cert.ProviderErrorf(cert.ProviderInvalid, "cannot %s: that is no system id of MAAS", doing)
	}
	me, err := p.whoami(ctx, doing)
	if err != nil {
		return cert.Provided{}, err
	}
	m, err := p.allocate(ctx, doing, id, comment)
	switch cert.ProviderFaultOf(err) {
	case "":
	case cert.ProviderConflict, cert.ProviderOutcome:
		if m, err = p.afterAllocate(ctx, doing, id, me, err); err != nil {
			return cert.Provided{}, err
		}
	default:
		return cert.Provided{}, err
	}
	if m.SystemID != id || string(m.Owner) != me {
		return cert.Provided{}, cert.ProviderErrorf(cert.ProviderBroken, "cannot %s: MAAS has allocated %q to %q instead", doing, m.SystemID, m.Owner)
	}
	p.annotate(ctx, m)
	return m.provided(cert.ThisLab), nil
}

// allocate asks MAAS for the machine. It is not read before: MAAS allocates only what is free.
func (p *Provider) allocate(ctx context.Context, doing, id, comment string) (*machine, error) {
	var m *machine
	err := p.do(ctx, call{
		op: "allocate", doing: doing, change: true, right: "hold",
		into: func(r io.Reader) (err error) { m, err = decodeMachine(r); return err },
		ask: func(api gomaas.APIClient) error {
			_, err := (&gomaas.Machines{APIClient: api}).Allocate(&entity.MachineAllocateParams{SystemID: id, AgentName: p.agentName(), Comment: comment})
			return err
		},
	})
	return m, err
}

// afterAllocate finds out who has a machine of which MAAS has said no, or nothing.
func (p *Provider) afterAllocate(ctx context.Context, doing, id, me string, failed error) (*machine, error) {
	found, err := p.machines(ctx, doing, "id", id, "agent_name", p.agentName())
	if err != nil {
		return nil, failed
	}
	if len(found) == 1 && found[0].SystemID == id && string(found[0].Owner) == me && found[0].mark(jujuMark) == "" {
		return found[0], nil
	}
	m, err := p.read(ctx, doing, id)
	switch {
	case cert.ProviderFaultOf(err) == cert.ProviderNotFound && p.admin():
		return nil, err
	case cert.ProviderFaultOf(err) == cert.ProviderNotFound:
		// The same for all that the key sees: taken it is more often than gone.
		return nil, cert.ProviderErrorf(cert.ProviderConflict, "%s", err)
	case err != nil:
		return nil, failed
	case m.Owner != "":
		return nil, cert.ProviderErrorf(cert.ProviderConflict, "cannot %s: %s", doing, p.whose(m, me))
	case m.Status != stReady:
		return nil, cert.ProviderErrorf(cert.ProviderConflict, "cannot %s: it is not free (%s%s)", doing, m.statusWord(), after(": ", m.StatusMessage))
	}
	return nil, failed
}

// annotate writes into a machine's document that it is this lab's, if it is not there yet. That it fails is no failure: then the agent
// name has to be asked for, and while the machine is being released nothing tells whose it is.
func (p *Provider) annotate(ctx context.Context, m *machine) {
	if m.mark(labMark) == p.config.Lab {
		return
	}
	err := p.do(ctx, call{
		op: "set_workload_annotations", doing: "annotate " + p.name(m.SystemID), change: true, right: "hold",
		ask: func(api gomaas.APIClient) error {
			_, err := (&gomaas.Machine{APIClient: api}).SetWorkloadAnnotations(m.SystemID, map[string]string{labMark: p.config.Lab})
			return err
		},
	})
	if err != nil {
		p.config.Log.Warn("a machine does not show whose it is", "machine", m.SystemID, "error", err)
		return
	}
	if m.Annotations == nil {
		m.Annotations = map[string]any{}
	}
	m.Annotations[labMark] = p.config.Lab
}

// after returns text behind a separator, or nothing.
func after(separator, text string) string {
	if text == "" {
		return ""
	}
	return separator + plain(text)
}
