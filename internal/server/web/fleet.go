package web

import (
	"cmp"
	"context"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"certlab/internal/cert"
	"certlab/internal/server/route"
	"certlab/internal/sqlite"
)

// Fleet is what the pages need of the engine that takes machines from the provider.
type Fleet interface {
	Machines(ctx context.Context) ([]cert.FleetMachine, error)
	Machine(ctx context.Context, name string) (cert.MachineDetail, error)
	Reservation(ctx context.Context, id string) (cert.Reservation, error)
	Summary(ctx context.Context) (cert.FleetSummary, error)
}

// FleetStore is what they need of the database about it.
type FleetStore interface {
	Reservations(context.Context, sqlite.ReservationFilter, sqlite.Page) ([]cert.Reservation, string, error)
	MachineEvents(context.Context, sqlite.EventFilter, sqlite.Page) ([]cert.MachineEvent, string, error)
	Dossier(ctx context.Context, machine string) (cert.Dossier, error)
}

// MachineParams are the parameters of the page of machines.
var MachineParams = append([]route.Param{
	{Name: "query", Help: "only machines that match this query"},
	{Name: "state", Enum: cert.MachineStates, Help: "only machines in this state"},
}, PageParams...)

// Machines is GET /machines.
func (p *Web) Machines(w http.ResponseWriter, r *route.Request) error {
	all, err := p.Fleet.Machines(r.Context())
	if err != nil {
		return err
	}
	data := struct {
		Machines       []cert.FleetMachine
		Query, Problem string
		Explanation    string
		State          string
		States         []string
	}{Query: r.Query.Get("query"), State: r.Query.Get("state"), States: cert.MachineStates}
	var query cert.Query
	if data.Query != "" {
		if query, err = cert.ParseQuery(data.Query); err != nil {
			data.Problem = err.Error()
		} else {
			data.Explanation = query.Explain(all).Text
		}
	}
	after, err := base64.RawURLEncoding.DecodeString(r.Query.Get("cursor"))
	if err != nil {
		return cert.Errorf(cert.Invalid, "cannot continue the list: the cursor is not one that this list gave")
	}
	next := ""
	for _, m := range byName(all) {
		if nameKey(m) <= string(after) || data.Problem != "" || query.Match(&m) != "" || data.State != "" && data.State != string(m.State) {
			continue
		}
		if len(data.Machines) == rows {
			next = base64.RawURLEncoding.EncodeToString([]byte(nameKey(data.Machines[rows-1])))
			break
		}
		data.Machines = append(data.Machines, m)
	}
	return p.render(w, r, http.StatusOK, "machines", view{Title: "Machines", Here: "machines", Next: more(r, next), Data: data})
}

func nameKey(m cert.FleetMachine) string { return strings.ToLower(m.Hostname) + "\x00" + m.ID }

func byName(all []cert.FleetMachine) []cert.FleetMachine {
	return slices.SortedFunc(slices.Values(all), func(a, b cert.FleetMachine) int { return cmp.Compare(nameKey(a), nameKey(b)) })
}

// Machine is GET /machines/{machine}.
func (p *Web) Machine(w http.ResponseWriter, r *route.Request) error {
	m, err := p.Fleet.Machine(r.Context(), r.PathValue("machine"))
	if err != nil {
		return err
	}
	p.Clocks.Observe(&m.Machine, p.Lab.Refusals())
	dossier, err := p.Store.Dossier(r.Context(), m.ID)
	if err != nil {
		return err
	}
	m.Dossier = &dossier
	runs, next, err := p.Store.Runs(r.Context(), sqlite.RunFilter{Machine: m.ID}, page(r))
	if err != nil {
		return err
	}
	return p.render(w, r, http.StatusOK, "machine", view{Title: m.Hostname, Here: "machines", Next: more(r, next), Data: struct {
		cert.MachineDetail
		Runs []cert.Run
	}{m, runs}})
}

// ReservationParams are the parameters of the page of reservations.
var ReservationParams = append([]route.Param{
	{Name: "state", Enum: reservationStates, Help: "only in this state; all that are not over if not given"},
	{Name: "holder", Help: "only of this person; me: of whoever asks"},
}, PageParams...)

var reservationStates = []string{"open", "queued", "preparing", "ready", "releasing", "ended"}

// Reservations is GET /reservations.
func (p *Web) Reservations(w http.ResponseWriter, r *route.Request) error {
	state, holder := cmp.Or(r.Query.Get("state"), "open"), r.Query.Get("holder")
	who := holder
	if who == "me" {
		who = r.Caller.Name
	}
	list, next, err := p.Store.Reservations(r.Context(), sqlite.ReservationFilter{State: state, Holder: who}, page(r))
	if err != nil {
		return err
	}
	return p.render(w, r, http.StatusOK, "reservations", view{Title: "Reservations", Here: "reservations", Next: more(r, next), Data: struct {
		Reservations []cert.Reservation
		State        string
		States       []string
		Mine         bool
	}{list, state, reservationStates, holder == "me"}})
}

// Reservation is GET /reservations/{reservation}.
func (p *Web) Reservation(w http.ResponseWriter, r *route.Request) error {
	v, err := p.Fleet.Reservation(r.Context(), r.PathValue("reservation"))
	if err != nil {
		return err
	}
	events, _, err := p.Store.MachineEvents(r.Context(), sqlite.EventFilter{Reservation: v.ID}, sqlite.Page{Limit: rows})
	if err != nil {
		return err
	}
	going := v.State == cert.ReservationQueued || v.State == cert.ReservationPreparing
	title := "Reservation of " + cmp.Or(v.Hostname, v.Want.Query)
	return p.render(w, r, http.StatusOK, "reservation", view{Title: title, Here: "reservations", Refresh: going, Data: struct {
		cert.Reservation
		Events []cert.MachineEvent
		Going  bool
	}{v, events, going}})
}

// hardware is a machine's size in a few words.
func hardware(m cert.FleetMachine) string {
	return strings.TrimSpace(strings.Join(m.Size(), ", ") + " " + m.Vendor + " " + m.Product)
}

// note is what somebody who looks for a machine has to know first.
func note(m cert.FleetMachine) string {
	switch {
	case m.NeedsHands != "":
		return "needs hands: " + m.NeedsHands
	case m.Quarantine != nil:
		return "quarantined: " + m.Quarantine.Reason
	case m.Incident != "":
		return "part of incident " + m.Incident
	case m.Paused != nil:
		return "paused: " + m.Paused.Reason
	}
	return cmp.Or(m.Why, m.Problem, m.Reason)
}
