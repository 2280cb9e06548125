package api

import (
	"io"
	"mime"
	"net/http"
	"slices"

	"certlab/internal/cert"
	"certlab/internal/server/route"
)

// ListPolicies is GET /api/v1/policies: the newest version of each.
func (a *API) ListPolicies(w http.ResponseWriter, r *route.Request) error {
	list, err := a.Review.Policies(r.Context())
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, list)
}

// GetPolicy is GET /api/v1/policies/{policy}: name, or name@version.
func (a *API) GetPolicy(w http.ResponseWriter, r *route.Request) error {
	p, err := a.Review.Policy(r.Context(), r.PathValue("policy"))
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, p)
}

// maxPolicy bounds a policy, in bytes.
const maxPolicy = 256 << 10

// readPolicy reads a policy's YAML.
func readPolicy(r *route.Request) ([]byte, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || !slices.Contains([]string{"application/yaml", "text/yaml", "application/x-yaml"}, kind) {
		return nil, cert.Errorf(cert.Invalid, "cannot read the request: its Content-Type must be application/yaml")
	}
	text, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxPolicy))
	if err != nil {
		if large := tooLarge(err, "read the policy"); cert.CodeOf(large) == cert.TooLarge {
			return nil, large
		}
		return nil, cert.Errorf(cert.Invalid, "cannot read the request: its body was cut off after %d bytes", len(text))
	}
	return text, nil
}

// PutPolicy is PUT /api/v1/policies/{policy}: a new version of it, as YAML. Campaigns that there are keep theirs.
func (a *API) PutPolicy(w http.ResponseWriter, r *route.Request) error {
	if err := plainName(r.PathValue("policy"), "policy's name"); err != nil {
		return err
	}
	text, err := readPolicy(r)
	if err != nil {
		return err
	}
	p, err := a.Review.SavePolicy(r.Context(), r.PathValue("policy"), text, r.Caller.Name)
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, p)
}

// CheckPolicy is POST /api/v1/policies/check: what the lab makes of a policy. Nothing is stored.
func (a *API) CheckPolicy(w http.ResponseWriter, r *route.Request) error {
	text, err := readPolicy(r)
	if err != nil {
		return err
	}
	p, err := cert.ParsePolicy(text)
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, p)
}
