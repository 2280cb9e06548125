package provision

import (
	"context"
	"slices"
	"time"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// A picture is everything at one time.
type picture struct {
	rows      []sqlite.FleetRow
	machines  []cert.FleetMachine // as rows
	deploying map[string]*cert.Deployment
	held      map[string]*cert.Reservation // by deployment
	open      []cert.Reservation           // in the order of the queue
	byID      map[string]*cert.Reservation
	row       map[string]*sqlite.FleetRow
	pauses    []cert.Pause

	stored  int64 // the database's changes that are in it, at least
	applied int64 // the configuration that it was made with
	read    time.Time
}

// pictureFor is how long a picture is good if nothing is stored: what follows from the time, and from what the gate says, changes too.
const pictureFor = time.Second

// look returns everything as it is in the database, or was after this was called. Who asks shares it with others: it is not to be changed.
func (f *Fleet) look(ctx context.Context) (*picture, error) {
	stored := f.DB.Changes()
	f.looking.Lock() // of many who ask at once, one reads
	defer f.looking.Unlock()
	f.mu.Lock()
	applied := f.applications
	f.mu.Unlock()
	now := f.Now()
	if p := f.seen; p != nil && p.stored >= stored && p.applied == applied && !now.Before(p.read) && now.Sub(p.read) < pictureFor {
		return p, nil
	}
	stored = f.DB.Changes()
	p, err := f.read(ctx)
	if err != nil {
		return nil, err
	}
	p.stored, p.applied, p.read = stored, applied, now
	f.seen = p
	return p, nil
}

// read reads everything from the database.
func (f *Fleet) read(ctx context.Context) (*picture, error) {
	p := &picture{deploying: map[string]*cert.Deployment{}, held: map[string]*cert.Reservation{}, byID: map[string]*cert.Reservation{}, row: map[string]*sqlite.FleetRow{}}
	var err error
	if p.rows, err = f.DB.FleetRows(ctx); err != nil {
		return nil, err
	}
	if p.open, err = f.DB.OpenReservations(ctx); err != nil {
		return nil, err
	}
	deployments, err := f.DB.OpenDeployments(ctx)
	if err != nil {
		return nil, err
	}
	if p.pauses, err = f.DB.Pauses(ctx); err != nil {
		return nil, err
	}
	for n := range p.open {
		p.byID[p.open[n].ID] = &p.open[n]
	}
	for n := range deployments {
		d := &deployments[n]
		p.deploying[d.Machine] = d
		r := p.byID[d.Reservation]
		if r == nil {
			ended, err := f.DB.Reservation(ctx, d.Reservation)
			if err != nil {
				return nil, err
			}
			r = &ended
		}
		p.held[d.ID] = r
	}
	if p.machines, err = f.machinesOf(ctx, p); err != nil {
		return nil, err
	}
	return p, nil
}

func (f *Fleet) machinesOf(ctx context.Context, p *picture) ([]cert.FleetMachine, error) {
	dossiers, err := f.DB.FleetDossiers(ctx)
	if err != nil {
		return nil, err
	}
	hands, err := f.DB.HandsNeeded(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]cert.FleetMachine, len(p.rows))
	for n := range p.rows {
		m := &p.rows[n]
		p.row[m.Machine.ID] = m
		d := p.deploying[m.Machine.ID]
		var r *cert.Reservation
		if d != nil {
			r = p.held[d.ID]
		}
		var dossier *cert.Dossier
		if found, ok := dossiers[m.Machine.ID]; ok {
			dossier = &found
		}
		out[n] = f.machineOf(m, d, r, dossier, hands[m.Machine.ID])
		out[n].Paused = pausedBy(p.pauses, &out[n])
		if f.Gate != nil {
			if hold := f.Gate.MayRecover(placeOf(&out[n], "")); hold != nil {
				out[n].Incident = hold.Incident
			}
			// It looks as if it could be had, and cannot.
			if out[n].State == cert.MachineFree && out[n].Why == "" {
				if hold := f.Gate.MayDeploy(placeOf(&out[n], ""), cert.Reservation{}); hold != nil {
					out[n].Why = hold.Text
				}
			}
		}
	}
	return out, nil
}

