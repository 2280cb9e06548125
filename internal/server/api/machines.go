package api

import (
	"net/http"
	"regexp"
	"strings"

	"certlab/internal/cert"
	"certlab/internal/server/route"
	"certlab/internal/sqlite"
)

// MachineParams are the filters of ListMachines.
var MachineParams = append([]route.Param{
	{Name: "hostname", Help: "only machines with this hostname"},
	{Name: "architecture", Help: "only machines of this architecture, such as arm64"},
	{Name: "origin", Enum: []string{cert.OriginJuju, cert.OriginManual}, Help: "only machines that came this way"},
	{Name: "enrolled", Kind: route.Boolean, Help: "only machines that have, or do not have, a unit now"},
}, PageParams...)

// ListMachines is GET /api/v1/machines.
func (a *API) ListMachines(w http.ResponseWriter, r *route.Request) error {
	f := sqlite.MachineFilter{Hostname: r.Query.Get("hostname"), Architecture: r.Query.Get("architecture"), Origin: r.Query.Get("origin")}
	if v := r.Query.Get("enrolled"); v != "" {
		enrolled := v == "true"
		f.Enrolled = &enrolled
	}
	machines, next, err := a.Store.Machines(r.Context(), f, page(r))
	if err != nil {
		return err
	}
	refusals := a.Lab.Refusals()
	for n := range machines {
		a.Clocks.Observe(&machines[n], refusals)
	}
	return route.JSON(w, http.StatusOK, cert.MachineList{Machines: machines, Next: next})
}

// GetMachine is GET /api/v1/machines/{machine}.
func (a *API) GetMachine(w http.ResponseWriter, r *route.Request) error {
	m, err := a.Store.Machine(r.Context(), r.PathValue("machine"))
	if err != nil {
		return err
	}
	a.Clocks.Observe(&m, a.Lab.Refusals())
	return route.JSON(w, http.StatusOK, m)
}

var (
	hostPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
	archPattern = regexp.MustCompile(`^[a-z0-9]{0,20}$`)
)

// AddMachine is POST /api/v1/machines: a machine whose submissions are made by hand.
func (a *API) AddMachine(w http.ResponseWriter, r *route.Request) error {
	var in cert.NewMachine
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	if !hostPattern.MatchString(in.Hostname) {
		return cert.Errorf(cert.Invalid, "cannot add machine %q: not a hostname", in.Hostname)
	}
	if !archPattern.MatchString(in.Architecture) {
		return cert.Errorf(cert.Invalid, "cannot add machine %q: %q is not an architecture (such as amd64)", in.Hostname, in.Architecture)
	}
	now := a.Now()
	m := cert.Machine{ID: cert.NewID(cert.MachineID, now), Key: "manual:" + strings.ToLower(in.Hostname), Origin: cert.OriginManual,
		Hostname: in.Hostname, Architecture: in.Architecture, Created: now}
	if err := a.Store.AddMachine(r.Context(), m); err != nil {
		return err
	}
	return route.JSON(w, http.StatusCreated, m)
}
