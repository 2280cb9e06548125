package api

import (
	"net/http"
	"time"

	"certlab/internal/cert"
	"certlab/internal/server/route"
	"certlab/internal/sqlite"
)

// EventParams are the filters of the lists of events.
var EventParams = append([]route.Param{
	{Name: "kind", Help: "only of this kind, such as quarantined"},
	{Name: "reservation", Help: "only of this reservation, by its id"},
}, PageParams...)

// ListMachineEvents is GET /api/v1/machines/{machine}/events.
func (a *API) ListMachineEvents(w http.ResponseWriter, r *route.Request) error {
	m, err := a.Store.Machine(r.Context(), r.PathValue("machine"))
	if err != nil {
		return err
	}
	return a.listEvents(w, r, m.ID)
}

// ListEvents is GET /api/v1/events: of all machines.
func (a *API) ListEvents(w http.ResponseWriter, r *route.Request) error {
	return a.listEvents(w, r, "")
}

func (a *API) listEvents(w http.ResponseWriter, r *route.Request, machine string) error {
	events, next, err := a.Store.MachineEvents(r.Context(), sqlite.EventFilter{Machine: machine, Kind: r.Query.Get("kind"), Reservation: r.Query.Get("reservation")}, page(r))
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, cert.MachineEventList{Events: events, Next: next})
}

// IncidentParams are the filters of ListIncidents.
var IncidentParams = append([]route.Param{{Name: "open", Kind: route.Boolean, Help: "true: only those that are open"}}, PageParams...)

// ListIncidents is GET /api/v1/incidents.
func (a *API) ListIncidents(w http.ResponseWriter, r *route.Request) error {
	list, next, err := a.Store.Incidents(r.Context(), r.Query.Get("open") == "true", page(r))
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, cert.IncidentList{Incidents: list, Next: next})
}

// ListNotices is GET /api/v1/notices: what others were told, or could not be.
func (a *API) ListNotices(w http.ResponseWriter, r *route.Request) error {
	list, next, err := a.Store.Notices(r.Context(), page(r))
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, cert.NoticeList{Notices: list, Next: next})
}

// UsageParams say of which period.
var UsageParams = []route.Param{
	{Name: "from", Kind: route.Time, Help: "beginning of the period; a week before its end if not given"},
	{Name: "to", Kind: route.Time, Help: "end of the period; now if not given"},
}

const (
	usagePeriod = 7 * 24 * time.Hour
	maxUsage    = 400 * 24 * time.Hour
)

// GetUsage is GET /api/v1/usage.
func (a *API) GetUsage(w http.ResponseWriter, r *route.Request) error {
	now := a.Now()
	to := timeParam(r, "to", now)
	from := timeParam(r, "from", to.Add(-usagePeriod))
	switch {
	case !from.Before(to):
		return cert.Errorf(cert.Invalid, "cannot account for a period that ends before it begins: from %s to %s", from.Format(time.RFC3339), to.Format(time.RFC3339))
	case to.Sub(from) > maxUsage:
		return cert.Errorf(cert.Invalid, "cannot account for more than %d days at once", int(maxUsage/(24*time.Hour)))
	}
	u, err := a.Store.Usage(r.Context(), from, to, now)
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, u)
}

func timeParam(r *route.Request, name string, otherwise time.Time) time.Time {
	if t, err := time.Parse(time.RFC3339, r.Query.Get(name)); err == nil { // its form was checked
		return t.UTC()
	}
	return otherwise
}

// ListPauses is GET /api/v1/pauses.
func (a *API) ListPauses(w http.ResponseWriter, r *route.Request) error {
	list, err := a.Store.Pauses(r.Context())
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, cert.PauseList{Pauses: list})
}

// Pause is POST /api/v1/pauses.
func (a *API) Pause(w http.ResponseWriter, r *route.Request) error {
	var in cert.NewPause
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	if err := checkScope(in.Scope, in.Name); err != nil {
		return err
	}
	if err := needReason(in.Reason, "pause it"); err != nil {
		return err
	}
	p, err := a.Fleet.Pause(r.Context(), in, r.Caller.Name)
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusCreated, p)
}

// scopes are what can be paused.
var scopes = []string{"lab", "pool", "zone", "rack"}

// PauseParams say what is resumed.
var PauseParams = []route.Param{
	{Name: "scope", Required: true, Enum: scopes, Help: "what was paused"},
	{Name: "name", Help: "of the pool, zone or rack"},
}

// Resume is DELETE /api/v1/pauses.
func (a *API) Resume(w http.ResponseWriter, r *route.Request) error {
	scope, name := r.Query.Get("scope"), r.Query.Get("name")
	if err := checkScope(scope, name); err != nil {
		return err
	}
	if err := a.Fleet.Resume(r.Context(), scope, name, r.Caller.Name); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func checkScope(scope, name string) error {
	switch scope {
	case "lab":
		if name != "" {
			return cert.Errorf(cert.Invalid, "the whole lab has no name: leave it out, or name a pool, zone or rack")
		}
		return nil
	case "pool", "zone", "rack":
		if name == "" || len(name) > 200 {
			return cert.Errorf(cert.Invalid, "name the %s", scope)
		}
		return nil
	}
	return cert.Errorf(cert.Invalid, "there is no scope %q: there are lab, pool, zone and rack", clipText(scope))
}
