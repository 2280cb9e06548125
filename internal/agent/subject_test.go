package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/agent/apt/apttest"
	"certlab/internal/agent/checkbox"
	"certlab/internal/debarchive"
	"certlab/internal/order"
)

// subjectRig is a rig on a machine whose packages and kernel may be changed.
func subjectRig(t *testing.T, s script, installed, more []debarchive.Package) (*rig, *apttest.Machine) {
	t.Helper()
	m := apttest.NewMachine(t, installed, more)
	g, _ := scriptedRig(t, s)
	g.opts.Path = m.Bin + ":" + os.Getenv("PATH")
	g.opts.WriteRetry = 100 * time.Millisecond
	g.opts.Subject = SubjectOptions{Root: m.Root, Env: m.Env, ReleaseFile: m.Release, SignatureFile: m.Path("version_signature"),
		LockWait: 100 * time.Millisecond, Patience: 10 * time.Millisecond, RebootLimit: time.Minute, Timeout: time.Minute}
	return g, m
}

func newKernel() *order.Subject {
	return &order.Subject{Kind: order.SubjectKernel, Series: "noble", Source: "linux", Flavour: "generic", Version: apttest.New, Pocket: "proposed", Restore: true}
}

func underTest(sub *order.Subject) order.Spec { return order.Spec{Plan: small.Plan, Subject: sub} }

// comesUp waits until the machine is told to go down, and has it come up with a kernel.
func (g *rig) comesUp(m *apttest.Machine, boot, kernel string) {
	g.t.Helper()
	g.until("the machine is told to reboot", time.Minute, func() bool { return exists(m.Asked) })
	g.killAll()
	m.Boots(kernel)
	g.boot(boot)
	g.launch()
}

// clean waits until the machine is put back.
func (g *rig) clean() {
	g.t.Helper()
	g.until("the machine is put back", time.Minute, func() bool {
		s, err := g.client.Status(context.Background())
		return err == nil && s.Restoring == "" && !exists(filepath.Join(g.dir, holdingFile))
	})
}

func (g *rig) status() order.AgentStatus {
	g.t.Helper()
	s, err := g.client.Status(context.Background())
	require.NoError(g.t, err)
	return s
}

func steps(r order.Run) (all []string) {
	for _, b := range r.Subject.Boots {
		all = append(all, fmt.Sprintf("%s %s %s proved=%v tests=%v", b.ID, b.Kernel, b.Version, b.Proved, b.Tests))
	}
	return all
}

func TestKernelIsInstalledBootedProvedAndTakenOffAgain(t *testing.T) {
	t.Parallel()
	g, m := subjectRig(t, small, nil, nil)
	before, versions := m.Files(), m.Versions()
	g.start()
	id := g.run(underTest(newKernel()))
	g.until("the machine is told to reboot", time.Minute, func() bool { return exists(m.Asked) })
	r, err := g.client.Run(t.Context(), id, 0)
	require.NoError(t, err)
	require.Equal(t, order.SubjectSelected, r.Subject.Step)
	require.Equal(t, order.Booting, r.Progress.Phase)
	require.Equal(t, int64(900), r.Progress.QuietSeconds)
	g.comesUp(m, "boot-2", apttest.After)
	r = g.wait(id)
	require.Nil(t, r.Failure)
	require.Equal(t, order.Completed, r.State)
	require.Equal(t, []string{"boot-1 6.8.0-50-generic 6.8.0-50.51 proved=false tests=false", "boot-2 6.8.0-51-generic 6.8.0-51.52 proved=true tests=true"}, steps(r))
	require.Equal(t, apttest.Before, r.Subject.Before)
	require.Len(t, r.Subject.Installed, 4)
	require.Equal(t, order.JobsFile, r.Files[len(r.Files)-1].Kind)
	planned, err := os.ReadFile(filepath.Join(g.dir, "spool", id, plannedFile))
	require.NoError(t, err)
	require.JSONEq(t, `[{"id":"com.example.lab::pass","plugin":"shell"}]`, string(planned))

	// Another run waits until the machine is what it was, which takes a boot: dpkg does not remove the kernel that runs.
	next := g.run(order.Spec{Plan: small.Plan})
	g.until("the machine is told to reboot", time.Minute, func() bool { return exists(m.Asked) })
	require.Equal(t, id, g.status().Restoring)
	waits, err := g.client.Run(t.Context(), next, 0)
	require.NoError(t, err)
	require.Equal(t, order.Queued, waits.State)
	g.comesUp(m, "boot-3", apttest.Before)
	g.clean()
	require.Equal(t, versions, m.Versions())
	require.Empty(t, apttest.Differ(before, m.Files()))
	r = g.wait(id)
	require.Equal(t, order.SubjectRestored, r.Subject.Step)
	require.Equal(t, order.Completed, g.wait(next).State)
}

