package api

import (
	"net/http"

	"certlab/internal/cert"
	"certlab/internal/server/route"
	"certlab/internal/sqlite"
)

// RunParams are the filters of ListRuns.
var RunParams = append([]route.Param{
	{Name: "machine", Help: "only runs on this machine: id, system_id or hostname"},
	{Name: "state", Enum: cert.States, Help: "only runs in this state"},
	{Name: "origin", Enum: []string{cert.FromOrder, cert.FromAction, cert.FromInteractive, cert.FromUpload}, Help: "only runs that came about this way"},
	{Name: "plan", Help: "only runs of this plan, by its full id"},
}, PageParams...)

// ListRuns is GET /api/v1/runs.
func (a *API) ListRuns(w http.ResponseWriter, r *route.Request) error {
	machine, err := a.machineParam(r)
	if err != nil {
		return err
	}
	runs, next, err := a.Store.Runs(r.Context(), sqlite.RunFilter{Machine: machine, State: r.Query.Get("state"), Origin: r.Query.Get("origin"),
		Plan: r.Query.Get("plan")}, page(r))
	if err != nil {
		return err
	}
	for n := range runs {
		a.linkRun(&runs[n])
	}
	return route.JSON(w, http.StatusOK, cert.RunList{Runs: runs, Next: next})
}

// machineParam returns the id of the machine that the parameter names; empty if it names none.
func (a *API) machineParam(r *route.Request) (string, error) {
	name := r.Query.Get("machine")
	if name == "" {
		return "", nil
	}
	m, err := a.Store.Machine(r.Context(), name)
	return m.ID, err
}

func (a *API) linkRun(run *cert.Run) { run.URL = a.url("runs", run.ID) }

// GetRun is GET /api/v1/runs/{run}.
func (a *API) GetRun(w http.ResponseWriter, r *route.Request) error {
	run, err := a.Store.Run(r.Context(), r.PathValue("run"))
	if err != nil {
		return err
	}
	a.linkRun(&run)
	return route.JSON(w, http.StatusOK, run)
}

// maxQueued bounds how many runs wait for a machine.
const maxQueued = 200

// CreateRun is POST /api/v1/runs: an order for a machine. With an id of the caller's choosing it can be repeated safely.
func (a *API) CreateRun(w http.ResponseWriter, r *route.Request) error {
	var in cert.NewRun
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	if err := in.Spec.Validate(); err != nil {
		return err
	}
	if in.ID != "" && !cert.ValidID(cert.RunID, in.ID) {
		return cert.Errorf(cert.Invalid, "cannot use run id %q: it must be an r and 26 lower-case letters or digits (or leave it out)", in.ID)
	}
	if in.Machine == "" {
		return cert.Errorf(cert.Invalid, "cannot start a run: machine is missing (its id, system_id or hostname)")
	}
	m, err := a.Store.Machine(r.Context(), in.Machine)
	if err != nil {
		return err
	}
	if err := a.Fleet.MayRun(r.Context(), m.ID, r.Caller.Name, r.Caller.Role); err != nil {
		return err
	}
	if err := a.Lab.RoomForRuns(); err != nil {
		return err
	}
	queued, _, err := a.Store.Runs(r.Context(), sqlite.RunFilter{Machine: m.ID, State: string(cert.Queued)}, sqlite.Page{Limit: maxQueued})
	if err != nil {
		return err
	}
	if len(queued) == maxQueued {
		return cert.Errorf(cert.Conflict, "cannot start a run on %s: %d runs wait for it already (cancel some, or wait)", m.Hostname, maxQueued)
	}
	if in.Spec.Subject != nil {
		in.Spec.Subject.Restore = true // nobody deploys the machine anew for this run
	}
	now := a.Now()
	run := cert.Run{ID: in.ID, Machine: m.ID, Origin: cert.FromOrder, RequestedBy: r.Caller.Name, Spec: in.Spec, State: cert.Queued, Created: now}
	if run.ID == "" {
		run.ID = cert.NewID(cert.RunID, now)
	}
	status := http.StatusCreated
	if err := a.Store.AddRun(r.Context(), run); err != nil {
		known, getErr := a.Store.Run(r.Context(), run.ID)
		if in.ID == "" || cert.CodeOf(err) != cert.Conflict || getErr != nil || !known.SameOrder(run) {
			return err
		}
		status = http.StatusOK
	}
	a.Lab.Wake(m.ID)
	stored, err := a.Store.Run(r.Context(), run.ID)
	if err != nil {
		return err
	}
	a.linkRun(&stored)
	return route.JSON(w, status, stored)
}

// CancelRun is POST /api/v1/runs/{run}/cancel.
func (a *API) CancelRun(w http.ResponseWriter, r *route.Request) error {
	now := a.Now()
	run, err := a.Store.Run(r.Context(), r.PathValue("run"))
	if err != nil {
		return err
	}
	if err := a.mayCancel(r, run); err != nil {
		return err
	}
	_, err = a.Store.UpdateRun(r.Context(), run.ID, nil, func(run *cert.Run) (bool, error) { return run.Cancel(now) })
	if err != nil {
		return err
	}
	if run, err = a.Store.Run(r.Context(), run.ID); err != nil {
		return err
	}
	a.Lab.Wake(run.Machine)
	a.Lab.Freed(r.Context())
	a.linkRun(&run)
	return route.JSON(w, http.StatusOK, run)
}

// mayCancel fails if somebody else has the run's machine: the end of a reservation's run is that of the reservation.
func (a *API) mayCancel(r *route.Request, run cert.Run) error {
	if r.Caller.Role.May(cert.Admin) || run.State.Final() {
		return nil
	}
	v, err := a.Fleet.Reservation(r.Context(), run.Machine)
	switch {
	case cert.CodeOf(err) == cert.NotFound:
		return nil
	case err != nil:
		return err
	case v.Holder != r.Caller.Name:
		return cert.Errorf(cert.Forbidden, "cannot cancel run %s: its machine is %s's: only they or an admin may", run.ID, v.Holder)
	}
	return nil
}

// GetRunFile is GET /api/v1/runs/{run}/attempts/{attempt}/files/{sha256}.
func (a *API) GetRunFile(w http.ResponseWriter, r *route.Request) error {
	u, err := uploadOf(r)
	if err != nil {
		return cert.Errorf(cert.NotFound, "%s", err.Error())
	}
	run, err := a.Store.Run(r.Context(), u.run)
	if err != nil {
		return err
	}
	f := u.stored(run)
	if f == nil {
		return cert.Errorf(cert.NotFound, "there is no file %s in attempt %d of run %s", u.sha, u.attempt, u.run)
	}
	return a.serveBlob(w, r, f.SHA256, f.Size, f.Name)
}
