package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/server/route"
)

// A keeper is an engine that holds node1 for nobody.
type keeper struct {
	Fleet
	released string
	asked    int
}

func (k *keeper) Reservation(_ context.Context, name string) (cert.Reservation, error) {
	return cert.Reservation{}, cert.Errorf(cert.NotFound, "machine %s has no reservation", name)
}

func (k *keeper) Release(_ context.Context, id string, _ cert.ReleaseReservation, _ string, _ cert.Role) (cert.Reservation, error) {
	k.released = id
	return cert.Reservation{ID: "v1", State: cert.ReservationReleasing}, nil
}

func (k *keeper) ReturnToService(context.Context, string, cert.ReturnMachine, string) (cert.MachineDetail, error) {
	k.asked++
	return cert.MachineDetail{}, cert.Errorf(cert.Conflict, "not now")
}

func post(t *testing.T, name, value, body string) (*httptest.ResponseRecorder, *route.Request) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.SetPathValue(name, value)
	return httptest.NewRecorder(), &route.Request{Request: r, Caller: route.Caller{Name: "ada", Role: cert.Engineer}}
}

// A machine that this lab holds for nobody has no reservation: it is released by its own name.
func TestFaultReleaseOfAMachineThatNobodyHas(t *testing.T) {
	t.Parallel()
	k := &keeper{}
	a := &API{Fleet: k, Lab: &door{}}
	w, r := post(t, "reservation", "node1", "{}")
	require.NoError(t, a.ReleaseReservation(w, r))
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "node1", k.released)
}

// Reasons go into logs, to terminals and to others' chats.
func TestFaultReasonsThatAreNoLine(t *testing.T) {
	t.Parallel()
	k := &keeper{}
	a := &API{Fleet: k, Lab: &door{}}
	for _, reason := range []string{`two\nlines`, `an escape \u001b[2J`, `a bell \u0007`, strings.Repeat("long ", 200)} {
		for _, force := range []string{"true", "false"} {
			w, r := post(t, "machine", "node1", `{"force": `+force+`, "reason": "`+reason+`"}`)
			require.EqualError(t, a.ReturnMachine(w, r), "cannot return a machine to service: the reason must be one line of at most 500 bytes")
		}
	}
	require.Zero(t, k.asked)
	w, r := post(t, "machine", "node1", `{"reason": "a new board"}`)
	require.EqualError(t, a.ReturnMachine(w, r), "not now")
}
