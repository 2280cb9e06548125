package api

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"

	"certlab/internal/cert"
	"certlab/internal/server/route"
)

// GetDossier is GET /api/v1/machines/{machine}/dossier.
func (a *API) GetDossier(w http.ResponseWriter, r *route.Request) error {
	m, err := a.Store.Machine(r.Context(), r.PathValue("machine"))
	if err != nil {
		return err
	}
	d, err := a.Store.Dossier(r.Context(), m.ID)
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, d)
}

// PutDossier is PUT of the same path: the whole dossier, with the version that the change began with.
func (a *API) PutDossier(w http.ResponseWriter, r *route.Request) error {
	m, err := a.Store.Machine(r.Context(), r.PathValue("machine"))
	if err != nil {
		return err
	}
	var in cert.Dossier
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	if in.Machine != "" && in.Machine != m.ID {
		return cert.Errorf(cert.Invalid, "cannot change the dossier: the body is about machine %q, the path about %s", clipText(in.Machine), m.ID)
	}
	in.Machine = m.ID
	d, err := a.Store.PutDossier(r.Context(), in, r.Caller.Name, a.Now())
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, d)
}

// PutSecureID is PUT /api/v1/machines/{machine}/dossier/secure-id. Nothing answers with it.
func (a *API) PutSecureID(w http.ResponseWriter, r *route.Request) error {
	m, err := a.Store.Machine(r.Context(), r.PathValue("machine"))
	if err != nil {
		return err
	}
	var in cert.NewSecureID
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	d, err := a.Store.PutSecureID(r.Context(), m.ID, in.SecureID, r.Caller.Name, a.Now())
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, d)
}

// DossierHistory is GET /api/v1/machines/{machine}/dossier/history.
func (a *API) DossierHistory(w http.ResponseWriter, r *route.Request) error {
	m, err := a.Store.Machine(r.Context(), r.PathValue("machine"))
	if err != nil {
		return err
	}
	return a.dossierHistory(w, r, m.ID, "")
}

func (a *API) dossierHistory(w http.ResponseWriter, r *route.Request, machine, zone string) error {
	list, next, err := a.Store.DossierChanges(r.Context(), machine, zone, page(r))
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, cert.DossierHistory{Changes: list, Next: next})
}

// GetZoneDossier is GET /api/v1/zones/{zone}/dossier. A zone of which nothing was said has an empty one.
func (a *API) GetZoneDossier(w http.ResponseWriter, r *route.Request) error {
	z, err := a.Store.ZoneDossier(r.Context(), r.PathValue("zone"))
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, z)
}

// PutZoneDossier is PUT of the same path.
func (a *API) PutZoneDossier(w http.ResponseWriter, r *route.Request) error {
	var in cert.ZoneDossier
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	zone := r.PathValue("zone")
	if in.Zone != "" && in.Zone != zone {
		return cert.Errorf(cert.Invalid, "cannot change the dossier: the body is about zone %q, the path about %s", clipText(in.Zone), zone)
	}
	in.Zone = zone
	z, err := a.Store.PutZoneDossier(r.Context(), in, r.Caller.Name, a.Now())
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, z)
}

// ZoneDossierHistory is GET /api/v1/zones/{zone}/dossier/history.
func (a *API) ZoneDossierHistory(w http.ResponseWriter, r *route.Request) error {
	return a.dossierHistory(w, r, "", r.PathValue("zone"))
}

// ExportDossiers is GET /api/v1/dossiers.csv.
func (a *API) ExportDossiers(w http.ResponseWriter, r *route.Request) error {
	all, err := a.Store.Dossiers(r.Context())
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := cert.WriteDossierCSV(&out, all); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": "dossiers.csv"}))
	_, _ = w.Write(out.Bytes()) // whoever asked may have gone
	return nil
}

// ImportParams are the parameters of ImportDossiers.
var ImportParams = []route.Param{{Name: "dry_run", Kind: route.Boolean, Help: "only say what would change"}}

// maxCSV bounds an import, in bytes: 10,000 lines of 1,600.
const maxCSV = 16 << 20

// ImportDossiers is POST /api/v1/dossiers: all of it is stored, or nothing.
func (a *API) ImportDossiers(w http.ResponseWriter, r *route.Request) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "text/csv" {
		return cert.Errorf(cert.Invalid, "cannot read the request: its Content-Type must be text/csv")
	}
	text, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxCSV))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return cert.Errorf(cert.TooLarge, "cannot import dossiers: the file is larger than %d bytes (import it in parts)", large.Limit)
	case err != nil:
		return cert.Errorf(cert.Invalid, "cannot read the request: its body was cut off after %d bytes", len(text))
	}
	rows, err := cert.ReadDossierCSV(bytes.NewReader(text))
	if err != nil {
		return err
	}
	out, err := a.Store.ImportDossiers(r.Context(), rows, r.Caller.Name, a.Now(), r.Query.Get("dry_run") == "true")
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, out)
}