// machineOf is how a machine is shown.
func (f *Fleet) machineOf(m *sqlite.FleetRow, d *cert.Deployment, r *cert.Reservation, dossier *cert.Dossier, watch string) cert.FleetMachine {
	out := cert.FleetMachine{Machine: m.Machine, State: f.facts(m, d, r).State(), Provider: m.Provider, Quarantine: m.Quarantine, NoManifest: true}
	if p := m.Provided; p != nil {
		out.Status, out.Power, out.Pool, out.Zone, out.Tags = p.StatusName, p.Power, p.Pool, p.Zone, p.Tags
		out.Cores, out.MemoryMiB, out.StorageBytes, out.NICs, out.Class = p.Cores, p.MemoryMiB, p.StorageBytes, len(p.NICs), cert.Class(*p)
		out.Vendor, out.Product, out.Firmware = p.Hardware["system_vendor"], p.Hardware["system_product"], p.Hardware["mainboard_firmware_version"]
	}
	if h := m.Hardware; h != nil {
		out.GPUs = h.GPUs
		out.Vendor, out.Product, out.Firmware = first(out.Vendor, h.Vendor), first(out.Product, h.Product), first(out.Firmware, h.FirmwareVersion)
	}
	rack, position := "", ""
	if dossier != nil {
		out.CID, out.Rack, out.Position, out.Abilities, out.NoManifest = dossier.CID, dossier.Rack, dossier.Position, dossier.Abilities, len(dossier.Manifest) == 0
		rack, position = dossier.Rack, dossier.Position
	}
	if d != nil && r != nil {
		out.Reservation, out.Holder, out.Reason, out.Until = r.ID, r.Holder, r.Reason, r.Until
		if isKept(d, r) {
			out.Until = r.KeepUntil
		}
	}
	out.Why = f.why(m, d, r, out.State)
	out.NeedsHands = needsHands(m, rack, position, watch)
	return out
}

func first(texts ...string) string {
	for _, s := range texts {
		if s != "" {
			return s
		}
	}
	return ""
}

// why says why a machine is in its state, where that is not plain.
func (f *Fleet) why(m *sqlite.FleetRow, d *cert.Deployment, r *cert.Reservation, state cert.MachineState) string {
	p := m.Provided
	switch {
	case m.Gone != nil:
		return "its provider does not list it any more since " + m.Gone.Format(time.RFC3339)
	case m.Retired != "":
		return m.Retired
	case d != nil && r != nil && isKept(d, r) && d.Failure != nil:
		return "kept after a failure: " + d.Failure.Message
	case d != nil && d.Failure != nil:
		return d.Failure.Message
	case d != nil && r != nil && r.Blocked != "":
		return r.Blocked
	case state == cert.MachineQuarantined && m.Quarantine != nil:
		return m.Quarantine.Reason
	case state == cert.MachineForeign && p != nil && p.Holder == cert.AJuju:
		return "Juju model " + p.JujuModel + " has it"
	case state == cert.MachineForeign && p != nil && p.Holder == cert.Otherwise:
		return first(p.Owner, "somebody else") + " has it at the provider"
	case state == cert.MachineForeign && p != nil:
		return "its pool " + p.Pool + " is not one that this lab takes machines from"
	case state == cert.MachineDirty && m.Machine.Unit != "" && m.Dirty != "":
		return m.Dirty + " (see to it, then run `certlab-agent clean` on the machine)"
	case state == cert.MachineDirty && m.Orphan != nil:
		return "this lab holds it at the provider, and no reservation here knows of it (release it by name)"
	case (state == cert.MachineDirty || state == cert.MachineUnknown) && p != nil:
		return first(p.StatusMessage, p.StatusName)
	}
	return ""
}

// needsHands says what a person has to do at the machine. watch is what the lab's watch says.
func needsHands(m *sqlite.FleetRow, rack, position, watch string) string {
	if watch == "" && m.Quarantine != nil && m.Quarantine.Auto && m.Quarantine.Incident == "" {
		watch = "look at it: " + m.Quarantine.Reason
	}
	return cert.NeedsHands(m.Provided, rack, position, watch)
}

// pausedBy returns the pause that covers a machine.
func pausedBy(pauses []cert.Pause, m *cert.FleetMachine) *cert.Pause {
	for n, p := range pauses {
		switch {
		case p.Scope == "lab", p.Scope == "pool" && p.Name == m.Pool && m.Pool != "", p.Scope == "zone" && p.Name == m.Zone && m.Zone != "",
			p.Scope == "rack" && p.Name == m.Rack && m.Rack != "":
			return &pauses[n]
		}
	}
	return nil
}

