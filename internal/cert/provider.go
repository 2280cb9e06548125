package cert

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Provider is where machines come from and go back to. One lab has one. Machines are named by the provider's own id (MAAS: system_id).
//
// Every method re-reads what it depends on and refuses with Foreign to change a machine that somebody else holds, whatever it is asked; see
// Holder. Changes begin something and return: what becomes of it is seen in what Look answers. Each method has a deadline of its own below
// ctx's. Errors are *ProviderError.
type Provider interface {
	// About says what the provider is, and what this lab's key may not do there.
	About(ctx context.Context) (About, error)
	// List returns all machines; Look those named, in one call however many they are, without those that there are not (any more).
	List(ctx context.Context) ([]Provided, error)
	Look(ctx context.Context, ids ...string) ([]Provided, error)
	// Hardware reads what the provider keeps in no list. It is slow: once per machine and commissioning is enough.
	Hardware(ctx context.Context, id string) (Hardware, error)
	// Releases lists what can be deployed on an architecture (Debian's name), the default first.
	Releases(ctx context.Context, architecture string) ([]Image, error)

	// Acquire takes one free machine for this lab. Conflict: somebody else was faster. Of two calls at once, one succeeds. A machine that
	// this lab has already is answered as if it had just been taken.
	Acquire(ctx context.Context, id, comment string) (Provided, error)
	Deploy(ctx context.Context, id string, d DeployOptions) error
	Lock(ctx context.Context, id, comment string) error
	Unlock(ctx context.Context, id, comment string) error
	// Release gives a machine back. It is idempotent: a machine that is free or being released is left alone.
	Release(ctx context.Context, id string, r ReleaseOptions) error
	Abort(ctx context.Context, id, comment string) error
	MarkBroken(ctx context.Context, id, comment string) error
	MarkFixed(ctx context.Context, id, comment string) error
	SetPool(ctx context.Context, id, pool string) error
	Tag(ctx context.Context, id, tag string, on bool) error
	// Power switches a machine of this lab; with unit also one that somebody else holds and that carries a unit of this lab, if the
	// provider is configured to allow that.
	Power(ctx context.Context, id string, action PowerAction, unit bool) error
	QueryPower(ctx context.Context, id string, unit bool) (PowerState, error)

	// Test starts the provider's own hardware tests; TestResults are those of the last time.
	Test(ctx context.Context, id string, scripts []string) error
	OverrideFailedTests(ctx context.Context, id string) error
	TestResults(ctx context.Context, id string) ([]TestResult, error)
	// Events are what the provider has noted of a machine, newest first; InstallLog is what the last installation printed.
	Events(ctx context.Context, id string, limit int) ([]ProviderEvent, error)
	InstallLog(ctx context.Context, id string) ([]byte, error)
}

// About is what a provider says of itself and of this lab's rights.
type About struct {
	Kind      string   `json:"kind"`                // maas
	URL       string   `json:"url"`                 //
	Version   string   `json:"version"`             // such as 3.4.1
	User      string   `json:"user"`                // whose key it is
	Admin     bool     `json:"admin"`               //
	Missing   []string `json:"missing,omitempty"`   // what the key may not do, and what goes on without it; one sentence each
	Supported []string `json:"supported,omitempty"` // optional abilities of this version, such as ephemeral-deploy
}

// Status of a machine at its provider, in words that hold for each provider.
type Status string

const (
	StatusNew           Status = "new"            // known, not examined yet
	StatusExamining     Status = "examining"      // commissioning, testing, rescue mode
	StatusFree          Status = "free"           // can be acquired
	StatusAcquired      Status = "acquired"       // held, nothing deployed
	StatusDeploying     Status = "deploying"      //
	StatusDeployed      Status = "deployed"       // the provider says so; whether it works is another matter
	StatusDeployFailed  Status = "deploy-failed"  // held, and perhaps still switched on
	StatusReleasing     Status = "releasing"      // erasing among it
	StatusReleaseFailed Status = "release-failed" // held, perhaps still switched on; erasing among it
	StatusTestFailed    Status = "test-failed"    //
	StatusBroken        Status = "broken"         //
	StatusRetired       Status = "retired"        //
	StatusOther         Status = "other"          // anything else; StatusName says what
)

