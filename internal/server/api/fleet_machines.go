package api

import (
	"cmp"
	"encoding/base64"
	"io"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"certlab/internal/cert"
	"certlab/internal/server/route"
	"certlab/internal/sqlite"
)

// GetFleet is GET /api/v1/fleet: the lab at work.
func (a *API) GetFleet(w http.ResponseWriter, r *route.Request) error {
	s, err := a.Fleet.Summary(r.Context())
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, s)
}

// MachineParams are the filters of ListMachines.
var MachineParams = append([]route.Param{
	{Name: "query", Help: "only machines that match this query, such as tags=gpu,arch=arm64,memory>=64G, or a machine's name"},
	{Name: "state", Enum: cert.MachineStates, Help: "only machines in this state"},
	{Name: "hostname", Help: "only machines with this hostname"},
	{Name: "architecture", Help: "only machines of this architecture, such as arm64"},
	{Name: "origin", Enum: cert.Origins, Help: "only machines that came this way"},
	{Name: "enrolled", Kind: route.Boolean, Help: "only machines that have, or do not have, a unit now"},
}, PageParams...)

// ListMachines is GET /api/v1/machines, the first known first.
func (a *API) ListMachines(w http.ResponseWriter, r *route.Request) error {
	p := page(r)
	after, err := machineCursor(p)
	if err != nil {
		return err
	}
	var query cert.Query
	if text := r.Query.Get("query"); text != "" {
		if query, err = cert.ParseQuery(text); err != nil {
			return err
		}
	}
	machines, err := a.Fleet.Machines(r.Context())
	if err != nil {
		return err
	}
	out := cert.MachineList{Machines: []cert.FleetMachine{}}
	if query.String() != "" {
		e := query.Explain(machines)
		out.Explanation = &e
	}
	slices.SortFunc(machines, func(a, b cert.FleetMachine) int { return cmp.Compare(a.ID, b.ID) }) // ids begin with the time
	refusals := a.Lab.Refusals()
	for n := range machines {
		m := &machines[n]
		if m.ID <= after || !wanted(m, r) || query.Match(m) != "" {
			continue
		}
		if len(out.Machines) == p.Limit {
			out.Next = base64.RawURLEncoding.EncodeToString([]byte("f." + out.Machines[p.Limit-1].ID))
			break
		}
		a.Clocks.Observe(&m.Machine, refusals)
		out.Machines = append(out.Machines, *m)
	}
	return route.JSON(w, http.StatusOK, out)
}

// wanted reports whether a machine passes the parameters beside the query.
func wanted(m *cert.FleetMachine, r *route.Request) bool {
	for name, have := range map[string]string{"state": string(m.State), "hostname": m.Hostname, "architecture": m.Architecture, "origin": m.Origin} {
		if want := r.Query.Get(name); want != "" && want != have {
			return false
		}
	}
	enrolled := r.Query.Get("enrolled")
	return enrolled == "" || (enrolled == "true") == (m.Unit != "")
}

// machineCursor returns the id after which the page begins.
func machineCursor(p sqlite.Page) (string, error) {
	if p.Limit < 1 || p.Limit > sqlite.MaxLimit {
		return "", cert.Errorf(cert.Invalid, "cannot list %d rows: the limit must be between 1 and %d", p.Limit, sqlite.MaxLimit)
	}
	if p.Cursor == "" {
		return "", nil
	}
	text, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	id, ours := strings.CutPrefix(string(text), "f.")
	if err != nil || !ours || !cert.ValidID(cert.MachineID, id) {
		return "", cert.Errorf(cert.Invalid, "cannot continue the list: the cursor is not one that this list gave")
	}
	return id, nil
}

// GetMachine is GET /api/v1/machines/{machine}.
func (a *API) GetMachine(w http.ResponseWriter, r *route.Request) error {
	m, err := a.Fleet.Machine(r.Context(), r.PathValue("machine"))
	if err != nil {
		return err
	}
	return a.answerMachine(w, r, m)
}

func (a *API) answerMachine(w http.ResponseWriter, r *route.Request, m cert.MachineDetail) error {
	a.Clocks.Observe(&m.Machine, a.Lab.Refusals())
	dossier, err := a.Store.Dossier(r.Context(), m.ID)
	if err != nil {
		return err
	}
	m.Dossier = &dossier
	a.linkReservation(m.Current)
	return route.JSON(w, http.StatusOK, m)
}

// QuarantineMachine is POST /api/v1/machines/{machine}/quarantine.
func (a *API) QuarantineMachine(w http.ResponseWriter, r *route.Request) error {
	var in cert.QuarantineMachine
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	if err := needReason(in.Reason, "quarantine a machine"); err != nil {
		return err
	}
	m, err := a.Fleet.Quarantine(r.Context(), r.PathValue("machine"), in.Reason, r.Caller.Name)
	if err != nil {
		return err
	}
	return a.answerMachine(w, r, m)
}

// ReturnMachine is POST /api/v1/machines/{machine}/return.
func (a *API) ReturnMachine(w http.ResponseWriter, r *route.Request) error {
	var in cert.ReturnMachine
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	if in.Force || in.Reason != "" {
		if err := needReason(in.Reason, "return a machine to service"); err != nil {
			return err
		}
	}
	m, err := a.Fleet.ReturnToService(r.Context(), r.PathValue("machine"), in, r.Caller.Name)
	if err != nil {
		return err
	}
	return a.answerMachine(w, r, m)
}

// PowerMachine is POST /api/v1/machines/{machine}/power.
func (a *API) PowerMachine(w http.ResponseWriter, r *route.Request) error {
	var in cert.PowerMachine
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	switch in.Action {
	case "query", string(cert.SwitchOn), string(cert.SwitchOff), string(cert.SwitchCycle):
	default:
		return cert.Errorf(cert.Invalid, "cannot do %q to a machine's power: there are on, off, cycle and query", clipText(in.Action))
	}
	if in.Reason != "" {
		if err := needReason(in.Reason, "switch a machine"); err != nil {
			return err
		}
	}
	p, err := a.Fleet.Power(r.Context(), r.PathValue("machine"), in, r.Caller.Name, r.Caller.Role)
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, p)
}

// GetConsole is GET /api/v1/machines/{machine}/console: what the site's console program, or the provider, has kept.
func (a *API) GetConsole(w http.ResponseWriter, r *route.Request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	return a.stream(w, func(out io.Writer) error { return a.Fleet.ConsoleLog(r.Context(), r.PathValue("machine"), out) })
}

// maxWhy bounds a reason, in bytes.
const maxWhy = 500

// needReason fails unless a reason is one line that says something.
func needReason(reason, what string) error {
	switch {
	case strings.TrimSpace(reason) == "":
		return cert.Errorf(cert.Invalid, "cannot %s: say why (reason)", what)
	case len(reason) > maxWhy || strings.ContainsFunc(reason, unicode.IsControl): // it is shown on terminals
		return cert.Errorf(cert.Invalid, "cannot %s: the reason must be one line of at most %d bytes", what, maxWhy)
	}
	return nil
}

func clipText(s string) string {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
