package order

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

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
	Lacking   []string  `json:"lacking,omitempty"`   // what the machine has with its kernel and the subject does not have, such as a driver
	Before    string    `json:"before,omitempty"`    // kernel that ran before
	Boots     []Boot    `json:"boots,omitempty"`     // of the attempt, in order, the one that it began in first
	Problem   string    `json:"problem,omitempty"`   // why it is refused, fell-back or dirty
	// GivenUp is the controller's word, and no agent's takes it back: why it gave the machine up as one that does not come up with the subject.
	GivenUp string `json:"given_up,omitempty"`
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

// Release is what uname -r says on a subject that is a kernel: KernelRelease, or what Ubuntu's numbers tell, such as 6.8.0-51-generic for 6.8.0-51.52
// or 6.8.0-51.52~22.04.1 of flavour generic. Empty: it cannot be told.
func (s *Subject) Release() string {
	if s.KernelRelease != "" {
		return s.KernelRelease
	}
	version, _, _ := strings.Cut(s.Version, "~")
	if m := ubuntuKernel.FindStringSubmatch(version); m != nil && s.Flavour != "" {
		return m[1] + "-" + s.Flavour
	}
	return ""
}

var (
	ubuntuKernel = regexp.MustCompile(`^(\d+\.\d+\.\d+-\d+)\.\d+`)

	subjectName    = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
	subjectVersion = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.+:~-]*$`)
	subjectWord    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]*$`)
	subjectRelease = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.+_~-]*$`)
)

// Check refuses a subject that no machine could be asked to install, and what would end up elsewhere than it should in apt's files.
func (s *Subject) Check() error {
	refuse := func(what, value, like string) error {
		return fmt.Errorf("cannot use %.100q as the subject's %s: it is not like %s", value, what, like)
	}
	optional := func(pattern *regexp.Regexp, value string) bool { return value == "" || pattern.MatchString(value) }
	switch {
	case s.Kind != SubjectKernel && s.Kind != SubjectPackages:
		return fmt.Errorf("cannot use a subject of kind %.100q: there are %s and %s", s.Kind, SubjectKernel, SubjectPackages)
	case !optional(subjectName, s.Source):
		return refuse("source", s.Source, "linux-oem-6.8")
	case !subjectWord.MatchString(s.Series):
		return refuse("series", s.Series, "noble")
	case !optional(subjectName, s.Flavour) && s.Flavour != "":
		return refuse("flavour", s.Flavour, "generic")
	case !subjectVersion.MatchString(s.Version):
		return refuse("version", s.Version, "6.8.0-51.52")
	case !optional(subjectRelease, s.KernelRelease):
		return refuse("kernel release", s.KernelRelease, "6.8.0-51-generic")
	case !optional(subjectWord, s.Pocket):
		return refuse("pocket", s.Pocket, "proposed")
	case s.Kind == SubjectKernel && s.Release() == "":
		return fmt.Errorf("cannot tell what uname -r says on %s %s: name the subject's kernel_release", s.Source, s.Version)
	case s.Kind == SubjectPackages && s.Source == "" && len(s.Packages) == 0:
		return errors.New("cannot use a subject without packages: name a source or packages")
	case len(s.Packages) > 200:
		return errors.New("cannot use a subject of more than 200 packages")
	}
	for _, p := range s.Packages {
		if !subjectName.MatchString(p.Name) || !optional(subjectVersion, p.Version) {
			return refuse("package", p.Name+" "+p.Version, "linux-tools-6.8.0-51-generic 6.8.0-51.52")
		}
	}
	if a := s.Archive; a != nil {
		u, err := url.Parse(a.URI)
		unsafe := func(r rune) bool { return r <= ' ' || r == 0x7f }
		switch {
		case err == nil && u.User != nil && strings.ContainsFunc(userOf(u), unsafe):
			return errors.New("cannot use the URI of the subject's archive: there are spaces or control characters in its user and password")
		case err != nil || strings.ContainsAny(a.URI, " \t\r\n[]") || !slices.Contains([]string{"http", "https", "file", "copy"}, u.Scheme):
			return errors.New("cannot use the URI of the subject's archive: it is not like https://ppa.launchpadcontent.net/team/ppa/ubuntu")
		case s.Pocket != "":
			return errors.New("cannot use a subject with both a pocket and an archive")
		case !subjectWord.MatchString(a.Suite):
			return refuse("suite", a.Suite, "noble")
		case len(a.Key) > 1<<20 || a.Key != "" && !strings.HasPrefix(strings.TrimSpace(a.Key), "-----BEGIN PGP PUBLIC KEY BLOCK-----"):
			return errors.New("cannot use the key of the subject's archive: it is no OpenPGP public key, ASCII armoured")
		}
		for _, c := range a.Components {
			if !subjectWord.MatchString(c) {
				return refuse("component", c, "main")
			}
		}
	}
	return nil
}

// userOf is the user and the password of an address as they are, not as they are written in it.
func userOf(u *url.URL) string {
	password, _ := u.User.Password()
	return u.User.Username() + password
}