// stumble has the agent be killed before each command that it runs, the first time that it does.
func stumble(m *apttest.Machine) {
	for name, real := range map[string]string{"apt-get": "/usr/bin/apt-get", "apt-cache": "/usr/bin/apt-cache", "systemctl": "$bin/systemctl.real", "update-grub": "$bin/update-grub.real"} {
		if strings.HasSuffix(real, ".real") {
			os.Rename(filepath.Join(m.Bin, name), filepath.Join(m.Bin, name+".real"))
		}
		m.Program(name, `mark="$bin/done-$(echo "$0 $*" | md5sum | cut -c 1-12)"
if [ ! -e "$mark" ]; then : > "$mark"; kill -KILL $PPID; exit 1; fi
exec `+real+` "$@"`)
	}
}

func TestFaultAgentIsKilledAtEachStepOfASubject(t *testing.T) {
	t.Parallel()
	g, m := subjectRig(t, small, nil, nil)
	before, versions := m.Files(), m.Versions()
	stumble(m)
	g.start()
	id := g.run(underTest(newKernel()))
	kills := 0
	// relaunch starts the agent again whenever it was killed, until something holds.
	relaunch := func(what string, done func() bool) {
		died := make(chan struct{})
		wait := func() {
			died = make(chan struct{})
			cmd, over := g.cmd, died
			go func() { cmd.Wait(); close(over) }()
		}
		wait()
		defer func() {
			if g.cmd.Process.Kill() == nil {
				<-died
			}
		}()
		deadline := time.After(2 * time.Minute)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for !done() {
			select {
			case <-died:
				kills++
				g.begin()
				wait()
			case <-tick.C:
			case <-deadline:
				require.FailNow(t, "it took too long until "+what)
			}
		}
	}
	relaunch("the machine is told to reboot", func() bool { return exists(m.Asked) })
	m.Boots(apttest.After)
	g.boot("boot-2")
	g.launch()
	r := g.wait(id)
	require.Nil(t, r.Failure)
	require.Equal(t, []string{"boot-1 6.8.0-50-generic 6.8.0-50.51 proved=false tests=false", "boot-2 6.8.0-51-generic 6.8.0-51.52 proved=true tests=true"}, steps(r))
	require.Greater(t, kills, 8)
	relaunch("the machine is told to go back", func() bool { return exists(m.Asked) })
	m.Boots(apttest.Before)
	g.boot("boot-3")
	g.begin() // it may be killed before it answers
	relaunch("the machine is put back", func() bool { return !exists(filepath.Join(g.dir, holdingFile)) })
	g.launch()
	require.Greater(t, kills, 10)
	require.Equal(t, versions, m.Versions())
	require.Empty(t, apttest.Differ(before, m.Files()))
	require.Equal(t, order.SubjectRestored, g.wait(id).Subject.Step)
}

