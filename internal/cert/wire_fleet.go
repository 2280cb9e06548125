package cert

import (
	"fmt"
	"time"
)

// Bodies of the people's API about machines that come from a provider.

// FleetMachine is a machine with what it is to this lab now. GET /api/v1/machines answers with these.
type FleetMachine struct {
	Machine
	State        MachineState    `json:"state"`
	Why          string          `json:"why,omitempty"` // why it is in that state, where that is not plain
	Provider     string          `json:"provider,omitempty"`
	Status       string          `json:"provider_status,omitempty"` // the provider's word
	Power        PowerState      `json:"power,omitempty"`
	Pool         string          `json:"pool,omitempty"`
	Zone         string          `json:"zone,omitempty"`
	Tags         []string        `json:"tags,omitempty"`
	Cores        int             `json:"cores,omitempty"`
	MemoryMiB    int64           `json:"memory_mib,omitempty"`
	StorageBytes int64           `json:"storage_bytes,omitempty"`
	Vendor       string          `json:"vendor,omitempty"`
	Product      string          `json:"product,omitempty"`
	Firmware     string          `json:"firmware,omitempty"`
	GPUs         []string        `json:"gpus,omitempty"`
	NICs         int             `json:"nics,omitempty"`
	Abilities    map[string]bool `json:"abilities,omitempty"` // of its dossier
	Class        string          `json:"class,omitempty"`     // machines of one class have the same hardware
	CID          string          `json:"cid,omitempty"`
	Rack         string          `json:"rack,omitempty"`
	Position     string          `json:"position,omitempty"`
	NoManifest   bool            `json:"no_manifest,omitempty"` // its dossier has no Checkbox manifest: jobs that ask for entries are skipped, and that is no pass
	NeedsHands   string          `json:"needs_hands,omitempty"` // what a person has to do at the machine
	Reservation  string          `json:"reservation,omitempty"` // id
	Holder       string          `json:"holder,omitempty"`
	Reason       string          `json:"reason,omitempty"`
	Until        *time.Time      `json:"until,omitempty"`
	Quarantine   *Quarantine     `json:"quarantine,omitempty"`
	Paused       *Pause          `json:"paused,omitempty"`
	Incident     string          `json:"incident,omitempty"`
}

// Size is how large the machine is, in parts such as "8 cores" and "16 GiB"; what is not known is left out.
func (m *FleetMachine) Size() []string {
	var parts []string
	if m.Cores > 0 {
		parts = append(parts, fmt.Sprintf("%d cores", m.Cores))
	}
	if m.MemoryMiB > 0 {
		parts = append(parts, fmt.Sprintf("%d GiB", (m.MemoryMiB+512)>>10))
	}
	if len(m.GPUs) > 0 {
		parts = append(parts, fmt.Sprintf("%d GPU", len(m.GPUs)))
	}
	return parts
}

// MachineDetail answers GET /api/v1/machines/{machine}.
type MachineDetail struct {
	FleetMachine
	Provided    *Provided      `json:"provided,omitempty"`
	Hardware    *Hardware      `json:"hardware,omitempty"`
	Dossier     *Dossier       `json:"dossier,omitempty"`
	Current     *Reservation   `json:"current,omitempty"`
	Connect     string         `json:"connect,omitempty"`
	Reliability *Reliability   `json:"reliability,omitempty"`
	Deployments []Deployment   `json:"deployments,omitempty"` // the newest ten
	History     []MachineEvent `json:"history,omitempty"`     // the newest twenty
}

// Reliability is how well provisioning a machine, or a class, has worked.
type Reliability struct {
	Deployments int                      `json:"deployments"` // that are over; suspect ones left out
	Succeeded   int                      `json:"succeeded"`
	InARow      int                      `json:"failed_in_a_row"`
	Suspect     int                      `json:"suspect"`
	Phases      map[DeployPhase]PhaseSum `json:"phases"`
	LastCheck   *time.Time               `json:"last_check"`
	CheckPassed bool                     `json:"check_passed"`
}

