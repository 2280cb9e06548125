package trust_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// Repeat is the engine's, as Trust sees it.
func (b *bench) Repeat(ctx context.Context, run, incident string) (string, error) {
	r, reserved, err := b.db.RunReservation(ctx, run)
	if err != nil {
		return "", err
	}
	if !reserved {
		b.calls = append(b.calls, "repeat run "+run+" "+incident)
		return cert.RepeatID(run), nil
	}
	b.calls = append(b.calls, "repeat "+r.ID+" "+incident)
	next := r
	next.ID, next.Run, next.State, next.Ending, next.Released, next.Repeats = cert.RepeatID(r.ID), cert.RepeatID(r.Run), cert.ReservationReady, "", nil, r.ID
	if err := b.db.ChangeFleet(ctx, func(tx *sqlite.FleetTx) error {
		if _, err := tx.Reservation(next.ID); err == nil {
			return nil
		}
		return tx.AddReservation(next)
	}); err != nil {
		return "", err
	}
	return next.ID, nil
}

// begun adds a run that goes on on a machine.
func (b *bench) begun(machine, id string) string {
	if id == "" {
		id = cert.NewID(cert.RunID, b.now)
	}
	require.NoError(b.t, b.db.AddRun(b.ctx(), cert.Run{ID: id, Machine: machine, Origin: cert.FromOrder, RequestedBy: "ada", Spec: cert.Spec{Plan: "a::b"}, State: cert.Queued, Created: b.now}))
	b.reported(id)
	return id
}

func (b *bench) reported(id string) {
	_, err := b.db.UpdateRun(b.ctx(), id, nil, func(r *cert.Run) (bool, error) {
		return r.Report(cert.Report{Attempt: 1, Sequence: 1, Origin: cert.FromOrder, State: cert.Running}, b.now), nil
	})
	require.NoError(b.t, err)
}

func (b *bench) ended(id string, state cert.State, counts cert.Counts) {
	_, err := b.db.UpdateRun(b.ctx(), id, nil, func(r *cert.Run) (bool, error) {
		now := b.now
		r.State, r.Finished, r.Counts, r.Attempts[0].State = state, &now, counts, state
		return true, nil
	})
	require.NoError(b.t, err)
}

// TestFaultRunsThatAnIncidentHasSpoiltAreRepeated has an incident overlap runs: those that did not go well are done again once it is closed, each
// once, also where the service is killed, and also one that began or ended later.
func TestFaultRunsThatAnIncidentHasSpoiltAreRepeated(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	z1, z2 := b.add("z1", names("a", 12)...), b.add("z2", names("b", 6)...)
	for _, m := range z2 {
		b.deploy(m, "")
	}
	failed, well, bad, elsewhere, later := b.begun(z1[6], ""), b.begun(z1[7], ""), b.begun(z1[8], ""), b.begun(z2[0], ""), b.begun(z1[9], "")
	reserved := cert.Reservation{ID: cert.NewID(cert.ReservationID, b.now), Kind: cert.ReserveRun, State: cert.ReservationEnded, Holder: "ada", Machine: z1[11], Created: b.now,
		Run: b.begun(z1[11], "")}
	require.NoError(t, b.db.ChangeFleet(b.ctx(), func(tx *sqlite.FleetTx) error { return tx.AddReservation(reserved) }))
	incident := ""
	for _, m := range z1[:5] {
		incident = b.deploy(m, cert.FailBoot)
	}
	require.NotEmpty(t, incident)
	began := b.begun(z1[10], "")
	b.pass(2 * time.Minute)
	b.ended(failed, cert.Failed, nil)
	b.ended(well, cert.Completed, cert.Counts{"pass": 3})
	b.ended(bad, cert.Completed, cert.Counts{"pass": 3, "fail": 1})
	b.ended(elsewhere, cert.Failed, nil)
	b.ended(began, cert.Failed, nil)
	b.ended(reserved.Run, cert.Failed, nil)
	b.pass(2 * time.Minute)
	require.Empty(t, b.calls, "while it is open nothing is repeated")
	done, err := b.trust.Resumed(b.ctx(), "zone", "z1", "ada")
	require.NoError(t, err)
	require.True(t, done)
	require.NotNil(t, b.incidents()[0].Closed)
	b.pass(time.Minute)
	require.Equal(t, []string{"repeat run " + failed + " " + incident, "repeat run " + bad + " " + incident, "repeat " + reserved.ID + " " + incident,
		"repeat run " + began + " " + incident}, b.calls)
	b.pass(time.Hour)
	require.Len(t, b.calls, 4, "each once")
	b.ended(later, cert.Failed, nil)
	b.pass(time.Minute)
	require.Equal(t, "repeat run "+later+" "+incident, b.calls[4], "it ended after the incident")
	b.calls = nil
	b.kill()
	b.pass(time.Minute)
	require.Len(t, b.calls, 5, "they are asked for again: each has one id")
	b.kill()
	b.calls = nil
	b.now = b.now.Add(8 * 24 * time.Hour)
	b.pass(time.Minute)
	require.Empty(t, b.calls, "nobody waits for them any more")
}

// TestFaultCheckThatAnIncidentHasSpoiltIsRepeated has an incident overlap the check that a person has asked for to return a machine: it is done
// again when that is closed, and its machine returned then.
func TestFaultCheckThatAnIncidentHasSpoiltIsRepeated(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	z1, z2 := b.add("z1", names("a", 8)...), b.add("z2", names("b", 6)...)
	for _, m := range z2 {
		b.deploy(m, "")
	}
	require.NoError(t, b.QuarantineAs(b.ctx(), z1[7], cert.Quarantine{By: "ada", Reason: "smoke"}))
	b.calls = nil
	r, err := b.trust.CheckToReturn(b.ctx(), z1[7], "ada")
	require.NoError(t, err)
	b.begun(z1[7], r.Run)
	incident := ""
	for _, m := range z1[:5] {
		incident = b.deploy(m, cert.FailBoot)
	}
	require.NotEmpty(t, incident)
	b.ended(r.Run, cert.Failed, nil)
	delete(b.busy, z1[7])
	r.State, r.Ending, r.Released = cert.ReservationEnded, cert.EndedReleased, &b.now
	require.NoError(t, b.db.ChangeFleet(b.ctx(), func(tx *sqlite.FleetTx) error { return tx.PutReservation(r) }))
	b.pass(3 * time.Minute)
	require.Equal(t, []string{"check a8"}, b.calls, "it says nothing, and waits")
	b.kill()
	done, err := b.trust.Resumed(b.ctx(), "zone", "z1", "ada")
	require.NoError(t, err)
	require.True(t, done)
	b.pass(time.Minute)
	require.Equal(t, []string{"check a8", "repeat " + r.ID + " " + incident}, b.calls)
	b.checked(cert.Counts{"pass": 3}, "")
	b.pass(time.Minute)
	require.Equal(t, "return a8", b.calls[len(b.calls)-1])
	require.Nil(t, b.row(z1[7]).Quarantine)
}
