package provision_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/provider/maas/maastest"
	"certlab/internal/sqlite"
)

func TestReserveExtendExpire(t *testing.T) {
	t.Parallel()
	inLab(t, 2, func(l *lab) {
		r := l.reserve("arch=amd64", func(n *cert.NewReservation) { n.Keys = []string{"ssh-ed25519 AAAA ada"} })
		r = l.await(r.ID)
		require.Equal(l, cert.ReservationReady, r.State, "%+v", r.Failure)
		require.Equal(l, "node1", r.Hostname)
		require.Contains(l, r.Connect, "ssh ubuntu@")
		require.Equal(l, cert.MachineReserved, l.machine("node1").State)
		s := l.region.State(l.sid("node1"))
		require.Equal(l, maastest.Deployed, s.Status)
		require.True(l, s.Locked)
		require.Equal(l, []string{"ssh-ed25519 AAAA ada"}, l.script[0].Keys)

		was := *r.Until
		r, err := l.fleet().Extend(l.Context(), r.ID, cert.ExtendReservation{Hours: 1}, "ada", cert.Engineer)
		require.NoError(l, err)
		require.Equal(l, was.Add(time.Hour), *r.Until)
		time.Sleep(time.Until(was.Add(time.Minute)))
		require.Equal(l, cert.MachineReserved, l.machine("node1").State)
		notices, _, err := l.db.Notices(l.Context(), page)
		require.NoError(l, err)
		require.Len(l, notices, 0, "the reminder is for the end that holds now")

		r = l.over(r.ID)
		require.Equal(l, cert.EndedExpired, r.Ending)
		require.NotNil(l, r.Reminded)
		require.NotNil(l, r.Released)
		require.Equal(l, []string{"listed", "reserved", "acquired", "deploying", "deployed", "booted", "enrolled", "ready", "extended", "reminded", "ended", "releasing", "released"},
			withoutNotes(l.kinds("node1")))
		l.clean()
	})
}

func TestARunGetsAMachineAndGivesItBack(t *testing.T) {
	t.Parallel()
	inLab(t, 1, func(l *lab) {
		l.region.ResetCalls()
		r := l.reserve("node1", func(n *cert.NewReservation) {
			n.Spec, n.Hours = &cert.Spec{Plan: "com.canonical.certlab::preflight"}, 0
		})
		r = l.await(r.ID)
		require.Equal(l, cert.ReservationReady, r.State)
		require.Equal(l, cert.MachineReady, l.machine("node1").State)
		run, err := l.db.Run(l.Context(), r.Run)
		require.NoError(l, err)
		require.Equal(l, r.Machine, run.Machine)
		_, err = l.db.UpdateRun(l.Context(), r.Run, nil, func(run *cert.Run) (bool, error) {
			now := l.now()
			run.State, run.Finished = cert.Cancelled, &now
			return true, nil
		})
		require.NoError(l, err)
		r = l.over(r.ID)
		require.Equal(l, cert.EndedReleased, r.Ending)
		d, err := l.db.Deployment(l.Context(), r.Deployment)
		require.NoError(l, err)
		var phases []cert.DeployPhase
		own := 0
		for _, p := range d.Phases {
			phases = append(phases, p.Phase)
			own += p.Calls
		}
		require.Equal(l, []cert.DeployPhase{cert.PhaseAcquire, cert.PhaseDeploy, cert.PhaseBoot, cert.PhaseEnrol, cert.PhaseRelease}, phases)
		require.Equal(l, 4, own, "acquire, deploy, lock and release: %+v %v %v", d.Phases, l.kinds("node1"), l.region.Calls())
		l.clean()
	})
}

var page = sqlite.Page{Limit: 1000}

func withoutNotes(kinds []string) []string {
	var out []string
	for _, k := range kinds {
		if k != "note" && k != "provider" && k != "waiting" {
			out = append(out, k)
		}
	}
	return out
}
