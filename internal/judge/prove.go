package judge

import (
	"fmt"
	"regexp"
	"strings"

	"certlab/internal/cert"
	"certlab/internal/order"
)

// Evidence is what is known of what ran while a submission was made.
type Evidence struct {
	State    *order.SubjectState // the agent's word, of the attempt; nil: none
	Kernel   string              // uname -r, as the submission says; empty: it does not
	Packages map[string]string   // name → version, as the submission says; nil: it does not
	Serial   string              // of the image that was deployed; empty: not known
	Attached bool                // a person added the submission: no agent of this lab watched
}

// Prove says whether a submission is of the subject. What is not known proves nothing.
func Prove(s cert.Subject, e Evidence) cert.Proof {
	p := cert.Proof{Kernel: e.Kernel, Needed: s.Kind != cert.SubjectMachine}
	if e.State != nil {
		p.Boots = e.State.Boots
		for _, b := range e.State.Boots {
			if b.Tests && p.Kernel == "" {
				p.Kernel = b.Kernel
			}
		}
	}
	if !p.Needed {
		p.OK = true
		return p
	}
	switch s.Kind {
	case cert.SubjectImage:
		p.Why = proveImage(s, e)
	case cert.SubjectKernel:
		p.Why = proveKernel(s, e)
	case cert.SubjectPackages:
		p.Why = provePackages(s, e)
	default:
		p.Why = fmt.Sprintf("nobody knows how to prove a subject of kind %q", s.Kind)
	}
	p.OK = p.Why == ""
	return p
}

func proveImage(s cert.Subject, e Evidence) string {
	switch {
	case e.Serial == "":
		return "it is not known which image was deployed"
	case s.Serial == "" || e.Serial != s.Serial:
		return fmt.Sprintf("image %s was deployed, not %s", e.Serial, s.Serial)
	}
	return ""
}

func proveKernel(s cert.Subject, e Evidence) string {
	want, err := s.KernelRelease()
	if err != nil {
		return err.Error()
	}
	if e.Kernel != "" && e.Kernel != want {
		return fmt.Sprintf("the submission says that %s ran, not %s", e.Kernel, want)
	}
	if e.State != nil {
		return proveBoots(e.State, func(b order.Boot) string {
			if b.Kernel != want {
				return fmt.Sprintf("%s ran, not %s", orNothing(b.Kernel), want)
			}
			if !imageOf(b.Version, s.Version) {
				return fmt.Sprintf("%s is of package version %s, not %s", want, orNothing(b.Version), s.Version)
			}
			return ""
		})
	}
	switch {
	case !e.Attached:
		return "the machine's agent has not said which kernel ran"
	case e.Kernel == "":
		return "the submission does not say which kernel ran"
	case e.Packages == nil:
		return "the submission does not list packages: it is not known of which version " + e.Kernel + " was"
	}
	for _, name := range []string{"linux-image-" + want, "linux-image-unsigned-" + want} {
		if version, ok := e.Packages[name]; ok {
			if !imageOf(version, s.Version) {
				return fmt.Sprintf("%s was installed in version %s, not %s", name, version, s.Version)
			}
			return ""
		}
	}
	return "the submission lists no package linux-image-" + want
}

// imageOf reports whether an image of a version is the kernel of another one: it is the same, or was only signed anew (6.8.0-51.52+1), without being built
// anew.
func imageOf(image, kernel string) bool {
	rest, ok := strings.CutPrefix(image, kernel)
	return ok && kernel != "" && (rest == "" || signedAnew.MatchString(rest))
}

var signedAnew = regexp.MustCompile(`^\+\d{1,6}$`)

func orNothing(s string) string {
	if s == "" {
		return "nobody knows what"
	}
	return s
}

// proveBoots checks every boot from the first in which jobs ran to the last: none of them may have been of anything else.
func proveBoots(state *order.SubjectState, wrong func(order.Boot) string) string {
	switch state.Step {
	case order.SubjectProved, order.SubjectRestoring, order.SubjectRestored, order.SubjectDirty:
	default:
		why := "the machine's agent got no further than " + orNothing(state.Step)
		if state.Problem != "" {
			why += ": " + state.Problem
		}
		return why
	}
	tested, last := false, -1
	for n, b := range state.Boots {
		if b.Tests {
			last = n
		}
	}
	for n, b := range state.Boots {
		if n > last {
			break // the machine is being put back
		}
		if tested = tested || b.Tests; !tested {
			continue
		}
		switch why := wrong(b); {
		case why != "":
			return fmt.Sprintf("in boot %s %s", orNothing(b.ID), why)
		case b.ID == "":
			return "a boot has no id"
		case !b.Proved && b.Problem != "":
			return fmt.Sprintf("boot %s is not proved: %s", b.ID, b.Problem)
		case !b.Proved:
			return fmt.Sprintf("boot %s is not proved", b.ID)
		}
	}
	if !tested {
		return "no boot is known in which jobs ran"
	}
	return ""
}

func provePackages(s cert.Subject, e Evidence) string {
	want := map[string]string{}
	for _, p := range s.Packages {
		want[p.Name] = p.Version
		if p.Version == "" {
			want[p.Name] = s.Version
		}
	}
	have := e.Packages
	if e.State != nil {
		if why := proveBoots(e.State, func(order.Boot) string { return "" }); why != "" {
			return why
		}
		have = map[string]string{}
		for _, p := range e.State.Installed {
			have[p.Name] = p.Version
		}
	} else if !e.Attached {
		return "the machine's agent has not said which packages were installed"
	}
	if len(want) == 0 {
		return "the subject names no packages"
	}
	var wrong []string
	for _, p := range s.Packages {
		if version := have[p.Name]; version != want[p.Name] {
			wrong = append(wrong, fmt.Sprintf("%s was %s, not %s", p.Name, installed(version), want[p.Name]))
		}
		if version, ok := e.Packages[p.Name]; ok && version != want[p.Name] && have[p.Name] == want[p.Name] {
			wrong = append(wrong, fmt.Sprintf("the submission says that %s was %s, not %s", p.Name, version, want[p.Name]))
		}
	}
	return strings.Join(wrong, "; ")
}

func installed(version string) string {
	if version == "" {
		return "not installed"
	}
	return "version " + version
}
