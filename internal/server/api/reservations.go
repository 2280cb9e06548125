package api

import (
	"net/http"
	"time"

	"certlab/internal/cert"
	"certlab/internal/server/route"
	"certlab/internal/sqlite"
)

// reservationStates are the states that ListReservations selects by.
var reservationStates = []string{"open", string(cert.ReservationQueued), string(cert.ReservationPreparing), string(cert.ReservationReady),
	string(cert.ReservationReleasing), string(cert.ReservationEnded)}

// ReservationParams are the filters of ListReservations.
var ReservationParams = append([]route.Param{
	{Name: "state", Enum: reservationStates, Help: "only in this state; open: all that are not over"},
	{Name: "kind", Enum: []string{string(cert.ReserveManual), string(cert.ReserveRun), string(cert.ReserveCheck)}, Help: "only of this kind"},
	{Name: "holder", Help: "only of this person, by the name of their token; me: of whoever asks"},
	{Name: "machine", Help: "only of this machine: id, system_id or hostname"},
}, PageParams...)

// WaitParams let an answer wait for a machine.
var WaitParams = []route.Param{{Name: "wait", Kind: route.Integer, Max: 3600, Help: "seconds to wait until the machine is ready, or cannot be had; at most 55 are waited"}}

// ListReservations is GET /api/v1/reservations, the newest first. Estimates and how to connect are in the answers about one of them.
func (a *API) ListReservations(w http.ResponseWriter, r *route.Request) error {
	machine, err := a.machineParam(r)
	if err != nil {
		return err
	}
	holder := r.Query.Get("holder")
	if holder == "me" {
		holder = r.Caller.Name
	}
	list, next, err := a.Store.Reservations(r.Context(), sqlite.ReservationFilter{State: r.Query.Get("state"), Kind: r.Query.Get("kind"), Holder: holder, Machine: machine}, page(r))
	if err != nil {
		return err
	}
	for n := range list {
		a.linkReservation(&list[n])
	}
	return route.JSON(w, http.StatusOK, cert.ReservationList{Reservations: list, Next: next})
}

func (a *API) linkReservation(v *cert.Reservation) {
	if v != nil {
		v.URL = a.url("reservations", v.ID)
	}
}

func (a *API) answerReservation(w http.ResponseWriter, status int, v cert.Reservation, err error) error {
	if err != nil {
		return err
	}
	a.linkReservation(&v)
	return route.JSON(w, status, v)
}

// patienceOf is how long a request may wait.
func patienceOf(r *route.Request) time.Duration {
	return time.Duration(min(r.Int("wait", 0), MaxWait)) * time.Second
}

// GetReservation is GET /api/v1/reservations/{reservation}.
func (a *API) GetReservation(w http.ResponseWriter, r *route.Request) error {
	v, err := a.Fleet.Reservation(r.Context(), r.PathValue("reservation"))
	if wait := patienceOf(r); err == nil && wait > 0 {
		v, err = a.Fleet.Await(r.Context(), v.ID, wait)
	}
	return a.answerReservation(w, http.StatusOK, v, err)
}

// Reserve is POST /api/v1/reservations. With an id of the caller's choosing it can be repeated safely.
func (a *API) Reserve(w http.ResponseWriter, r *route.Request) error {
	var in cert.NewReservation
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	if in.ID != "" && !cert.ValidID(cert.ReservationID, in.ID) {
		return cert.Errorf(cert.Invalid, "cannot use reservation id %q: it must be a v and 26 lower-case letters or digits (or leave it out)", clipText(in.ID))
	}
	if _, err := cert.ParseQuery(in.Query); err != nil {
		return err
	}
	if len(in.Resolved) > 0 {
		return cert.Errorf(cert.Invalid, "cannot reserve: resolved is what the controller makes of keys (put the keys themselves into keys)")
	}
	if in.Spec == nil || in.Reason != "" {
		if err := needReason(in.Reason, "reserve a machine"); err != nil {
			return err
		}
	}
	if in.Spec != nil {
		if err := in.Spec.Validate(); err != nil {
			return err
		}
		if err := a.Lab.RoomForRuns(); err != nil {
			return err
		}
	}
	v, err := a.Fleet.Reserve(r.Context(), in, r.Caller.Name, r.Caller.Role)
	if wait := patienceOf(r); err == nil && wait > 0 && !v.Final() {
		v, err = a.Fleet.Await(r.Context(), v.ID, wait)
	}
	return a.answerReservation(w, http.StatusCreated, v, err)
}

// reservationID is the id of the reservation that the path names, by its id or by the machine that it has.
func (a *API) reservationID(r *route.Request) (string, error) {
	name := r.PathValue("reservation")
	if cert.ValidID(cert.ReservationID, name) {
		return name, nil
	}
	v, err := a.Fleet.Reservation(r.Context(), name)
	return v.ID, err
}

// ExtendReservation is POST /api/v1/reservations/{reservation}/extend.
func (a *API) ExtendReservation(w http.ResponseWriter, r *route.Request) error {
	var in cert.ExtendReservation
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	if (in.Hours == 0) == (in.Until == nil) {
		return cert.Errorf(cert.Invalid, "cannot extend the reservation: give either hours, on top of what it has, or until")
	}
	id, err := a.reservationID(r)
	if err != nil {
		return err
	}
	v, err := a.Fleet.Extend(r.Context(), id, in, r.Caller.Name, r.Caller.Role)
	return a.answerReservation(w, http.StatusOK, v, err)
}

// ReleaseReservation is POST /api/v1/reservations/{reservation}/release.
func (a *API) ReleaseReservation(w http.ResponseWriter, r *route.Request) error {
	return a.endReservation(w, r, func(id string, in cert.ReleaseReservation) (cert.Reservation, error) {
		return a.Fleet.Release(r.Context(), id, in, r.Caller.Name, r.Caller.Role)
	})
}

// CancelReservation is POST /api/v1/reservations/{reservation}/cancel.
func (a *API) CancelReservation(w http.ResponseWriter, r *route.Request) error {
	return a.endReservation(w, r, func(id string, in cert.ReleaseReservation) (cert.Reservation, error) {
		return a.Fleet.Cancel(r.Context(), id, in, r.Caller.Name, r.Caller.Role)
	})
}

func (a *API) endReservation(w http.ResponseWriter, r *route.Request, end func(string, cert.ReleaseReservation) (cert.Reservation, error)) error {
	var in cert.ReleaseReservation
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	if in.Reason != "" {
		if err := needReason(in.Reason, "end the reservation"); err != nil {
			return err
		}
	}
	if in.Keep < 0 || in.Keep > maxKeep {
		return cert.Errorf(cert.Invalid, "cannot keep the machine for %g hours: give 0 to %d", in.Keep, maxKeep)
	}
	id, err := a.reservationID(r)
	if cert.CodeOf(err) == cert.NotFound {
		id, err = r.PathValue("reservation"), nil // it may be the name of a machine that this lab holds for nobody
	}
	if err != nil {
		return err
	}
	v, err := end(id, in)
	return a.answerReservation(w, http.StatusOK, v, err)
}

// maxKeep bounds for how long a machine may be kept for a person, in hours.
const maxKeep = 72
