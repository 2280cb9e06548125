package order

import "time"

// Kinds of a Subject.
const (
	SubjectKernel   = "kernel"
	SubjectPackages = "packages"
)

// A Subject is what a machine is made to run before a plan, and is proved to run at each boot until the plan's end: a kernel, or other packages, in
// exactly one version each.
type Subject struct {
	Kind    string `json:"kind"`              // kernel or packages
	Series  string `json:"series"`            // codename of the release, such as noble
	Source  string `json:"source"`            // source package, such as linux or linux-oem-6.8
	Flavour string `json:"flavour,omitempty"` // of a kernel, such as generic
	Version string `json:"version"`           // of the package, such as 6.8.0-51.52; exactly this one
	// KernelRelease is what uname -r says on that kernel, such as 6.8.0-51-generic.
	KernelRelease string `json:"kernel_release,omitempty"`
	Pocket        string `json:"pocket,omitempty"` // proposed, updates, security or release of the machine's own archive; empty: Archive, or what the machine has
	// Archive is where the packages are, instead of a pocket: a PPA, or a site's own.
	Archive *Archive `json:"archive,omitempty"`
	// Packages are the binary packages of a subject of kind packages. Of a kernel: more of them that must be there, besides those that its name and
	// what the machine has of the kernel before tell.
	Packages []Package `json:"packages,omitempty"`
	// Restore says that the machine is not deployed anew afterwards: packages, pocket, pins and boot default go back to what they were, and that is
	// verified.
	Restore bool `json:"restore,omitempty"`
}

// An Archive is an apt archive.
type Archive struct {
	URI        string   `json:"uri"`
	Suite      string   `json:"suite"`
	Components []string `json:"components,omitempty"` // empty: main
	Key        string   `json:"key,omitempty"`        // OpenPGP public key, ASCII armoured; empty: one that the machine trusts already
}

// A Package is a binary package in one version; without a version, whichever.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
}

// Steps of a subject on a machine.
const (
	SubjectInstalling = "installing" // apt
	SubjectSelected   = "selected"   // it is the default of the next boot; the machine is going down, or has gone
	SubjectProved     = "proved"     // the machine runs it
	SubjectRefused    = "refused"    // it could not be installed or selected: FailWrongKernel
	SubjectFell       = "fell-back"  // it was selected, and the machine has booted another: FailKernelBoot
	SubjectRestoring  = "restoring"
	SubjectRestored   = "restored" // all is as before, verified
	SubjectDirty      = "dirty"    // it could not be put back: the machine takes no runs until a person has seen to it
)

// SubjectState is how far a machine is with its subject.
type SubjectState struct {
	Step      string    `json:"step"`
	Installed []Package `json:"installed,omitempty"` // the subject's packages, as dpkg has them
	Before    string    `json:"before,omitempty"`    // kernel that ran before
	Boots     []Boot    `json:"boots,omitempty"`     // of the attempt, in order, the one that it began in first
	Problem   string    `json:"problem,omitempty"`   // why it is refused, fell-back or dirty
}

// A Boot is one boot of a machine in an attempt, with the kernel that ran.
type Boot struct {
	ID       string    `json:"id"`
	Kernel   string    `json:"kernel"`            // uname -r
	Version  string    `json:"version,omitempty"` // of the package that this kernel's image is of, as dpkg has it
	At       time.Time `json:"at"`
	Proved   bool      `json:"proved"`             // kernel and packages are the subject's
	Tests    bool      `json:"tests"`              // jobs of the plan ran in this boot
	Problem  string    `json:"problem,omitempty"`  // what was not the subject's
	Verified time.Time `json:"verified,omitempty"` // when it was looked at last
}

// Failures about a subject.
const (
	FailWrongKernel = "wrong-kernel" // the subject could not be installed or selected: infrastructure
	FailKernelBoot  = "kernel-boot"  // it was selected, and the machine did not boot, panicked, hung or fell back to another: a finding
	FailUnproved    = "unproved"     // the jobs ran, on something else than the subject: the results say nothing about it
)

// PlannedJob is one line of a JobsFile: a job that the plan has on this machine.
type PlannedJob struct {
	ID     string `json:"id"` // full id
	Plugin string `json:"plugin,omitempty"`
}
