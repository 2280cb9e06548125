package cert_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

func TestARepeatHasOneID(t *testing.T) {
	t.Parallel()
	id := cert.NewID(cert.ReservationID, time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC))
	again := cert.RepeatID(id)
	require.True(t, cert.ValidID(cert.ReservationID, again))
	require.Equal(t, again, cert.RepeatID(id))
	require.NotEqual(t, id, again)
	require.NotEqual(t, again, cert.RepeatID(again))
	require.Equal(t, id[:11], again[:11])
}

func TestWhatAnIncidentHasSpoilt(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(*cert.Run)
		want   string
	}{
		{"failed", func(r *cert.Run) { r.State = cert.Failed }, "i1"},
		{"with failures", func(r *cert.Run) { r.Counts = cert.Counts{"pass": 2, "fail": 1} }, "i1"},
		{"with a lost machine", func(r *cert.Run) { r.Counts = cert.Counts{cert.OutcomeLost: 1} }, "i1"},
		{"with a lost machine that no result tells of", func(r *cert.Run) { r.Attempts[0].MachineLost = []cert.LostJob{{}} }, "i1"},
		{"well", func(*cert.Run) {}, ""},
		{"skipped for want of a manifest", func(r *cert.Run) { r.Counts = cert.Counts{"pass": 1, cert.OutcomeNoManifest: 1} }, ""},
		{"going on", func(r *cert.Run) { r.State = cert.Running }, ""},
		{"cancelled", func(r *cert.Run) { r.State = cert.Cancelled }, ""},
		{"failed after it was to be cancelled", func(r *cert.Run) { r.State, r.CancelRequested = cert.Failed, true }, ""},
		{"by hand", func(r *cert.Run) { r.State, r.Origin = cert.Failed, cert.FromInteractive }, ""},
		{"no incident", func(r *cert.Run) { r.State, r.Attempts[0].Suspect = cert.Failed, "" }, ""},
		{"tried again since", func(r *cert.Run) {
			r.State, r.Attempts = cert.Failed, append(r.Attempts, cert.Attempt{Number: 2})
		}, ""},
	} {
		r := cert.Run{Origin: cert.FromOrder, State: cert.Completed, Counts: cert.Counts{"pass": 3}, Attempts: []cert.Attempt{{Number: 1, Suspect: "i1"}}}
		test.change(&r)
		require.Equal(t, test.want, r.Spoilt(), test.name)
	}
}
