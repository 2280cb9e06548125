package provision_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/control/provision"
	"certlab/internal/order"
	"certlab/internal/provider/maas/maastest"
	"certlab/internal/sqlite"
)

const steps = `steps:
- name: firmware
  program: firmware
  timeout: 5m
- name: tpm
  program: tpm
  classes: [othercorp]
- name: layout
  program: layout
`

// onSite gives a lab steps, whose programs are functions.
func onSite(t *testing.T, list string, programs map[string]func(ctx context.Context, env []string, out io.Writer) error) func(*lab) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "prepare.yaml"), []byte(list), 0o600))
	return func(l *lab) {
		l.conf.Site = dir
		l.options = func(o *provision.Options) {
			o.Run = func(ctx context.Context, path string, env []string, out io.Writer) error {
				fn := programs[filepath.Base(path)]
				if fn == nil || filepath.Dir(path) != filepath.Join(dir, "prepare") {
					return fmt.Errorf("there is no program %s", path)
				}
				return fn(ctx, env, out)
			}
		}
	}
}

// events returns the texts of a machine's events of one kind, the oldest first.
func (l *lab) events(name, kind string) []string {
	l.Helper()
	m, err := l.db.Machine(l.Context(), name)
	require.NoError(l, err)
	all, _, err := l.db.MachineEvents(l.Context(), sqlite.EventFilter{Machine: m.ID, Kind: kind}, page)
	require.NoError(l, err)
	out := make([]string, len(all))
	for n, e := range all {
		out[len(all)-1-n] = e.Text
	}
	return out
}

// TestStepsPrepareAMachine runs those steps that were asked for and are for the machine's class, in the order asked for, before it is deployed.
func TestStepsPrepareAMachine(t *testing.T) {
	t.Parallel()
	var ran []string
	program := func(name string) func(context.Context, []string, io.Writer) error {
		return func(_ context.Context, env []string, out io.Writer) error {
			ran = append(ran, name)
			for _, v := range []string{"CERTLAB_HOSTNAME=node1", "CERTLAB_HOLDER=ada", "CERTLAB_POOL=default", "CERTLAB_ZONE=default", "CERTLAB_ARCHITECTURE=amd64"} {
				if !slices.Contains(env, v) {
					return fmt.Errorf("%s is not in %v", v, env)
				}
			}
			_, err := io.WriteString(out, strings.Repeat("x", 20<<10)+"\n"+name+" is done\n")
			return err
		}
	}
	site := onSite(t, steps, map[string]func(context.Context, []string, io.Writer) error{"firmware": program("firmware"), "tpm": program("tpm"), "layout": program("layout")})
	inLab(t, 1, func(l *lab) {
		r := l.await(l.reserve("node1", func(n *cert.NewReservation) { n.Prepare = []string{"layout", "tpm", "firmware"} }).ID)
		require.Equal(l, cert.ReservationReady, r.State)
		require.Equal(l, []string{"layout", "firmware"}, ran)
		said := l.events("node1", "prepared")
		require.Len(l, said, 3)
		require.True(l, strings.HasPrefix(said[0], "step layout took 0.0 s: "), said[0][:50])
		require.True(l, strings.HasSuffix(said[0], "layout is done"))
		require.Less(l, len(said[0]), 9<<10, "of much output the end is kept")
		require.Equal(l, "step tpm does not apply to this class", said[1])
		d, err := l.db.Deployment(l.Context(), r.Deployment)
		require.NoError(l, err)
		require.Equal(l, cert.PhasePrepare, d.Phases[1].Phase)
		_, err = l.tryReserve("node1", func(n *cert.NewReservation) { n.Prepare = []string{"bios"} })
		require.EqualError(l, err, `cannot prepare "bios": the site has no such step (there are: firmware, tpm, layout)`)
		_, err = l.tryReserve("node1", func(n *cert.NewReservation) { n.Prepare = []string{"tpm", "tpm"} })
		require.EqualError(l, err, `cannot prepare "tpm" twice`)
	}, site)
}

