package cert_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
)

func kernel(change func(*cert.Subject)) cert.Subject {
	s := cert.Subject{Kind: cert.SubjectKernel, Series: "noble", Source: "linux", Version: "6.8.0-51.52", Pocket: "proposed"}
	if change != nil {
		change(&s)
	}
	return s
}

func TestKernelReleaseFollowsFromTheVersion(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ source, flavour, version, want string }{
		{"linux", "", "6.8.0-51.52", "6.8.0-51-generic"},
		{"linux", "lowlatency", "6.8.0-51.52.1", ""},
		{"linux-hwe-6.8", "", "6.8.0-51.52~22.04.1", "6.8.0-51-generic"},
		{"linux", "generic", "5.15.0-127.137+1", "5.15.0-127-generic"},
		{"linux-oem-6.8", "", "6.8.0-1018.18", "6.8.0-1018-oem"},
		{"linux-lowlatency-hwe-6.8", "", "6.8.0-51.52.1~22.04.1", ""},
		{"linux-lowlatency", "", "6.8.0-51.52", "6.8.0-51-lowlatency"},
		{"linux-realtime", "", "6.8.1-1015.16", "6.8.1-1015-realtime"},
		{"linux-aws-6.8", "", "6.8.0-1020.22~22.04.1", "6.8.0-1020-aws"},
		{"linux-nvidia", "nvidia-64k", "6.8.0-1019.21", "6.8.0-1019-nvidia-64k"},
		{"linux", "", "6.8.0.51.52", ""}, // a meta package's
		{"linux", "", "6.8.0-51", ""},
		{"linux", "", "", ""},
		{"linux", "", "6.8.0-*", ""},
	} {
		got, err := cert.Subject{Kind: cert.SubjectKernel, Source: test.source, Flavour: test.flavour, Version: test.version}.KernelRelease()
		if test.want == "" {
			require.Equal(t, cert.Invalid, cert.CodeOf(err), "%+v gave %q", test, got)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, test.want, got)
	}
}

func TestFaultSubjectsThatNobodyCanTest(t *testing.T) {
	t.Parallel()
	require.NoError(t, kernel(nil).Validate())
	for _, test := range []struct {
		change func(*cert.Subject)
		says   string
	}{
		{func(s *cert.Subject) { s.Kind = "kernal" }, `a subject of kind "kernal" (did you mean kernel?)`},
		{func(s *cert.Subject) { s.Kind = "" }, "say what kind of subject it is"},
		{func(s *cert.Subject) { s.Series = "" }, "give its series, such as noble"},
		{func(s *cert.Subject) { s.Series = "Noble" }, "its codename in lower case"},
		{func(s *cert.Subject) { s.Source = "" }, "give its source package"},
		{func(s *cert.Subject) { s.Source = "linux-meta" }, "it goes with one"},
		{func(s *cert.Subject) { s.Source = "mesa" }, "it is linux, or begins with linux-"},
		{func(s *cert.Subject) { s.Version = "" }, "without its exact version"},
		{func(s *cert.Subject) { s.Version = "6.8.0-5*" }, "it has to be exactly one"},
		{func(s *cert.Subject) { s.Version = "6.8.0.51.52" }, "not that of a meta package"},
		{func(s *cert.Subject) { s.Version = "6.8.0-51.52; rm -rf /" }, "it is one word"},
		{func(s *cert.Subject) { s.Pocket = "propsed" }, "did you mean proposed?"},
		{func(s *cert.Subject) { s.PPA = "ppa:a/b" }, "give one of pocket, ppa and archive"},
		{func(s *cert.Subject) { s.Pocket, s.PPA = "", "a/b" }, "name it as ppa:owner/name"},
		{func(s *cert.Subject) { s.Pocket, s.Archive = "", &order.Archive{URI: "http://user:pw@x/", Suite: "n"} }, "without a password"},
		{func(s *cert.Subject) { s.Spin = -1 }, "from 1 to 1000"},
		{func(s *cert.Subject) { s.Tracker = "LP: #1" }, "give its address"},
		{func(s *cert.Subject) { s.Packages = []order.Package{{Name: "--reinstall"}} }, "is not a package's name"},
		{func(s *cert.Subject) { *s = cert.Subject{Kind: cert.SubjectMachine, Version: "1"} }, "the machine as it is"},
		{func(s *cert.Subject) { *s = cert.Subject{Kind: cert.SubjectImage, Series: "noble"} }, "give its serial"},
		{func(s *cert.Subject) {
			*s = cert.Subject{Kind: cert.SubjectPackages, Series: "noble", Source: "mesa", Version: "24.0"}
		}, "name the binary packages of mesa"},
	} {
		err := kernel(test.change).Validate()
		require.Equal(t, cert.Invalid, cert.CodeOf(err), test.says)
		require.ErrorContains(t, err, test.says)
		_, err = kernel(test.change).Order(true)
		require.Error(t, err, "and nothing is asked of an agent")
	}
	long := kernel(func(s *cert.Subject) { s.Cycle = strings.Repeat("x", 300) })
	require.ErrorContains(t, long.Validate(), "at most 200 bytes")
}

func TestSubjectOrderIsWhatAnAgentNeeds(t *testing.T) {
	t.Parallel()
	o, err := kernel(nil).Order(true)
	require.NoError(t, err)
	require.Equal(t, &order.Subject{Kind: "kernel", Series: "noble", Source: "linux", Flavour: "generic", Version: "6.8.0-51.52", KernelRelease: "6.8.0-51-generic", Pocket: "proposed", Restore: true}, o)
	o, err = kernel(func(s *cert.Subject) { s.Pocket, s.PPA = "", "ppa:canonical-kernel-team/proposed2" }).Order(false)
	require.NoError(t, err)
	require.Equal(t, &order.Archive{URI: "https://ppa.launchpadcontent.net/canonical-kernel-team/proposed2/ubuntu", Suite: "noble"}, o.Archive)
	o, err = cert.Subject{Kind: cert.SubjectPackages, Series: "noble", Source: "mesa", Version: "24.0-1", Packages: []order.Package{{Name: "libgl1"}, {Name: "libdrm2", Version: "2.4"}}}.Order(false)
	require.NoError(t, err)
	require.Equal(t, []order.Package{{Name: "libgl1", Version: "24.0-1"}, {Name: "libdrm2", Version: "2.4"}}, o.Packages)
	o, err = cert.Subject{Kind: cert.SubjectMachine}.Order(false)
	require.NoError(t, err)
	require.Nil(t, o)
}

func TestNewerSubjectsSupersede(t *testing.T) {
	t.Parallel()
	older, newer := kernel(nil), kernel(func(s *cert.Subject) { s.Version = "6.8.0-52.53" })
	require.Equal(t, "kernel/noble/linux/generic/", older.Key())
	require.True(t, newer.Newer(older))
	require.False(t, older.Newer(newer))
	require.False(t, older.Newer(older))
	require.True(t, kernel(func(s *cert.Subject) { s.Spin = 2 }).Newer(kernel(func(s *cert.Subject) { s.Spin = 1 })))
	require.False(t, kernel(func(s *cert.Subject) { s.Spin = 2 }).Newer(kernel(nil)), "a spin that is not known is not an older one")
	require.False(t, kernel(func(s *cert.Subject) { s.Version, s.Flavour = "6.8.0-52.53", "lowlatency" }).Newer(older), "another flavour is another subject")
	require.Equal(t, "linux 6.8.0-51.52 (generic) for noble from proposed", older.Title())
}
