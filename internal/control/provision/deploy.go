package provision

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"certlab/internal/cert"
	"certlab/internal/order"
)

// deploy has the provider install the machine.
func (a *at) deploy(ctx context.Context) (bool, error) {
	// The machine may be further than the provider knows.
	if a.d.Booted != nil && a.d.Step == stepWait {
		return a.deployed(ctx)
	}
	if a.expired() && !(a.d.Step == stepWait && a.p.Holder == cert.ThisLab && a.p.Status == cert.StatusDeployed) {
		text := fmt.Sprintf("it was not deployed in time: after %s it is still %s", a.f.minutes(deployMinutes), first(a.p.StatusName, string(a.p.Status)))
		if a.r.Blocked != "" {
			text += ": " + a.r.Blocked
		}
		return a.fail(ctx, cert.FailDeploy, text)
	}
	switch a.d.Step {
	case stepDeploy:
		return a.install(ctx)
	case stepLock:
		return a.lock(ctx)
	}
	switch {
	case a.p.Holder != cert.ThisLab:
		return a.fail(ctx, cert.FailVanished, "the machine was taken away while it was deployed: "+a.whose())
	case a.p.Status == cert.StatusDeploying:
		return false, nil
	case a.p.Status == cert.StatusDeployed:
		return a.deployed(ctx)
	case a.p.Status == cert.StatusDeployFailed:
		kind := cert.FailDeploy
		if m := strings.ToLower(a.p.StatusMessage); strings.Contains(m, "power") || strings.Contains(m, "bmc") {
			kind = cert.FailPower
		}
		return a.fail(ctx, kind, first(a.p.StatusMessage, a.p.StatusName))
	}
	return a.fail(ctx, cert.FailDeploy, "the deployment ended without a result: "+a.whose())
}

// install gives the machine its user-data. The token in it is stored as a hash before it is used.
func (a *at) install(ctx context.Context) (bool, error) {
	f := a.f
	switch {
	case a.p.Holder == cert.ThisLab && (a.p.Status == cert.StatusDeploying || a.p.Status == cert.StatusDeployed) && a.d.TokenHash != "":
		return a.installing(ctx) // it was asked for before a crash, or the answer was lost
	case a.p.Holder != cert.ThisLab:
		return a.fail(ctx, cert.FailVanished, "the machine was taken away before it was deployed: "+a.whose())
	case a.p.Status == cert.StatusReleasing || a.p.Status == cert.StatusFree:
		return a.fail(ctx, cert.FailVanished, "the machine was released by somebody else: "+a.whose())
	case a.p.Status != cert.StatusAcquired:
		return a.fail(ctx, cert.FailDeploy, "it cannot be deployed as it is: "+a.whose())
	}
	token := f.token(a.d.ID)
	if hash := cert.HashSecret(token); hash != a.d.TokenHash {
		if err := f.advance(ctx, a.d, func(e *edit) error { e.d.TokenHash = hash; return nil }); err != nil {
			return false, err
		}
	}
	var data []byte
	if f.Script != nil {
		var err error
		if data, err = f.Script(Script{Deployment: a.d.ID, Token: token, Machine: a.m.Machine, Keys: a.r.Want.Resolved}); err != nil {
			return a.fail(ctx, cert.FailImage, "its user-data could not be made: "+err.Error())
		}
	}
	err := a.call(func() error {
		return a.provider.Deploy(ctx, a.id, cert.DeployOptions{Release: a.d.Release, Kernel: a.d.Kernel, UserData: data, Ephemeral: a.r.Want.Ephemeral, Comment: comment(a.r)})
	})
	switch fault := cert.ProviderFaultOf(err); {
	case err == nil:
		return a.installing(ctx)
	case fault == cert.ProviderOutcome, fault == cert.ProviderConflict:
		if look := a.relook(ctx); look != nil {
			return a.hold(ctx, look)
		}
		if a.p.Holder == cert.ThisLab && (a.p.Status == cert.StatusDeploying || a.p.Status == cert.StatusDeployed || a.p.Status == cert.StatusDeployFailed) {
			return a.installing(ctx)
		}
		if fault == cert.ProviderConflict && a.p.Status == cert.StatusAcquired && a.p.Holder == cert.ThisLab {
			return a.fail(ctx, cert.FailDeploy, err.Error())
		}
		if fault == cert.ProviderConflict {
			return a.fail(ctx, cert.FailVanished, err.Error())
		}
		return a.hold(ctx, err)
	case fault == cert.ProviderInvalid && a.imageMissing():
		return a.fail(ctx, cert.FailImage, err.Error())
	case fault == cert.ProviderNotFound, fault == cert.ProviderForeign:
		return a.fail(ctx, cert.FailVanished, err.Error())
	case waits(err):
		return a.hold(ctx, err)
	default:
		return a.fail(ctx, cert.FailDeploy, err.Error())
	}
}