// PhaseSum is what is known of a phase's length, in seconds.
type PhaseSum struct {
	Count  int     `json:"count"`
	Median float64 `json:"median"`
	P90    float64 `json:"p90"`
}

// NewReservation asks for a machine: POST /api/v1/reservations. With a Spec it is for one run.
type NewReservation struct {
	ID       string `json:"id,omitempty"` // of the caller's choosing, to repeat the request safely
	Reason   string `json:"reason"`
	Priority int    `json:"priority,omitempty"`
	Want
	Spec *Spec `json:"spec,omitempty"`
	// Run is the id of the run, chosen by who asks within this lab; empty: one is made.
	Run string `json:"-"`
}

// ReservationList answers GET /api/v1/reservations.
type ReservationList struct {
	Reservations []Reservation `json:"reservations"`
	Next         string        `json:"next"`
}

// ExtendReservation asks for more time: POST /api/v1/reservations/{reservation}/extend. One of both.
type ExtendReservation struct {
	Hours float64    `json:"hours,omitempty"` // on top of what it has
	Until *time.Time `json:"until,omitempty"`
}

// ReleaseReservation gives a machine back, or ends the wait for one: POST /api/v1/reservations/{reservation}/release or /cancel.
type ReleaseReservation struct {
	Reason  string  `json:"reason,omitempty"`
	Discard string  `json:"discard,omitempty"`    // name of the machine, to release it although it holds what is not stored
	Keep    float64 `json:"keep_hours,omitempty"` // with cancel of a run: hold the machine for a person
}

// QuarantineMachine is the body of POST /api/v1/machines/{machine}/quarantine.
type QuarantineMachine struct {
	Reason string `json:"reason"`
}

// ReturnMachine is the body of POST /api/v1/machines/{machine}/return: after a passed check, or by force with a reason.
type ReturnMachine struct {
	Force  bool   `json:"force,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// PowerMachine is the body of POST /api/v1/machines/{machine}/power.
type PowerMachine struct {
	Action string `json:"action"` // on, off, cycle or query
	Reason string `json:"reason,omitempty"`
}

// PoweredMachine answers it.
type PoweredMachine struct {
	Machine string     `json:"machine"`
	Power   PowerState `json:"power"`
}

// NewPause is the body of POST /api/v1/pauses; DELETE /api/v1/pauses?scope=&name= resumes.
type NewPause struct {
	Scope  string `json:"scope"`
	Name   string `json:"name,omitempty"`
	Reason string `json:"reason"`
}

// PauseList answers GET /api/v1/pauses.
type PauseList struct {
	Pauses []Pause `json:"pauses"`
}

// MachineEventList answers GET /api/v1/machines/{machine}/events and GET /api/v1/events, the newest first.
type MachineEventList struct {
	Events []MachineEvent `json:"events"`
	Next   string         `json:"next"`
}

// IncidentList answers GET /api/v1/incidents.
type IncidentList struct {
	Incidents []Incident `json:"incidents"`
	Next      string     `json:"next"`
}

// FleetSummary answers GET /api/v1/fleet.
type FleetSummary struct {
	Provider   *About               `json:"provider"` // null: there is none
	Problem    string               `json:"problem,omitempty"`
	Read       *time.Time           `json:"read"` // when all machines were last listed
	States     map[MachineState]int `json:"states"`
	Queued     int                  `json:"queued"`
	Pauses     []Pause              `json:"pauses"`
	Incidents  []Incident           `json:"incidents"` // that are open
	NeedsHands []FleetMachine       `json:"needs_hands"`
}

// Usage answers GET /api/v1/usage: the lab's time in a period, in hours of machines.
type Usage struct {
	From      time.Time          `json:"from"`
	To        time.Time          `json:"to"`
	Total     float64            `json:"total_hours"`
	Consumers map[string]float64 `json:"consumers"` // manual, runs, checks, idle, broken, foreign
	Holders   map[string]float64 `json:"holders"`   // manual, by person
}
