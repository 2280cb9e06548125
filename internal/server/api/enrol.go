package api

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/server/route"
)

// bundlePart is how much of a bundle is written at a time: each has to get through within the server's patience.
const bundlePart = 256 << 10

// AgentBundle is GET /enrol/v1/agent/{architecture}: what a deployed machine needs to have an agent. The first request is the machine's
// first word.
func (a *API) AgentBundle(w http.ResponseWriter, r *route.Request) error {
	token, ok := deploymentToken(r)
	if !ok {
		return cert.Errorf(cert.Unauthorized, "the Authorization header must be: %s %s…", order.EnrolScheme, order.EnrolPrefix)
	}
	if err := a.Fleet.Booted(r.Context(), token); err != nil {
		return err
	}
	fleet := a.Lab.Desired().Fleet
	b, err := a.bundles.get(fleet.Agents, fleet.Providers, r.PathValue("architecture"))
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/gzip")
	h.Set("Content-Length", strconv.Itoa(len(b.data)))
	h.Set(order.BundleHashHeader, b.sha256)
	out := patient{w, a.Patience}
	for rest := b.data; len(rest) > 0; {
		part := rest[:min(bundlePart, len(rest))]
		if _, err := out.Write(part); err != nil {
			return nil // whoever asked is gone
		}
		rest = rest[len(part):]
	}
	return nil
}

// deploymentToken returns the token in the Authorization header.
func deploymentToken(r *route.Request) (string, bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	return token, strings.EqualFold(scheme, order.EnrolScheme) && cert.IsSecret(order.EnrolPrefix, token)
}

// Enrol is POST /enrol/v1/enrol.
func (a *API) Enrol(w http.ResponseWriter, r *route.Request) error {
	var e order.Enrolment
	if err := r.Decode(&e, false); err != nil {
		return err
	}
	// Who asks has to hold the key that it wants to be known by: a public key alone anybody can have read.
	switch key := AgentKey(r.Request); {
	case key == "":
		return cert.Errorf(cert.Unauthorized, "agents show a client certificate: this enrolment came without one")
	case key != e.PublicKey:
		return cert.Errorf(cert.Forbidden, "cannot enrol an agent with another's key: public_key is not that of its client certificate")
	}
	answer, err := a.Fleet.Enrol(r.Context(), e)
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, answer)
}

// Bounds of what an agent says of itself.
const (
	maxStatusText = 4096
	maxHeldRuns   = 10000
)

// localRun is what a run is called on its machine. One with a name that nobody gives to runs here is held by the machine all the same.
var localRun = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

// AgentStatus is PUT /agent/v1/status.
func (a *API) AgentStatus(w http.ResponseWriter, r *route.Request) error {
	var s order.Status
	if err := r.Decode(&s, false); err != nil {
		return err
	}
	for _, text := range []*string{&s.BootID, &s.Release, &s.Kernel, &s.Version, &s.CheckboxVersion, &s.Problem, &s.Dirty} {
		*text = clip(*text, maxStatusText)
	}
	if s.Running != "" && !localRun.MatchString(s.Running) {
		return cert.Errorf(cert.Rejected, "cannot use run id %q", clip(s.Running, 100))
	}
	if s.Restoring != "" && !localRun.MatchString(s.Restoring) {
		return cert.Errorf(cert.Rejected, "cannot use run id %q", clip(s.Restoring, 100))
	}
	if len(s.Undelivered) > maxHeldRuns {
		return cert.Errorf(cert.Rejected, "cannot take down that %d runs are not delivered: at most %d are", len(s.Undelivered), maxHeldRuns)
	}
	for _, id := range s.Undelivered {
		if !localRun.MatchString(id) {
			return cert.Errorf(cert.Rejected, "cannot use run id %q", clip(id, 100))
		}
	}
	if cert.Skewed(r.Caller.Skew) {
		s.Booted = s.Booted.Add(-r.Caller.Skew)
	}
	if err := a.Fleet.AgentStatus(r.Context(), r.Caller.Machine, s); err != nil {
		return err
	}
	if s.Restoring == "" && s.Dirty == "" {
		a.Lab.Wake(r.Caller.Machine) // what was held back from it while it was being put back
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// clip is text with at most n bytes, and as UTF-8.
func clip(text string, n int) string {
	if len(text) > n {
		text = text[:n] + "…"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