// Holder says who has a machine at its provider.
type Holder string

const (
	Nobody    Holder = ""      //
	ThisLab   Holder = "lab"   // this lab, by its own mark: not only by its user
	AJuju     Holder = "juju"  // a Juju model
	Otherwise Holder = "other" // another user, or another lab with the same user
)

// PowerState of a machine as its BMC says.
type PowerState string

const (
	PowerOn      PowerState = "on"
	PowerOff     PowerState = "off"
	PowerError   PowerState = "error"   // the BMC does not answer
	PowerUnknown PowerState = "unknown" // nobody has asked, or it cannot be asked
)

// A PowerAction is something to do with a machine's power.
type PowerAction string

const (
	SwitchOn    PowerAction = "on"
	SwitchOff   PowerAction = "off" // hard
	SwitchCycle PowerAction = "cycle"
)

// Provided is a machine as its provider lists it.
type Provided struct {
	ID            string            `json:"id"` // the provider's
	Hostname      string            `json:"hostname"`
	FQDN          string            `json:"fqdn,omitempty"`
	Status        Status            `json:"status"`
	StatusName    string            `json:"status_name"` // the provider's own word
	StatusMessage string            `json:"status_message,omitempty"`
	Holder        Holder            `json:"holder,omitempty"`
	Owner         string            `json:"owner,omitempty"` // the provider's user
	JujuModel     string            `json:"juju_model,omitempty"`
	Locked        bool              `json:"locked,omitempty"`
	Power         PowerState        `json:"power"`        // as last known; QueryPower asks
	PowerType     string            `json:"power_type"`   // ipmi, redfish, manual, …; manual: nobody but a person switches it
	Architecture  string            `json:"architecture"` // Debian's name
	Cores         int               `json:"cores"`
	MemoryMiB     int64             `json:"memory_mib"`
	StorageBytes  int64             `json:"storage_bytes"`
	Pool          string            `json:"pool"`
	Zone          string            `json:"zone"`
	Tags          []string          `json:"tags"`
	Addresses     []string          `json:"addresses"`
	MACs          []string          `json:"macs"`
	ProductUUID   string            `json:"product_uuid,omitempty"`
	NICs          []NIC             `json:"nics,omitempty"`
	Disks         []Disk            `json:"disks,omitempty"`
	Hardware      map[string]string `json:"hardware,omitempty"` // system_vendor, system_product, mainboard_firmware_version, cpu_model, … where the list has it
	OS            string            `json:"os,omitempty"`
	Release       string            `json:"release,omitempty"` // that is or was deployed: series
	Kernel        string            `json:"kernel,omitempty"`  // the provider's name of it: ga-24.04, hwe-24.04
	Description   string            `json:"description,omitempty"`
}

// NIC is a network card.
type NIC struct {
	Name       string `json:"name"`
	MAC        string `json:"mac"`
	Vendor     string `json:"vendor,omitempty"`
	Product    string `json:"product,omitempty"`
	Firmware   string `json:"firmware,omitempty"`
	SpeedMbits int    `json:"speed_mbits,omitempty"`
	Connected  bool   `json:"connected"`
}

// Disk is a disk.
type Disk struct {
	Name  string   `json:"name"`
	Model string   `json:"model,omitempty"`
	Bytes int64    `json:"bytes"`
	Tags  []string `json:"tags,omitempty"`
}

// Hardware is what examining a machine has found.
type Hardware struct {
	Vendor          string    `json:"vendor,omitempty"`
	Product         string    `json:"product,omitempty"`
	Version         string    `json:"version,omitempty"`
	Serial          string    `json:"serial,omitempty"`
	ProductUUID     string    `json:"product_uuid,omitempty"`
	FirmwareVendor  string    `json:"firmware_vendor,omitempty"`
	FirmwareVersion string    `json:"firmware_version,omitempty"`
	FirmwareDate    string    `json:"firmware_date,omitempty"`
	CPU             string    `json:"cpu,omitempty"`
	GPUs            []string  `json:"gpus,omitempty"` // "vendor product [pci id]"
	NICs            []string  `json:"nics,omitempty"`
	Read            time.Time `json:"read"`
}

