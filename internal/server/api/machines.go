package api

import (
	"net/http"
	"regexp"
	"strings"

	"certlab/internal/cert"
	"certlab/internal/server/route"
)

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