// TestFaultStepOfTheSite has a step fail, or not end: the machine is given back without having been deployed, and what was printed is kept.
func TestFaultStepOfTheSite(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		program func(ctx context.Context, env []string, out io.Writer) error
		message string
	}{
		"fails": {func(_ context.Context, _ []string, out io.Writer) error {
			fmt.Fprintln(out, "no such firmware setting: \xff boot order")
			return errors.New("exit status 3")
		}, "node1: the site's step firmware failed: exit status 3\nstep firmware took 0.0 s: no such firmware setting: \uFFFD boot order"},
		"takes too long": {func(ctx context.Context, _ []string, out io.Writer) error {
			fmt.Fprintln(out, "flashing")
			<-ctx.Done()
			return errors.New("signal: killed")
		}, "node1: the site's step firmware failed: it was ended: it took longer than 5m0s\nstep firmware took 300.0 s: flashing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inLab(t, 1, func(l *lab) {
				r := l.over(l.reserve("node1", func(n *cert.NewReservation) { n.Prepare, n.MaxTries = []string{"firmware"}, 1 }).ID)
				require.Equal(l, cert.EndedFailed, r.Ending)
				require.Equal(l, cert.FailPrepare, r.Failure.Type)
				require.Equal(l, c.message, r.Failure.Message)
				require.Len(l, l.events("node1", "failed"), 1)
				require.NotContains(l, l.kinds("node1"), "deploying")
				l.clean()
			}, onSite(t, steps, map[string]func(context.Context, []string, io.Writer) error{"firmware": c.program}))
		})
	}
	t.Run("is cancelled", func(t *testing.T) {
		t.Parallel()
		ended := false
		inLab(t, 1, func(l *lab) {
			r := l.reserve("node1", func(n *cert.NewReservation) { n.Prepare = []string{"firmware"} })
			time.Sleep(time.Minute)
			_, err := l.fleet().Cancel(l.Context(), r.ID, cert.ReleaseReservation{}, "ada", cert.Engineer)
			require.NoError(l, err)
			time.Sleep(time.Minute)
			require.True(l, ended, "the program does not go on for nobody")
			r = l.over(r.ID)
			require.Equal(l, cert.EndedCancelled, r.Ending)
			require.Nil(l, r.Failure)
			l.clean()
		}, onSite(t, steps, map[string]func(context.Context, []string, io.Writer) error{"firmware": func(ctx context.Context, _ []string, _ io.Writer) error {
			<-ctx.Done()
			ended = true
			return ctx.Err()
		}}))
	})
	for name, c := range map[string]struct{ list, message string }{
		"cannot be read":     {"steps: [", "cannot use the site's prepare.yaml: "},
		"has an unknown key": {"steps: [{name: a, program: a, timout: 5m}]", "field timout not found"},
		"is elsewhere":       {"steps: [{name: a, program: ../../bin/true}]", "cannot use the site's prepare.yaml: step 1 needs a name and a program below prepare/"},
		"may take for ever":  {"steps: [{name: a, program: a, timeout: 100h}]", "cannot use the site's prepare.yaml: the timeout of step a must be between 1s and 6h0m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inLab(t, 1, func(l *lab) {
				_, err := l.tryReserve("node1", func(n *cert.NewReservation) { n.Prepare = []string{"a"} })
				require.ErrorContains(l, err, c.message)
				require.Equal(l, cert.ReservationReady, l.await(l.reserve("node1").ID).State, "without steps all goes on")
			}, onSite(t, c.list, nil))
		})
	}
}

