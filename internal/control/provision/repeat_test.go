package provision_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// spoil has a run go on, be overlapped by an incident, which is over at once, and end.
func (l *lab) spoil(run, machine, incident string, change func(*cert.Run)) {
	_, err := l.db.UpdateRun(l.Context(), run, nil, func(r *cert.Run) (bool, error) {
		return r.Report(cert.Report{Attempt: 1, Sequence: 1, Origin: cert.FromOrder, State: cert.Running, Started: l.now()}, l.now()), nil
	})
	require.NoError(l, err)
	require.NoError(l, l.db.ChangeFleet(l.Context(), func(tx *sqlite.FleetTx) error { return tx.SuspectRunning(incident, []string{machine}) }))
	id, err := l.fleet().Repeat(l.Context(), run, incident)
	require.NoError(l, err)
	require.Empty(l, id, "it goes on")
	_, err = l.db.UpdateRun(l.Context(), run, nil, func(r *cert.Run) (bool, error) {
		now := l.now()
		r.State, r.Finished, r.Failure, r.Attempts[0].State = cert.Failed, &now, &cert.Failure{Type: "interrupted", Message: "too often"}, cert.Failed
		change(r)
		return true, nil
	})
	require.NoError(l, err)
}

func asIs(*cert.Run) {}

// TestFaultRunIsSpoiltByAnIncident has a run fail that an incident overlaps: it is done again with all that was asked for, once whatever is killed,
// and not more than twice.
func TestFaultRunIsSpoiltByAnIncident(t *testing.T) {
	t.Parallel()
	inLab(t, 2, func(l *lab) {
		asked := l.reserve("node1", func(n *cert.NewReservation) {
			n.Hours, n.Priority, n.Spec, n.Release = 0, -3, &cert.Spec{Plan: "a::b", Environment: map[string]string{"A": "b"}}, "noble"
		})
		r := l.await(asked.ID)
		first := r
		for number := range cert.MaxRepeats {
			incident := cert.NewID(cert.IncidentID, l.now())
			l.spoil(r.Run, r.Machine, incident, asIs)
			_, err := l.fleet().Repeat(l.Context(), r.Run, incident)
			require.Equal(l, cert.Conflict, cert.CodeOf(err), "its reservation is not over: %v", err)
			r = l.over(r.ID)
			id, err := l.fleet().Repeat(l.Context(), r.Run, incident)
			require.NoError(l, err)
			require.Equal(l, cert.RepeatID(r.ID), id)
			l.kill()
			l.start()
			again, err := l.fleet().Repeat(l.Context(), r.Run, incident)
			require.NoError(l, err)
			require.Equal(l, id, again, "once")
			next := l.await(id)
			require.Equal(l, cert.ReservationReady, next.State)
			for _, v := range []cert.Reservation{first, r} {
				require.Equal(l, []any{v.Kind, v.Holder, v.Priority, v.Reason, v.Want, v.Spec}, []any{next.Kind, next.Holder, next.Priority, next.Reason, next.Want, next.Spec})
			}
			require.Equal(l, r.ID, next.Repeats)
			before, err := l.db.Reservation(l.Context(), r.ID)
			require.NoError(l, err)
			require.Equal(l, next.ID, before.RepeatedBy)
			run, err := l.db.Run(l.Context(), next.Run)
			require.NoError(l, err)
			require.Equal(l, r.Run, run.Repeats)
			old, err := l.db.Run(l.Context(), r.Run)
			require.NoError(l, err)
			require.Equal(l, next.Run, old.RepeatedBy)
			events, _, err := l.db.MachineEvents(l.Context(), sqlite.EventFilter{Machine: r.Machine, Kind: "repeated"}, page)
			require.NoError(l, err)
			require.Len(l, events, number+1)
			require.Equal(l, "run "+r.Run+" overlapped incident "+incident+" and failed (interrupted): it is done again by reservation "+id+" ("+string(rune('1'+number))+" of at most 2 times)", events[0].Text)
			r = next
		}
		l.spoil(r.Run, r.Machine, "i-last", asIs)
		r = l.over(r.ID)
		id, err := l.fleet().Repeat(l.Context(), r.Run, "i-last")
		require.NoError(l, err)
		require.Empty(l, id, "often enough")
		l.clean()
	})
}

