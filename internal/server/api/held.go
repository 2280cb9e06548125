package api

import (
	"net/http"
	"slices"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/server/route"
)

// maxHeld bounds how many runs an agent may name.
const maxHeld = 20000

// Held is POST /agent/v1/held.
func (a *API) Held(w http.ResponseWriter, r *route.Request) error {
	var in order.Held
	if err := r.Decode(&in, false); err != nil {
		return err
	}
	if len(in.Runs) > maxHeld {
		return cert.Errorf(cert.Rejected, "cannot take a list of %d runs: at most %d are looked at", len(in.Runs), maxHeld)
	}
	// A run with an id that is none here must not keep the others from being looked at.
	in.Runs = slices.DeleteFunc(in.Runs, func(h order.HeldRun) bool { return !cert.ValidID(cert.RunID, h.Run) })
	again, err := a.Lab.Held(r.Context(), r.Caller.Machine, in)
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, order.HeldAck{Again: again})
}

// maxReason bounds what an agent says of a file that is gone, in bytes.
const maxReason = 500

// FileGone is POST /agent/v1/runs/{run}/attempts/{attempt}/files/{sha256}/gone.
func (a *API) FileGone(w http.ResponseWriter, r *route.Request) error {
	var in order.FileGone
	if err := r.Decode(&in, false); err != nil {
		return err
	}
	u, run, err := a.ownUpload(r)
	if err != nil {
		return err
	}
	if in.Reason == "" {
		in.Reason = "it says no reason"
	}
	if len(in.Reason) > maxReason {
		in.Reason = in.Reason[:maxReason]
	}
	if u.stored(run) != nil && a.Lab.FileIsBad(u.sha) {
		if err := a.Lab.FileIsGone(r.Context(), u.run, u.attempt, u.sha, in.Reason); err != nil {
			return err
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