// token is the one that a deployment's machine comes with. It is the same however often it is asked for, also by the controller that was started
// after this one: a call that was lost may take effect later than the one that repeats it. What it is made from is not in the database.
func (f *Fleet) token(deployment string) string {
	mac := hmac.New(sha256.New, f.Secret)
	mac.Write([]byte("certlab enrolment " + deployment))
	return order.EnrolPrefix + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// imageMissing reports whether the provider has not what is to be deployed, as far as is known.
func (a *at) imageMissing() bool {
	a.f.mu.Lock()
	delete(a.f.images, a.p.Architecture)
	a.f.mu.Unlock()
	images, err := a.f.releases(context.Background(), a.provider, a.p.Architecture)
	if err != nil {
		return false
	}
	_, missing := pick(images, a.d.Release, a.d.Kernel)
	return missing != ""
}

func (a *at) installing(ctx context.Context) (bool, error) {
	a.worked()
	return true, a.f.advance(ctx, a.d, func(e *edit) error {
		e.believe(func(p *cert.Provided) {
			if p.Status == cert.StatusAcquired {
				p.Status, p.StatusName = cert.StatusDeploying, "Deploying"
			}
		})
		e.d.Step, e.r.Blocked = stepLock, ""
		e.log("deploying", "certlab", "deploying "+strings.TrimSpace(first(e.d.Release, "the default release")+" "+e.d.Kernel))
		return nil
	})
}

// lock keeps others with the same user from releasing the machine by mistake. A provider that does not do it is no reason to stop.
func (a *at) lock(ctx context.Context) (bool, error) {
	refused := ""
	if !a.p.Locked {
		err := a.call(func() error { return a.provider.Lock(ctx, a.id, comment(a.r)) })
		switch fault := cert.ProviderFaultOf(err); {
		case err == nil:
		case fault == cert.ProviderOutcome:
			if look := a.relook(ctx); look == nil && a.p.Locked {
				break
			}
			if !a.triedOften() {
				return a.hold(ctx, err)
			}
			refused = err.Error()
		case fault == cert.ProviderBusy && a.triedOften():
			refused = err.Error()
		case fault == cert.ProviderUnreachable, fault == cert.ProviderBusy, fault == cert.ProviderRefused, fault == cert.ProviderClock:
			return a.hold(ctx, err)
		default:
			refused = err.Error()
		}
	}
	a.worked()
	return true, a.f.advance(ctx, a.d, func(e *edit) error {
		e.d.Step, e.r.Blocked = stepWait, ""
		if refused != "" {
			e.log("note", "certlab", "it is not locked at the provider: "+refused)
			return nil
		}
		e.believe(func(p *cert.Provided) { p.Locked = true })
		return nil
	})
}

func (a *at) deployed(ctx context.Context) (bool, error) {
	calls := a.f.counted(a.d.ID)
	return true, a.f.advance(ctx, a.d, func(e *edit) error {
		e.r.Blocked = ""
		e.believe(func(p *cert.Provided) { p.Status, p.StatusName = cert.StatusDeployed, "Deployed" })
		e.phase(cert.PhaseBoot, stepWait, a.f.minutes(bootMinutes), calls)
		e.log("deployed", "certlab", "the provider says that it is deployed; waiting for its first word")
		return nil
	})
}

// arrive waits for the machine's first word, then for its agent. Neither needs the provider.
func (a *at) arrive(ctx context.Context) (bool, error) {
	f := a.f
	if a.d.Phase == cert.PhaseBoot {
		switch {
		case a.d.Booted != nil || a.d.Enrolled != nil:
			calls := f.counted(a.d.ID)
			return true, f.advance(ctx, a.d, func(e *edit) error {
				e.phase(cert.PhaseEnrol, stepWait, f.minutes(enrolMinutes), calls)
				e.log("booted", "certlab", "it has booted and asks for its agent")
				return nil
			})
		case a.expired() && !f.away():
			return a.fail(ctx, cert.FailBoot, fmt.Sprintf("it was deployed, and nothing was heard of it for %s: it did not boot, or cannot reach the controller", f.minutes(bootMinutes)))
		}
		return false, nil
	}
	said, found, err := f.DB.AgentStatus(ctx, a.d.Machine)
	if err != nil {
		return false, err
	}
	found = found && a.d.Enrolled != nil && said.Key == a.d.ID
	if found {
		if wrong := a.wrongSystem(ctx, said.Status); wrong != "" && !f.away() {
			return a.fail(ctx, cert.FailWrongSystem, wrong)
		}
		if said.Status.Ready() {
			if len(a.p.Addresses) == 0 && !f.away() {
				// Its first word came before the provider was asked for it again. Its holder wants to know where it is; it is ready without, too.
				if err := a.relook(ctx); err != nil {
					f.Logger.Warn("the address of a machine that is ready is not known", "machine", a.id, "error", err)
				}
			}
			return a.becomeReady(ctx, said.Status)
		}
	}
	if a.expired() && !f.away() {
		text := "its agent did not enrol"
		switch {
		case found && said.Status.Problem != "":
			text = "its agent has no usable Checkbox: " + said.Status.Problem
		case found:
			text = "its agent did not get Checkbox ready"
		case a.d.Enrolled != nil:
			text = "its agent enrolled and said nothing more"
		}
		return a.fail(ctx, cert.FailEnrol, fmt.Sprintf("%s within %s", text, f.minutes(enrolMinutes)))
	}
	return false, nil
}

// wrongSystem says how what runs differs from what was asked for.
func (a *at) wrongSystem(ctx context.Context, s order.Status) string {
	images, err := a.f.releases(ctx, a.provider, a.p.Architecture)
	if err != nil {
		images = nil
	}
	image, _ := pick(images, a.d.Release, "")
	return cert.WrongSystem(image, a.d.Kernel, s.Release, s.Kernel)
}

func (a *at) becomeReady(ctx context.Context, s order.Status) (bool, error) {
	calls := a.f.counted(a.d.ID)
	err := a.f.advance(ctx, a.d, func(e *edit) error {
		if e.r.Deployment != e.d.ID || e.r.State != cert.ReservationPreparing {
			return errMoved // it was cancelled meanwhile
		}
		e.d.BootID, e.d.RunningKernel, e.d.System = first(s.BootID, e.d.BootID), s.Kernel, s.Release
		e.phase(cert.PhaseReady, stepJudge, 0, calls)
		e.m.Failures = 0
		return a.f.give(e)
	})
	if err == nil {
		a.f.measureAnew()
		a.f.Lab.Wake(a.d.Machine)
	}
	return true, err
}

// give hands the machine to whom it was reserved for.
func (f *Fleet) give(e *edit) error {
	_, _, limits := f.settings()
	e.r.State, e.r.Ready, e.r.Blocked, e.r.Failure = cert.ReservationReady, &e.now, "", nil
	if e.r.Kind == cert.ReserveManual && e.r.Until == nil {
		hours := e.r.Want.Hours
		if hours <= 0 {
			hours = min(defaultHours, limits.MaxHours)
		}
		until := e.now.Add(hoursOf(hours))
		e.r.Until = &until
	}
	e.log("ready", "certlab", "ready for "+about(e.r))
	if e.r.Run == "" || e.r.Spec == nil {
		return nil
	}
	by := e.r.Holder
	run := cert.Run{ID: e.r.Run, Machine: e.m.Machine.ID, Hostname: e.m.Machine.Hostname, Origin: cert.FromOrder, RequestedBy: by, Spec: *e.r.Spec, State: cert.Queued,
		Created: e.now, Attempts: []cert.Attempt{}}
	if e.r.Repeats != "" {
		if first, err := e.tx.Reservation(e.r.Repeats); err == nil {
			run.Repeats = first.Run
		}
	}
	return e.tx.AddRun(run, e.r.ID)
}