func TestFaultKernelFallsBackToAnother(t *testing.T) {
	t.Parallel()
	g, m := subjectRig(t, small, nil, nil)
	versions := m.Versions()
	require.NoError(t, os.MkdirAll(g.opts.PstoreDirs[0], 0o755))
	g.start()
	id := g.run(underTest(newKernel()))
	g.until("the machine is told to reboot", time.Minute, func() bool { return exists(m.Asked) })
	require.NoError(t, os.WriteFile(filepath.Join(g.opts.PstoreDirs[0], "dmesg-efi-1"), []byte("Kernel panic - not syncing: VFS"), 0o600))
	g.comesUp(m, "boot-2", apttest.Before)
	r := g.wait(id)
	require.Equal(t, order.Failed, r.State)
	require.Equal(t, order.FailKernelBoot, r.Failure.Type)
	require.Contains(t, r.Failure.Message, "kernel 6.8.0-51-generic was selected, and the machine came up with 6.8.0-50-generic by itself")
	require.Equal(t, order.SubjectFell, r.Subject.Step)
	require.Contains(t, kinds(r), order.PstoreFile, "what the kernel said last is kept")
	g.clean() // no boot is needed
	require.Equal(t, versions, m.Versions())
}

func TestFaultKernelDoesNotStayUpDuringTheTests(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, failure, message string
		meanwhile              func(*apttest.Machine)
	}{
		{"it falls back by itself", order.FailKernelBoot, "came up with 6.8.0-50-generic by itself", func(*apttest.Machine) {}},
		{"a job has chosen another", order.FailUnproved, "something on the machine has made \"0\" what it boots by default", func(m *apttest.Machine) {
			os.Remove(m.Path("etc/default/grub.d/zz-certlab.cfg"))
			_, err := checkbox.Exec(context.Background(), nil, filepath.Join(m.Bin, "update-grub"))
			require.NoError(t, err)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := small
			s.Running = example + "pass" // hangs
			g, m := subjectRig(t, s, nil, nil)
			sub := newKernel()
			sub.Restore = false
			g.start()
			id := g.run(underTest(sub))
			g.comesUp(m, "boot-2", apttest.After)
			g.in(id, example+"pass", "")
			test.meanwhile(m)
			g.killAll()
			m.Boots(apttest.Before)
			g.boot("boot-3")
			g.launch()
			r := g.wait(id)
			require.Equal(t, order.Failed, r.State)
			require.Equal(t, test.failure, r.Failure.Type, r.Failure.Message)
			require.Contains(t, r.Failure.Message, test.message)
			require.Len(t, r.Interruptions, 1)
			require.Equal(t, []string{"boot-1 6.8.0-50-generic 6.8.0-50.51 proved=false tests=false", "boot-2 6.8.0-51-generic 6.8.0-51.52 proved=true tests=true",
				"boot-3 6.8.0-50-generic 6.8.0-50.51 proved=false tests=false"}, steps(r))
			g.clean()
			require.Equal(t, apttest.New, m.Versions()["linux-image-"+apttest.After], "a machine that is deployed anew is left as it is")
		})
	}
}

func TestFaultSubjectIsChangedUnderTheTests(t *testing.T) {
	t.Parallel()
	s := small
	s.Wait = filepath.Join(t.TempDir(), "go")
	g, m := subjectRig(t, s, nil, nil)
	sub := newKernel()
	sub.Restore = false
	g.start()
	id := g.run(underTest(sub))
	g.comesUp(m, "boot-2", apttest.After)
	g.until("jobs run", time.Minute, func() bool { return len(g.starts()) > 0 })
	text, err := os.ReadFile(m.Path("var/lib/dpkg/status"))
	require.NoError(t, err)
	m.Write("var/lib/dpkg/status", strings.ReplaceAll(string(text), "Version: "+apttest.New, "Version: 6.8.0-51.53"))
	require.NoError(t, os.WriteFile(s.Wait, nil, 0o600))
	r := g.wait(id)
	require.Equal(t, order.FailUnproved, r.Failure.Type)
	require.Contains(t, r.Failure.Message, `the results say nothing about linux 6.8.0-51.52: kernel 6.8.0-51-generic is of package version "6.8.0-51.53", not 6.8.0-51.52`)
	require.Contains(t, kinds(r), order.SubmissionFile, "the evidence is delivered all the same")
	require.Empty(t, r.Counts)
}

