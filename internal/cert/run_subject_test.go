package cert_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
)

// TestFaultSubjectOfARunIsRefused orders runs whose subject would make a machine's root do something else than install packages.
func TestFaultSubjectOfARunIsRefused(t *testing.T) {
	t.Parallel()
	good := func() *order.Subject {
		return &order.Subject{Kind: order.SubjectKernel, Series: "noble", Source: "linux", Flavour: "generic", Version: "6.8.0-51.52",
			Archive:  &order.Archive{URI: "https://archive.example.com/ubuntu", Suite: "noble", Components: []string{"main"}, Key: "-----BEGIN PGP PUBLIC KEY BLOCK-----\n"},
			Packages: []order.Package{{Name: "linux-tools-6.8.0-51-generic", Version: "6.8.0-51.52"}}}
	}
	require.NoError(t, cert.Spec{Plan: "a::b", Subject: good()}.Validate())
	for name, change := range map[string]func(*order.Subject){
		"an option as a package":      func(s *order.Subject) { s.Packages[0].Name = "-oDpkg::Pre-Invoke::=x" },
		"an option as a version":      func(s *order.Subject) { s.Packages[0].Version = "-o" },
		"a line in a package":         func(s *order.Subject) { s.Packages[0].Name = "a\nPin: origin" },
		"a line at a version's end":   func(s *order.Subject) { s.Version = "6.8.0-51.52\n" },
		"a line in a pocket":          func(s *order.Subject) { s.Archive, s.Pocket = nil, "proposed\nTrusted: yes" },
		"a line in a suite":           func(s *order.Subject) { s.Archive.Suite = "noble\nTrusted: yes" },
		"a line in a component":       func(s *order.Subject) { s.Archive.Components = []string{"main\nTrusted: yes"} },
		"a line in an address":        func(s *order.Subject) { s.Archive.URI = "https://a.example.com/\nTrusted: yes" },
		"a program as an address":     func(s *order.Subject) { s.Archive.URI = "rsh://a.example.com/ubuntu" },
		"a password":                  func(s *order.Subject) { s.Archive.URI = "https://me:hidden@a.example.com/ubuntu" },
		"a line in a password":        func(s *order.Subject) { s.Archive.URI = "https://me:a%0amachine@a.example.com/ubuntu" },
		"what leads out of a suite":   func(s *order.Subject) { s.Archive.Suite = "noble/../../x" },
		"no key":                      func(s *order.Subject) { s.Archive.Key = "Types: deb" },
		"a menu's entry as a kernel":  func(s *order.Subject) { s.KernelRelease = "$(reboot)" },
		"a kernel's release of lines": func(s *order.Subject) { s.KernelRelease = "6.8.0-51-generic\"\nGRUB_CMDLINE_LINUX=x" },
		"another kind":                func(s *order.Subject) { s.Kind = "script" },
	} {
		s := good()
		change(s)
		err := cert.Spec{Plan: "a::b", Subject: s}.Validate()
		require.Equal(t, cert.Invalid, cert.CodeOf(err), name)
		require.ErrorContains(t, err, "cannot use ", name)
	}
	s := good()
	s.Archive.URI = "https://me:a%0amachine@a.example.com/ubuntu"
	require.EqualError(t, s.Check(), "cannot use the URI of the subject's archive: there are spaces or control characters in its user and password", "by the agent too")
}

// TestFaultSubjectStateIsTooLarge takes in reports of what a machine says of its subject.
func TestFaultSubjectStateIsTooLarge(t *testing.T) {
	t.Parallel()
	report := func(s *order.SubjectState) error {
		return cert.Report{Attempt: 1, Origin: cert.FromOrder, State: cert.Running, Subject: s}.Validate()
	}
	require.NoError(t, report(&order.SubjectState{Boots: make([]order.Boot, 1000)}))
	require.EqualError(t, report(&order.SubjectState{Boots: make([]order.Boot, 1001)}), "cannot accept the report: its subject has 1001 boots and 0 packages, at most 1000 and 1000 are kept")
	err := report(&order.SubjectState{Problem: strings.Repeat("x", 1<<20)})
	require.Equal(t, cert.Rejected, cert.CodeOf(err))
	require.EqualError(t, err, "cannot accept the report: its subject has 1048576 bytes, at most 524288 are kept")
}
