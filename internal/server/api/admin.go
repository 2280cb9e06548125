package api

import (
	"io"
	"net/http"
	"path/filepath"
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/server/route"
	"certlab/internal/version"
)

// Site is GET /api/v1/site.
func (a *API) Site(w http.ResponseWriter, r *route.Request) error {
	d := a.Lab.Desired()
	schema, err := a.Store.Schema(r.Context())
	if err != nil {
		return err
	}
	runs, err := a.Store.RunCounts(r.Context())
	if err != nil {
		return err
	}
	index, err := a.Store.IndexCounts(r.Context())
	if err != nil {
		return err
	}
	free, low := a.Lab.Space()
	site := cert.Site{Name: d.SiteName, Version: version.Version, Protocol: order.Protocol, Schema: schema, URL: BaseURL(d), Runs: runs, Submissions: index,
		FreeBytes: free, MinFreeBytes: d.MinFreeBytes, DiskLow: low, RetentionDays: d.RetentionDays, CAFingerprint: a.Keys.Fingerprint(),
		Caller: r.Caller.Name, Role: string(r.Caller.Role), Refused: []cert.RefusedAgent{}, Problems: []string{}}
	for _, p := range a.Lab.Problems() {
		site.Problems = append(site.Problems, p.Text)
	}
	for _, refusal := range a.Lab.Refusals() {
		site.Refused = append(site.Refused, cert.RefusedAgent{Unit: refusal.Enrolment.Unit, Relation: refusal.Enrolment.Relation, Reason: refusal.Reason})
	}
	return route.JSON(w, http.StatusOK, site)
}

// Backup is POST /api/v1/admin/backup. Over the socket it may write to a path; otherwise the answer is the archive. It holds the
// lab's private keys.
func (a *API) Backup(w http.ResponseWriter, r *route.Request) error {
	var in cert.BackupRequest
	if r.ContentLength != 0 {
		if err := r.Decode(&in, true); err != nil {
			return err
		}
	}
	extend(w, time.Now().Add(longWork))
	if in.Path != "" {
		if err := localPath(r, in.Path); err != nil {
			return err
		}
		made, err := a.Lab.BackupTo(r.Context(), in.Path)
		if err != nil {
			return err
		}
		return route.JSON(w, http.StatusOK, made)
	}
	h := w.Header()
	h.Set("Content-Type", "application/x-tar")
	h.Set("Content-Disposition", `attachment; filename="certlab-`+a.Now().Format("20060102-150405")+`.tar"`)
	return a.stream(w, func(out io.Writer) error { return a.Lab.Backup(r.Context(), out) })
}

// Restore is POST /api/v1/admin/restore, over the socket. It verifies the copy and stages it; the service then ends, and the copy is put
// in place when it starts again.
func (a *API) Restore(w http.ResponseWriter, r *route.Request) error {
	var in cert.RestoreRequest
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	if err := localPath(r, in.Path); err != nil {
		return err
	}
	extend(w, time.Now().Add(longWork))
	done, err := a.Lab.Restore(r.Context(), in.Path)
	if err != nil {
		return err
	}
	a.Logger.Warn("restoring: the service ends, and goes on with the restored copy", "from", in.Path)
	err = route.JSON(w, http.StatusOK, done)
	a.Restart()
	return err
}

// Repair is POST /api/v1/admin/repair, over the socket. Where a new database had to be made, the service then ends, and goes on with it
// when it starts again.
func (a *API) Repair(w http.ResponseWriter, r *route.Request) error {
	var in cert.RepairRequest
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	if in.Backup != "" {
		if err := localPath(r, in.Backup); err != nil {
			return err
		}
	}
	extend(w, time.Now().Add(longWork))
	done, err := a.Lab.Repair(r.Context(), in.Backup)
	if err != nil {
		return err
	}
	a.Logger.Warn("repaired", "database", done.Database, "lost", done.Lost, "missing", done.Missing)
	err = route.JSON(w, http.StatusOK, done)
	if done.Database {
		a.Restart()
	}
	return err
}

func localPath(r *route.Request, path string) error {
	if !r.Caller.Local {
		return cert.Errorf(cert.Forbidden, "a path on the controller's machine can be named over its unix socket only")
	}
	if !filepath.IsAbs(path) {
		return cert.Errorf(cert.Invalid, "cannot use the path %q: it must be absolute", path)
	}
	return nil
}

// RotateCA is POST /api/v1/admin/rotate-ca.
func (a *API) RotateCA(w http.ResponseWriter, r *route.Request) error {
	n, err := a.Keys.Rotate()
	if err != nil {
		return err
	}
	if err := a.Publish(); err != nil {
		return err
	}
	a.Logger.Info("certificate authority rotated", "cas", n, "by", r.Caller.Name)
	return route.JSON(w, http.StatusOK, cert.RotatedCA{CAs: n, Fingerprint: a.Keys.Fingerprint()})
}

// ListCAs is GET /api/v1/cas: the certificates to trust, as PEM. They are no secret.
func (a *API) ListCAs(w http.ResponseWriter, r *route.Request) error {
	return route.JSON(w, http.StatusOK, cert.CAList{CAs: a.Keys.CAs()})
}

// Live is GET /health/live.
func (a *API) Live(w http.ResponseWriter, r *route.Request) error {
	return route.JSON(w, http.StatusOK, cert.Live{Live: true})
}

// Ready is GET /health/ready. Who is not known learns only whether the service is ready.
func (a *API) Ready(w http.ResponseWriter, r *route.Request) error {
	h := a.Health(r.Context())
	if r.Caller.Role == "" {
		h = order.ControllerHealth{Ready: h.Ready}
	}
	status := http.StatusOK
	if !h.Ready {
		status = http.StatusServiceUnavailable
	}
	return route.JSON(w, status, h)
}