// TestFaultWhatAPersonEndedIsNotRepeated has incidents overlap runs that a person has ended, that went well, or that are a person's own matter.
func TestFaultWhatAPersonEndedIsNotRepeated(t *testing.T) {
	t.Parallel()
	inLab(t, 2, func(l *lab) {
		never := func(run string) {
			id, err := l.fleet().Repeat(l.Context(), run, "i1")
			require.NoError(l, err)
			require.Empty(l, id)
		}
		plan := func(n *cert.NewReservation) { n.Hours, n.Spec = 0, &cert.Spec{Plan: "a::b"} }
		r := l.await(l.reserve("node1", plan).ID)
		l.spoil(r.Run, r.Machine, "i1", func(run *cert.Run) { run.CancelRequested = true })
		l.over(r.ID)
		never(r.Run)

		r = l.await(l.reserve("node1", plan).ID)
		l.spoil(r.Run, r.Machine, "i1", func(run *cert.Run) { run.State, run.Failure, run.Counts = cert.Completed, nil, cert.Counts{"pass": 3} })
		l.over(r.ID)
		never(r.Run)

		r = l.await(l.reserve("node1", plan).ID)
		l.spoil(r.Run, r.Machine, "i1", asIs)
		_, err := l.fleet().Release(l.Context(), r.ID, cert.ReleaseReservation{Reason: "never mind"}, "ada", cert.Engineer)
		require.NoError(l, err)
		l.over(r.ID)
		never(r.Run)

		r = l.await(l.reserve("node2").ID)
		run := cert.NewID(cert.RunID, l.now())
		require.NoError(l, l.db.AddRun(l.Context(), cert.Run{ID: run, Machine: r.Machine, Origin: cert.FromOrder, RequestedBy: "ada", Spec: cert.Spec{Plan: "a::b"}, State: cert.Queued, Created: l.now()}))
		l.spoil(run, r.Machine, "i1", asIs)
		never(run)
		open, err := l.db.OpenReservations(l.Context())
		require.NoError(l, err)
		require.Len(l, open, 1)
	})
}

// TestFaultOrderForAUnitIsSpoilt has an incident overlap a run on a unit's machine: the order is given again to that machine, and not more than
// twice.
func TestFaultOrderForAUnitIsSpoilt(t *testing.T) {
	t.Parallel()
	inLab(t, 1, func(l *lab) {
		m := cert.Machine{ID: cert.NewID(cert.MachineID, l.now()), Key: "manual:unit0", Origin: cert.OriginManual, Hostname: "unit0", Unit: "checkbox/0", Created: l.now()}
		require.NoError(l, l.db.AddMachine(l.Context(), m))
		run := cert.NewID(cert.RunID, l.now())
		spec := cert.Spec{Plan: "a::b", TimeoutSeconds: 60}
		require.NoError(l, l.db.AddRun(l.Context(), cert.Run{ID: run, Machine: m.ID, Origin: cert.FromOrder, RequestedBy: "ada", Spec: spec, State: cert.Queued, Created: l.now()}))
		for range cert.MaxRepeats {
			l.spoil(run, m.ID, "i1", asIs)
			for range 2 {
				id, err := l.fleet().Repeat(l.Context(), run, "i1")
				require.NoError(l, err)
				require.Equal(l, cert.RepeatID(run), id)
			}
			next, err := l.db.Run(l.Context(), cert.RepeatID(run))
			require.NoError(l, err)
			require.Equal(l, []any{m.ID, cert.FromOrder, "ada", spec, cert.Queued, run}, []any{next.Machine, next.Origin, next.RequestedBy, next.Spec, next.State, next.Repeats})
			orders, _, err := l.db.OpenRuns(l.Context(), m.ID, 10)
			require.NoError(l, err)
			require.Len(l, orders, 1)
			run = next.ID
			time.Sleep(time.Minute)
		}
		l.spoil(run, m.ID, "i1", asIs)
		id, err := l.fleet().Repeat(l.Context(), run, "i1")
		require.NoError(l, err)
		require.Empty(l, id)
	})
}