// Image is a release that can be deployed.
type Image struct {
	OS      string   `json:"os"`      // ubuntu
	Release string   `json:"release"` // noble
	Title   string   `json:"title"`   // Ubuntu 24.04 LTS
	Kernels []string `json:"kernels"` // ga-24.04, hwe-24.04, …
	Default bool     `json:"default,omitempty"`
}

// DeployOptions say what a machine is to be deployed with.
type DeployOptions struct {
	OS        string // ubuntu if empty
	Release   string // series; the provider's default if empty
	Kernel    string // the provider's name; the release's default if empty
	UserData  []byte // not encoded; may hold secrets
	Ephemeral bool   // in memory, where the provider can
	Comment   string
}

// Erase says what is done to a machine's disks at release.
type Erase string

const (
	EraseNone   Erase = "none"
	EraseQuick  Erase = "quick"
	EraseSecure Erase = "secure" // where the disk can; else the whole disk is written
	EraseFull   Erase = "full"
)

// ReleaseOptions say how a machine is released.
type ReleaseOptions struct {
	Erase   Erase
	Comment string
}

// TestResult is one of the provider's hardware tests.
type TestResult struct {
	Script   string    `json:"script"`
	Status   string    `json:"status"` // passed, failed, running, …: the provider's word
	ExitCode *int      `json:"exit_code,omitempty"`
	Output   string    `json:"output,omitempty"` // its end
	Finished time.Time `json:"finished,omitzero"`
}

// ProviderEvent is something that the provider noted.
type ProviderEvent struct {
	ID    int64     `json:"id"`
	At    time.Time `json:"at"`
	Level string    `json:"level"`
	Type  string    `json:"type"`
	Text  string    `json:"text"`
}

// A ProviderFault classifies what a provider answered.
type ProviderFault string

const (
	ProviderUnreachable ProviderFault = "unreachable" // nothing was sent: nothing has happened
	ProviderOutcome     ProviderFault = "unknown"     // sent, and no answer or a gateway's: whether it happened has to be read
	ProviderBusy        ProviderFault = "busy"        // not now (503); Wait says when to come again. Nothing has happened
	ProviderConflict    ProviderFault = "conflict"    // the machine's state does not allow it (409): read it, do not repeat
	ProviderInvalid     ProviderFault = "invalid"     // the request is wrong and stays so (400)
	ProviderNotFound    ProviderFault = "not-found"   //
	ProviderForbidden   ProviderFault = "forbidden"   // the key's user lacks the right (403)
	ProviderRefused     ProviderFault = "refused"     // the key is not good (any more) (401)
	ProviderClock       ProviderFault = "clock"       // this machine's clock and the provider's differ too much
	ProviderForeign     ProviderFault = "foreign"     // we refuse: somebody else holds the machine
	ProviderNoRack      ProviderFault = "no-rack"     // nobody can reach the machine's BMC
	ProviderBroken      ProviderFault = "broken"      // anything else (500)
)

// A ProviderError is what a Provider's method failed with.
type ProviderError struct {
	Fault   ProviderFault
	Message string        // cannot …: why (what to do), for a person
	Wait    time.Duration // of Busy: how long to wait at least
}

func (e *ProviderError) Error() string { return e.Message }

// ProviderErrorf returns a *ProviderError.
func ProviderErrorf(fault ProviderFault, format string, args ...any) *ProviderError {
	return &ProviderError{Fault: fault, Message: fmt.Sprintf(format, args...)}
}

// ProviderFaultOf returns the fault of the first *ProviderError in err's chain, or ProviderBroken; empty for nil.
func ProviderFaultOf(err error) ProviderFault {
	if err == nil {
		return ""
	}
	var e *ProviderError
	if errors.As(err, &e) {
		return e.Fault
	}
	return ProviderBroken
}