func placeOf(m *cert.FleetMachine, release string) cert.Place {
	return cert.Place{Machine: m.ID, Hostname: m.Hostname, Zone: m.Zone, Rack: m.Rack, Pool: m.Pool, Release: release}
}

// Machines returns all machines with their states.
func (f *Fleet) Machines(ctx context.Context) ([]cert.FleetMachine, error) {
	p, err := f.look(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Clone(p.machines), nil
}

const (
	shownDeployments = 10
	shownEvents      = 20
	reliableOver     = 100 // deployments that a machine's reliability goes by
)

// Machine returns one machine by its id, its provider's id or its hostname.
func (f *Fleet) Machine(ctx context.Context, name string) (out cert.MachineDetail, err error) {
	m, err := f.DB.Machine(ctx, name)
	if err != nil {
		return out, err
	}
	p, err := f.look(ctx)
	if err != nil {
		return out, err
	}
	n := slices.IndexFunc(p.machines, func(x cert.FleetMachine) bool { return x.ID == m.ID })
	if n < 0 {
		return out, cert.Errorf(cert.NotFound, "there is no machine %q", name)
	}
	out.FleetMachine, out.Provided, out.Hardware = p.machines[n], p.rows[n].Provided, p.rows[n].Hardware
	if d := p.deploying[m.ID]; d != nil {
		r := *p.held[d.ID]
		if r.Machine == m.ID && !r.Final() {
			f.decorate(&r, p)
			out.Current, out.Connect = &r, r.Connect
		}
	}
	if dossiers, err := f.DB.FleetDossiers(ctx); err != nil {
		return out, err
	} else if d, ok := dossiers[m.ID]; ok {
		out.Dossier = &d
	}
	all, err := f.DB.Deployments(ctx, sqlite.DeploymentFilter{Machine: m.ID}, reliableOver)
	if err != nil {
		return out, err
	}
	if len(all) > 0 {
		r := cert.ReliabilityOf(all)
		r.LastCheck, r.CheckPassed = p.rows[n].Checked, p.rows[n].Passed
		out.Reliability = &r
	}
	out.Deployments = all[:min(len(all), shownDeployments)]
	out.History, _, err = f.DB.MachineEvents(ctx, sqlite.EventFilter{Machine: m.ID}, sqlite.Page{Limit: shownEvents})
	return out, err
}

// Summary says how the whole lab is.
func (f *Fleet) Summary(ctx context.Context) (out cert.FleetSummary, err error) {
	p, err := f.look(ctx)
	if err != nil {
		return out, err
	}
	f.mu.Lock()
	out.Provider, out.Problem = f.about, f.problem
	if f.provider == nil {
		out.Provider, out.Problem = nil, f.conf.Problem
	}
	if !f.listed.IsZero() {
		listed := f.listed
		out.Read = &listed
	}
	f.mu.Unlock()
	out.States, out.Pauses = make(map[cert.MachineState]int), p.pauses
	out.NeedsHands = []cert.FleetMachine{}
	for _, m := range p.machines {
		out.States[m.State]++
		if m.NeedsHands != "" {
			out.NeedsHands = append(out.NeedsHands, m)
		}
	}
	for _, r := range p.open {
		if r.State == cert.ReservationQueued {
			out.Queued++
		}
	}
	out.Incidents, err = f.DB.OpenIncidents(ctx)
	return out, err
}

// decorate adds what is not stored to a reservation.
func (f *Fleet) decorate(r *cert.Reservation, p *picture) {
	if m := p.row[r.Machine]; m != nil && m.Provided != nil && r.State == cert.ReservationReady && len(m.Provided.Addresses) > 0 {
		r.Connect = "ssh ubuntu@" + m.Provided.Addresses[0]
	}
	if d := p.deploying[r.Machine]; d != nil && d.ID == r.Deployment && r.State == cert.ReservationPreparing {
		r.Phase = d.Phase
	}
	if r.Blocked == "" && r.State != cert.ReservationReady {
		r.Blocked = f.Problem() // nothing goes on without the provider
	}
	if r.State == cert.ReservationQueued || r.State == cert.ReservationPreparing {
		r.Estimate = f.estimate(r, p)
	}
}