// TestFaultSubjectIsRefusedAndNothingIsLeft asks one machine for what it cannot run, again and again.
func TestFaultSubjectIsRefusedAndNothingIsLeft(t *testing.T) {
	t.Parallel()
	g, m := subjectRig(t, small, nil, nil)
	updateGrub := func() {
		_, err := checkbox.Exec(context.Background(), nil, filepath.Join(m.Bin, "update-grub"))
		require.NoError(t, err)
	}
	site := "etc/default/grub.d/zzz-site.cfg"
	g.start()
	for _, test := range []struct {
		name    string
		change  func(*order.Subject)
		message string
	}{
		{"another release", func(s *order.Subject) { s.Series = "jammy" }, "cannot install a subject of jammy: this machine runs noble"},
		{"a version that no archive has", func(s *order.Subject) { s.Version = "6.8.0-52.53" }, "the nearest that there are: 6.8.0-50.51, 6.8.0-51.52"},
		{"the menu keeps its default", func(*order.Subject) {
			m.Write(site, "GRUB_DEFAULT=saved\n")
			updateGrub()
		}, "does another file in /etc/default/grub.d set GRUB_DEFAULT?"},
		{"update-grub fails", func(*order.Subject) {
			os.Remove(m.Path(site))
			updateGrub()
			m.Program("update-grub", `[ -e "$root/etc/default/grub.d/zz-certlab.cfg" ] && { echo "cannot find a device"; exit 1; }; exit 0`)
		}, "cannot select kernel 6.8.0-51-generic: GRUB's menu has no entry for it"},
		{"no GRUB", func(*order.Subject) {
			os.RemoveAll(m.Path("boot/grub"))
			m.Write("etc/flash-kernel/machine", "x\n")
		}, "cannot select a kernel: the machine boots with flash-kernel, and only GRUB can be told what to boot"},
	} {
		sub := newKernel()
		test.change(sub)
		before, versions := m.Files(), m.Versions()
		r := g.wait(g.run(underTest(sub)))
		require.Equal(t, order.Failed, r.State, test.name)
		require.Equal(t, order.FailWrongKernel, r.Failure.Type, test.name)
		require.Contains(t, r.Failure.Message, test.message)
		require.Equal(t, order.SubjectRefused, r.Subject.Step, test.name)
		require.False(t, exists(m.Asked), "%s: it is not rebooted", test.name)
		g.clean()
		require.Equal(t, versions, m.Versions(), test.name)
		for _, name := range apttest.Differ(before, m.Files()) {
			require.Equal(t, "/boot/grub/grub.cfg", name, "%s: nothing is left but a menu that was written anew", test.name)
		}
	}
}

func TestFaultCancelledSubjectIsTakenOff(t *testing.T) {
	t.Parallel()
	g, m := subjectRig(t, small, nil, nil)
	before, versions := m.Files(), m.Versions()
	g.start()
	id := g.run(underTest(newKernel()))
	g.until("the machine is told to reboot", time.Minute, func() bool { return exists(m.Asked) })
	_, err := g.client.Cancel(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, order.Cancelled, g.wait(id).State)
	g.clean()
	require.Equal(t, versions, m.Versions())
	require.Empty(t, apttest.Differ(before, m.Files()))
}