// TestAProgramOfTheSiteEndsWithAllThatItHasBegun runs a real one, which has a process in the background.
func TestAProgramOfTheSiteEndsWithAllThatItHasBegun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "console"), []byte("#!/bin/sh\nsleep 1000 &\necho $CERTLAB_HOSTNAME $!\nwait\n"), 0o700))
	db, err := sqlite.Open(t.Context(), filepath.Join(dir, "certlab.db"))
	require.NoError(t, err)
	defer db.Close()
	f := provision.New(provision.Options{DB: db, Logger: slog.New(slog.DiscardHandler)})
	f.Apply(nil, order.Fleet{Site: dir})
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	over := make(chan error, 1)
	go func() { over <- f.SiteProgram(ctx, "console", []string{"CERTLAB_HOSTNAME=node1"}, in) }()
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	host, text, _ := strings.Cut(strings.TrimSpace(line), " ")
	require.Equal(t, "node1", host)
	pid, err := strconv.Atoi(text)
	require.NoError(t, err)
	cancel()
	require.Error(t, <-over)
	require.Eventually(t, func() bool { return gone(pid) }, 30*time.Second, 10*time.Millisecond)
	require.ErrorIs(t, f.SiteProgram(t.Context(), "../console", nil, in), os.ErrNotExist)
	require.ErrorIs(t, f.SiteProgram(t.Context(), "reset", nil, in), os.ErrNotExist)
}

// gone reports whether a process has ended; nobody may have waited for it yet.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// TestFaultKeptOnFailure keeps a machine that failed for its holder, who gives it back before its time, or lets the time run out.
func TestFaultKeptOnFailure(t *testing.T) {
	t.Parallel()
	for _, early := range []bool{true, false} {
		t.Run(fmt.Sprint(early), func(t *testing.T) {
			t.Parallel()
			inLab(t, 2, func(l *lab) {
				l.region.Fault(l.sid("node1"), maastest.Fault{Kind: maastest.DeployFails, Times: 1})
				r := l.reserve("arch=amd64", func(n *cert.NewReservation) { n.KeepOnFailureHours = 0.5 })
				l.until("it is kept", func() bool {
					var err error
					r, err = l.fleet().Reservation(l.Context(), r.ID)
					require.NoError(l, err)
					return r.KeepUntil != nil
				})
				require.Equal(l, cert.ReservationReleasing, r.State)
				require.Equal(l, cert.EndedFailed, r.Ending)
				require.Equal(l, cert.FailDeploy, r.Failure.Type)
				require.Equal(l, "node1 is kept until "+r.KeepUntil.UTC().Format(time.RFC3339)+", as asked for (keep-on-failure); to give it back before: certlab machine release "+r.ID, r.Blocked)
				require.Equal(l, []string{r.Blocked}, l.events("node1", "kept"))
				time.Sleep(20 * time.Minute)
				l.fleet().Wake()
				s := l.region.State(l.sid("node1"))
				require.Equal(l, maastest.FailedDeployment, s.Status, "as it failed")
				require.Equal(l, "certlab", s.Owner)
				m := l.machine("node1")
				require.Equal(l, "ada", m.Holder)
				require.Equal(l, cert.MachineReserved, m.State, "its holder has it")
				require.Equal(l, r.KeepUntil, m.Until)
				require.Equal(l, "kept after a failure: "+r.Failure.Message, m.Why)
				require.Contains(l, r.Diagnosis, "end of the installation's log:")
				require.Equal(l, r.Diagnosis, m.Deployments[0].Diagnosis)
				require.Empty(l, l.region.State(l.sid("node2")).Owner, "no other is tried")
				if early {
					_, err := l.fleet().Release(l.Context(), r.ID, cert.ReleaseReservation{}, "ada", cert.Engineer)
					require.NoError(l, err)
				}
				was := *r.KeepUntil
				r = l.over(r.ID)
				require.Equal(l, cert.EndedFailed, r.Ending)
				require.Equal(l, early, r.Released.Before(was))
				require.Empty(l, r.Blocked)
				shown, err := l.fleet().Reservation(l.Context(), r.ID)
				require.NoError(l, err)
				require.Equal(l, m.Deployments[0].Diagnosis, shown.Diagnosis, "also when it is over")
				l.clean()
			})
		})
	}
}
