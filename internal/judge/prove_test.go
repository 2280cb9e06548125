package judge_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/judge"
	"certlab/internal/order"
)

func proposed() cert.Subject {
	return cert.Subject{Kind: cert.SubjectKernel, Series: "noble", Source: "linux", Version: "6.8.0-51.52", Pocket: "proposed"}
}

func boots() []order.Boot {
	return []order.Boot{{ID: "a", Kernel: "6.8.0-50-generic"}, {ID: "b", Kernel: "6.8.0-51-generic", Version: "6.8.0-51.52", Proved: true, Tests: true},
		{ID: "c", Kernel: "6.8.0-51-generic", Version: "6.8.0-51.52", Proved: true}, {ID: "d", Kernel: "6.8.0-51-generic", Version: "6.8.0-51.52", Proved: true, Tests: true},
		{ID: "e", Kernel: "6.8.0-50-generic"}}
}

func TestFaultResultsThatAreNotProved(t *testing.T) {
	t.Parallel()
	const kernel = "6.8.0-51-generic"
	evidence := func(change func(*judge.Evidence, []order.Boot)) judge.Evidence {
		list := boots()
		e := judge.Evidence{State: &order.SubjectState{Step: order.SubjectRestored, Boots: list}, Kernel: kernel}
		change(&e, list)
		return e
	}
	for name, test := range map[string]struct {
		change func(*judge.Evidence, []order.Boot)
		says   string // empty: it is proved
	}{
		"all is well":                     {func(*judge.Evidence, []order.Boot) {}, ""},
		"the submission names no kernel":  {func(e *judge.Evidence, _ []order.Boot) { e.Kernel = "" }, ""},
		"the submission names another":    {func(e *judge.Evidence, _ []order.Boot) { e.Kernel = "6.8.0-50-generic" }, "the submission says that 6.8.0-50-generic ran, not 6.8.0-51-generic"},
		"nothing is known":                {func(e *judge.Evidence, _ []order.Boot) { e.State = nil }, "has not said which kernel ran"},
		"nothing at all":                  {func(e *judge.Evidence, _ []order.Boot) { *e = judge.Evidence{} }, "has not said which kernel ran"},
		"it fell back between two tests":  {func(_ *judge.Evidence, b []order.Boot) { b[2].Kernel = "6.8.0-50-generic" }, "in boot c 6.8.0-50-generic ran"},
		"one boot was not looked at":      {func(_ *judge.Evidence, b []order.Boot) { b[3].Proved = false }, "boot d is not proved"},
		"the right name, another version": {func(_ *judge.Evidence, b []order.Boot) { b[1].Version = "6.8.0-51.53" }, "is of package version 6.8.0-51.53, not 6.8.0-51.52"},
		"only signed anew": {func(_ *judge.Evidence, b []order.Boot) {
			for n := range b[1:4] {
				b[n+1].Version = "6.8.0-51.52+1"
			}
		}, ""},
		"built anew":            {func(_ *judge.Evidence, b []order.Boot) { b[1].Version = "6.8.0-51.521" }, "is of package version 6.8.0-51.521"},
		"a build of somebody's": {func(_ *judge.Evidence, b []order.Boot) { b[1].Version = "6.8.0-51.52+lp1" }, "is of package version 6.8.0-51.52+lp1"},
		"no job ran":            {func(_ *judge.Evidence, b []order.Boot) { b[1].Tests, b[3].Tests = false, false }, "no boot is known in which jobs ran"},
		"only selected":         {func(e *judge.Evidence, _ []order.Boot) { e.State.Step = order.SubjectSelected }, "got no further than selected"},
		"refused":               {func(e *judge.Evidence, _ []order.Boot) { e.State.Step, e.State.Problem = order.SubjectRefused, "held" }, "refused: held"},
		"no boots":              {func(e *judge.Evidence, _ []order.Boot) { e.State.Boots = nil }, "no boot is known"},
		"by hand": {func(e *judge.Evidence, _ []order.Boot) {
			*e = judge.Evidence{Attached: true, Kernel: kernel, Packages: map[string]string{"linux-image-" + kernel: "6.8.0-51.52"}}
		}, ""},
		"by hand, another version": {func(e *judge.Evidence, _ []order.Boot) {
			*e = judge.Evidence{Attached: true, Kernel: kernel, Packages: map[string]string{"linux-image-" + kernel: "6.8.0-51.53"}}
		}, "was installed in version 6.8.0-51.53"},
		"by hand, no packages": {func(e *judge.Evidence, _ []order.Boot) { *e = judge.Evidence{Attached: true, Kernel: kernel} }, "does not list packages"},
		"by hand, no kernel": {func(e *judge.Evidence, _ []order.Boot) {
			*e = judge.Evidence{Attached: true, Packages: map[string]string{}}
		}, "does not say which kernel ran"},
	} {
		p := judge.Prove(proposed(), evidence(test.change))
		require.True(t, p.Needed, name)
		require.Equal(t, test.says == "", p.OK, "%s: %s", name, p.Why)
		require.Contains(t, p.Why, test.says, name)
	}
}

func TestOtherSubjectsAreProvedToo(t *testing.T) {
	t.Parallel()
	require.Equal(t, cert.Proof{OK: true, Kernel: "x"}, judge.Prove(cert.Subject{Kind: cert.SubjectMachine}, judge.Evidence{Kernel: "x"}))
	image := cert.Subject{Kind: cert.SubjectImage, Series: "noble", Serial: "20261120"}
	require.True(t, judge.Prove(image, judge.Evidence{Serial: "20261120"}).OK)
	require.Equal(t, "it is not known which image was deployed", judge.Prove(image, judge.Evidence{}).Why)
	require.Equal(t, "image 20261119 was deployed, not 20261120", judge.Prove(image, judge.Evidence{Serial: "20261119"}).Why)
	mesa := cert.Subject{Kind: cert.SubjectPackages, Series: "noble", Source: "mesa", Version: "24.1", Packages: []order.Package{{Name: "libgl1"}, {Name: "libdrm2", Version: "2.4"}}}
	state := order.SubjectState{Step: order.SubjectProved, Boots: []order.Boot{{ID: "a", Proved: true, Tests: true}}, Installed: []order.Package{{Name: "libgl1", Version: "24.1"}, {Name: "libdrm2", Version: "2.4"}}}
	require.True(t, judge.Prove(mesa, judge.Evidence{State: &state}).OK)
	require.Contains(t, judge.Prove(mesa, judge.Evidence{State: &state, Packages: map[string]string{"libgl1": "24.0"}}).Why, "the submission says that libgl1 was 24.0")
	state.Installed = state.Installed[:1]
	require.Equal(t, "libdrm2 was not installed, not 2.4", judge.Prove(mesa, judge.Evidence{State: &state}).Why)
	mesa.Packages = nil
	require.False(t, judge.Prove(mesa, judge.Evidence{State: &state}).OK, "nothing was asked for, so that nothing is proved")
	require.False(t, judge.Prove(cert.Subject{Kind: "what"}, judge.Evidence{}).OK)
}
