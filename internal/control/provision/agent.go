package provision

import (
	"context"

	"certlab/internal/cert"
	"certlab/internal/order"
)

// Booted is a deployed machine's first word. It fails as Unauthorized unless the token is that of a deployment under way.
func (f *Fleet) Booted(ctx context.Context, token string) error {
	d, err := f.byToken(ctx, token)
	if err != nil {
		return err
	}
	if d.Booted != nil {
		return nil
	}
	_, err = f.edit(ctx, d.ID, func(e *edit) error {
		if err := cert.CheckBooted(e.d, token); err != nil || e.d.Booted != nil {
			return err
		}
		e.d.Booted = &e.now
		return nil
	})
	if err == nil {
		f.Wake()
	}
	return err
}

func (f *Fleet) byToken(ctx context.Context, token string) (cert.Deployment, error) {
	if !cert.IsSecret(order.EnrolPrefix, token) {
		return cert.Deployment{}, cert.CheckBooted(cert.Deployment{}, token)
	}
	d, err := f.DB.DeploymentByToken(ctx, cert.HashSecret(token))
	if cert.CodeOf(err) == cert.NotFound {
		return d, cert.CheckBooted(cert.Deployment{}, token)
	}
	if err != nil {
		return d, err
	}
	return d, cert.CheckBooted(d, token)
}

// Enrol lets the agent on a deployed machine act for it. The same key may come again: an answer can be lost.
func (f *Fleet) Enrol(ctx context.Context, in order.Enrolment) (out order.Enrolled, err error) {
	d, err := f.byToken(ctx, in.Token)
	if err != nil {
		return out, err
	}
	var refused error
	done, err := f.edit(ctx, d.ID, func(e *edit) error {
		p := cert.Provided{ID: e.m.Machine.SystemID, Hostname: e.m.Machine.Hostname}
		if e.m.Provided != nil {
			p = *e.m.Provided
		}
		if refused = cert.CheckEnrolment(e.d, p, in); refused != nil {
			if cert.CodeOf(refused) == cert.Forbidden && f.refusal(e.d.ID) {
				e.log("enrol-refused", "certlab", refused.Error())
			}
			return nil
		}
		if e.d.AgentKey == in.PublicKey {
			return nil
		}
		e.d.AgentKey, e.d.BootID, e.d.RunningKernel, e.d.Enrolled = in.PublicKey, in.BootID, in.Identity.Kernel, &e.now
		if e.d.Booted == nil {
			e.d.Booted = &e.now
		}
		e.log("enrolled", "certlab", "its agent has enrolled")
		return nil
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		return out, err
	}
	f.Wake()
	if f.Agent != nil {
		out.Desired = f.Agent(done.m.Machine)
	}
	// Whose machine it is decides what the agent leaves alone there.
	out.Desired.Deployment, out.Desired.Reserved = done.d.ID, done.r.Kind == cert.ReserveManual
	return out, nil
}

// maxRefusals bounds how many refused enrolments of one deployment are noted: whoever has its token may ask without end.
const maxRefusals = 20

// refusal counts a refused enrolment, and reports whether it is to be noted.
func (f *Fleet) refusal(deployment string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refusals[deployment]++
	return f.refusals[deployment] <= maxRefusals
}