func TestFaultMachineThatCannotBePutBackIsDirty(t *testing.T) {
	t.Parallel()
	g, m := subjectRig(t, small, nil, nil)
	g.opts.Subject.RetryDirty = time.Hour
	g.start()
	id := g.run(underTest(newKernel()))
	g.comesUp(m, "boot-2", apttest.After)
	require.Equal(t, order.Completed, g.wait(id).State)
	m.Program("apt-get", `case "$*" in *" purge "*) echo "E: Sub-process /usr/bin/dpkg returned an error code (1)"; exit 100;; esac
exec /usr/bin/apt-get "$@"`)
	g.comesUp(m, "boot-3", apttest.Before)
	g.until("the machine is dirty", time.Minute, func() bool { return g.status().Dirty != "" })
	dirty := "cannot remove what was installed: exit status 100: E: Sub-process /usr/bin/dpkg returned an error code (1)"
	require.Equal(t, dirty, g.status().Dirty)
	require.Contains(t, g.status().Problems, "this machine is dirty and takes no runs: "+dirty+" (it is tried again every hour; see to it, then run `certlab-agent clean` on the machine)")
	_, err := g.client.Start(t.Context(), order.RunRequest{Spec: order.Spec{Plan: small.Plan}})
	require.ErrorContains(t, err, "cannot start a run: this machine is dirty: "+dirty)
	require.ErrorContains(t, g.client.Clean(t.Context()), "zz-certlab.cfg")
	r := g.wait(id)
	require.Equal(t, order.SubjectDirty, r.Subject.Step)
	require.Equal(t, order.Completed, r.State, "its results are what they were")

	// It lasts over a restart, which tries again; and goes away once that works.
	g.kill()
	g.launch()
	g.until("the machine is dirty", time.Minute, func() bool { return g.status().Dirty != "" })
	g.kill()
	os.Remove(filepath.Join(m.Bin, "apt-get"))
	g.launch()
	g.clean()
	require.Empty(t, g.status().Problems)
	require.Equal(t, order.Completed, g.wait(g.run(order.Spec{Plan: small.Plan})).State)
}

func TestFaultDamagedRecordOfASubjectIsDirtyUntilAPersonSaysOtherwise(t *testing.T) {
	t.Parallel()
	g, _ := subjectRig(t, small, nil, nil)
	require.NoError(t, os.WriteFile(filepath.Join(g.dir, holdingFile), []byte("{"), 0o600))
	g.start()
	g.until("the machine is dirty", time.Minute, func() bool { return g.status().Dirty != "" })
	require.Contains(t, g.status().Dirty, "the record of what was there before the last subject was damaged")
	require.NoError(t, g.client.Clean(t.Context()))
	require.Empty(t, g.status().Dirty)
	require.Equal(t, order.Completed, g.wait(g.run(order.Spec{Plan: small.Plan})).State)
}

func TestOtherPackagesNeedNoBoot(t *testing.T) {
	t.Parallel()
	g, m := subjectRig(t, small, []debarchive.Package{apttest.Tool("1.0", nil)}, []debarchive.Package{apttest.Tool("2.0", nil)})
	before, versions := m.Files(), m.Versions()
	g.start()
	r := g.wait(g.run(underTest(&order.Subject{Kind: order.SubjectPackages, Series: "noble", Source: "fwupd", Version: "2.0", Pocket: "proposed", Restore: true})))
	require.Nil(t, r.Failure)
	require.Equal(t, []string{"boot-1 6.8.0-50-generic 6.8.0-50.51 proved=true tests=true"}, steps(r))
	require.Equal(t, []order.Package{{Name: "fwupd", Version: "2.0"}}, r.Subject.Installed)
	g.clean()
	require.False(t, exists(m.Asked))
	require.Equal(t, versions, m.Versions())
	require.Empty(t, apttest.Differ(before, m.Files()))
}

func TestFaultSubjectThatCannotBeIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	for name, sub := range map[string]order.Subject{
		"it is not like noble":              {Kind: order.SubjectKernel, Series: "noble\nDeb: x", Version: apttest.New, Flavour: "generic"},
		"it is not like 6.8.0-51.52":        {Kind: order.SubjectKernel, Series: "noble", Version: "1 2"},
		"there are kernel and packages":     {Kind: "snap"},
		"name the subject's kernel_release": {Kind: order.SubjectKernel, Series: "noble", Source: "linux", Version: "6.1.1"},
	} {
		require.ErrorContains(t, checkSpec(order.Spec{Plan: small.Plan, Subject: &sub}), name)
	}
}
