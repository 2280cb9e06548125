package provision

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

func agentSaid(machine string, at time.Time, key string, s order.Status) sqlite.AgentSaid {
	return sqlite.AgentSaid{Machine: machine, At: at, Key: key, Status: s}
}

const (
	diagnosisEvents = 15
	diagnosisLog    = 4000 // bytes of the end of the installation's log
	diagnosisTime   = time.Minute
)

// fail notes why a deployment failed. What follows from it is decided by judge.
func (a *at) fail(ctx context.Context, kind, message string) (bool, error) {
	diagnosis := ""
	if kind != cert.FailVanished && kind != cert.FailImage && kind != cert.FailAcquire {
		diagnosis = a.diagnose(ctx)
	}
	calls := a.f.counted(a.d.ID)
	return true, a.f.advance(ctx, a.d, func(e *edit) error {
		e.d.Failure, e.d.Diagnosis = &cert.Failure{Type: kind, Message: fmt.Sprintf("%s: %s", e.m.Machine.Hostname, message)}, diagnosis
		e.phase(cert.PhaseRelease, stepJudge, 0, calls)
		e.log("failed", "certlab", fmt.Sprintf("failed (%s): %s", kind, message))
		return nil
	})
}

// diagnose collects what the provider knows of a failure. What cannot be had is left out.
func (a *at) diagnose(ctx context.Context) string {
	if a.f.away() {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, diagnosisTime)
	defer cancel()
	var out strings.Builder
	if a.p.StatusMessage != "" {
		fmt.Fprintf(&out, "%s: %s\n", a.p.StatusName, a.p.StatusMessage)
	}
	if events, err := a.provider.Events(ctx, a.id, diagnosisEvents); err == nil {
		for _, e := range events {
			fmt.Fprintf(&out, "%s %s %s %s\n", e.At.UTC().Format(time.DateTime), e.Level, e.Type, e.Text)
		}
	}
	if log, err := a.provider.InstallLog(ctx, a.id); err == nil && len(log) > 0 {
		if len(log) > diagnosisLog {
			log = log[len(log)-diagnosisLog:]
		}
		fmt.Fprintf(&out, "end of the installation's log:\n%s\n", strings.ToValidUTF8(string(log), "\uFFFD"))
	}
	return out.String()
}

// judge asks whether the failure is the machine's, and gives its reservation another machine or an end.
func (a *at) judge(ctx context.Context) (bool, error) {
	incident := a.d.Suspect
	if a.f.Observer != nil && incident == "" {
		incident = a.f.Observer.Over(ctx, a.d, a.place(ctx))
	}
	_, _, limits := a.f.settings()
	err := a.f.advance(ctx, a.d, func(e *edit) error {
		e.d.Suspect = first(e.d.Suspect, incident)
		gone := e.d.Failure.Type == cert.FailVanished
		if e.d.Suspect == "" && !gone && e.d.Failure.Type != cert.FailImage && e.d.Failure.Type != cert.FailProvider {
			e.m.Failures++
		}
		step := stepDrain
		if e.r.Deployment != e.d.ID || e.r.Final() {
			e.step(step, 0)
			return nil
		}
		switch {
		case e.r.State == cert.ReservationReady:
			e.r.State, e.r.Ended, e.r.Ending, e.r.EndedBy, e.r.Failure = cert.ReservationReleasing, &e.now, cert.EndedLost, "certlab", e.d.Failure
			if err := e.tx.Notice(a.f.notice(cert.NoticeEnded, e, fmt.Sprintf("the reservation of %s is over: %s", e.r.Holder, e.d.Failure.Message))); err != nil {
				return err
			}
		case e.r.State == cert.ReservationReleasing:
			// It was cancelled meanwhile.
		case e.r.Want.KeepOnFailureHours > 0 && kept(e.d.Failure.Type) && e.d.Suspect == "":
			until := e.now.Add(hoursOf(e.r.Want.KeepOnFailureHours))
			e.r.State, e.r.Ended, e.r.Ending, e.r.Failure, e.r.KeepUntil = cert.ReservationReleasing, &e.now, cert.EndedFailed, e.d.Failure, &until
			e.r.Blocked = fmt.Sprintf("%s is kept until %s, as asked for (keep-on-failure); to give it back before: certlab machine release %s", e.m.Machine.Hostname,
				until.UTC().Format(time.RFC3339), e.r.ID)
			e.log("kept", "certlab", e.r.Blocked)
			step = stepKeep
		case e.d.Failure.Type != cert.FailImage && (e.d.Suspect != "" || e.r.Tries < a.f.maxTries(e.r, limits)):
			e.r.State, e.r.Machine, e.r.Hostname, e.r.Blocked = cert.ReservationQueued, "", "", ""
			e.r.Failure = e.d.Failure
			if e.d.Suspect != "" {
				e.r.Tries = max(e.r.Tries-1, 0)
			} else if !slices.Contains(e.r.Avoid, e.m.Machine.ID) {
				e.r.Avoid = append(e.r.Avoid, e.m.Machine.ID)
			}
			e.log("again", "certlab", fmt.Sprintf("try %d of %d failed; another machine is looked for", e.d.Number, a.f.maxTries(e.r, limits)))
		default:
			e.r.State, e.r.Ended, e.r.Ending, e.r.EndedBy, e.r.Failure = cert.ReservationReleasing, &e.now, cert.EndedFailed, "certlab", e.d.Failure
			if err := e.tx.Notice(a.f.notice(cert.NoticeEnded, e, fmt.Sprintf("no machine could be made ready for %s after %d tries: %s", e.r.Holder, e.r.Tries, e.d.Failure.Message))); err != nil {
				return err
			}
		}
		e.step(step, 0)
		return nil
	})
	a.f.Wake()
	return true, err
}

// kept reports whether there is something to see on a machine that failed so.
func kept(kind string) bool {
	switch kind {
	case cert.FailVanished, cert.FailImage, cert.FailAcquire, cert.FailProvider:
		return false
	}
	return true
}

// maxTries is how many deployments a reservation may have.
func (f *Fleet) maxTries(r cert.Reservation, l order.FleetLimits) int {
	if r.Want.MaxTries > 0 {
		return min(r.Want.MaxTries, max(l.MaxTries, 1))
	}
	return l.MaxTries
}

// isKept reports whether a machine is left as it failed, for its holder.
func isKept(d *cert.Deployment, r *cert.Reservation) bool {
	return d.Phase == cert.PhaseRelease && d.Step == stepKeep && r.KeepUntil != nil
}

// keep leaves a failed machine to its holder for a while.
func (a *at) keep(ctx context.Context) (bool, error) {
	if a.r.KeepUntil != nil && a.f.Now().Before(*a.r.KeepUntil) && a.m.Gone == nil {
		a.f.putOff(a.d.ID, a.f.Poll)
		return false, nil
	}
	return true, a.f.advance(ctx, a.d, func(e *edit) error {
		e.r.Blocked = ""
		e.step(stepDrain, 0)
		return nil
	})
}

func hoursOf(h float64) time.Duration { return time.Duration(h * float64(time.Hour)) }
