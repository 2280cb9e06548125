package cert

// A MachineState says what a machine is to this lab.
type MachineState string

const (
	MachineUnknown      MachineState = "unknown"      // not examined yet, or nothing was heard of it
	MachineFree         MachineState = "free"         // can be had
	MachineReserved     MachineState = "reserved"     // a person has it, and may use it
	MachineProvisioning MachineState = "provisioning" // being made ready for a reservation
	MachineReady        MachineState = "ready"        // its agent says so, and nothing runs
	MachineBusy         MachineState = "busy"         // a run is on it
	MachineReleasing    MachineState = "releasing"    //
	MachineDirty        MachineState = "dirty"        // this lab holds it and nobody wants it, or it failed, or what a run has changed is still there: it has to be cleaned first
	MachineQuarantined  MachineState = "quarantined"  // nobody is handed it
	MachineForeign      MachineState = "foreign"      // somebody else holds it
	MachineRetired      MachineState = "retired"      // it does not come back, or its provider has lost it
)

// MachineStates lists every state.
var MachineStates = []string{string(MachineUnknown), string(MachineFree), string(MachineReserved), string(MachineProvisioning), string(MachineReady),
	string(MachineBusy), string(MachineReleasing), string(MachineDirty), string(MachineQuarantined), string(MachineForeign), string(MachineRetired)}

// MachineFacts are what a machine's state follows from.
type MachineFacts struct {
	Provided    *Provided        // as its provider last said; nil: it has no provider, or is gone from it
	Gone        bool             // its provider listed it once and does not any more
	Quarantined bool             // by this lab's own record
	Retired     bool             // by a person
	Reservation ReservationState // of the reservation that has it; empty: none
	Kind        ReservationKind  //
	Kept        bool             // it failed, and its holder has asked to look at it
	Running     bool             // a run is on it
	Unit        bool             // a unit may act for it
	Silent      bool             // its agent should be heard of and is not
	Changed     bool             // its agent could not put it back to what it was before a run
	InPool      bool             // its pool is one that this lab takes machines from
}

// State of a machine by what is known of it. The first that applies holds: what a machine may be used for is decided by the gravest.
func (f MachineFacts) State() MachineState {
	p := f.Provided
	switch {
	case f.Retired, f.Gone, p != nil && p.Status == StatusRetired:
		return MachineRetired
	case f.Kept:
		return MachineReserved
	case f.Reservation == ReservationReleasing:
		return MachineReleasing
	case f.Reservation == ReservationPreparing:
		return MachineProvisioning
	case f.Running:
		return MachineBusy
	case f.Reservation == ReservationReady && f.Kind == ReserveManual:
		return MachineReserved
	case f.Reservation == ReservationReady:
		return MachineReady
	case f.Quarantined, p != nil && p.Status == StatusBroken && p.Holder == Nobody:
		return MachineQuarantined
	case f.Unit && f.Silent:
		return MachineUnknown
	case f.Unit && f.Changed:
		return MachineDirty
	case f.Unit:
		return MachineReady
	case p == nil:
		return MachineUnknown
	case p.Holder == AJuju, p.Holder == Otherwise:
		return MachineForeign
	case p.Holder == ThisLab && p.Status == StatusReleasing:
		return MachineReleasing
	case p.Holder == ThisLab:
		return MachineDirty
	}
	switch p.Status {
	case StatusFree:
		if !f.InPool {
			return MachineForeign
		}
		return MachineFree
	case StatusReleasing:
		return MachineReleasing
	case StatusReleaseFailed, StatusDeployFailed, StatusTestFailed:
		return MachineDirty
	}
	return MachineUnknown
}
