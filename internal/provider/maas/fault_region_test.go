package maas_test

import (
	"testing"
	"time"

	"certlab/internal/cert"
	"certlab/internal/provider/maas"
	"certlab/internal/provider/maas/maastest"
	"github.com/stretchr/testify/require"
)

const unknown = ", and whether it has happened is not known (the machine has to be read again)"

func TestFaultMAASGone(t *testing.T) {
	t.Parallel()
	inLab(t, false, func(l lab) {
		id := l.held("node7")
		l.region.Restart(time.Hour, 0)
		const refused = "MAAS at " + regionURL + " cannot be reached: dial tcp: connection refused (does it run, and is that its address?)"
		_, err := l.List(l.Context())
		require.EqualError(l, err, "cannot list the machines: "+refused)
		err = l.Deploy(l.Context(), id, cert.DeployOptions{})
		require.EqualError(l, err, `cannot deploy "node7": `+refused)
		require.Equal(l, cert.ProviderUnreachable, cert.ProviderFaultOf(err))
		require.Equal(l, maastest.Allocated, l.region.State(id).Status)
	})
}

// A region that restarts is away for seconds: reads outlast that.
func TestFaultMAASRestarts(t *testing.T) {
	t.Parallel()
	inLab(t, false, func(l lab) {
		id := l.held("node7")
		l.region.Restart(200*time.Millisecond, 200*time.Millisecond)
		require.NoError(l, l.Deploy(l.Context(), id, cert.DeployOptions{}))
		require.Equal(l, maastest.Deploying, l.region.State(id).Status)
	})
}

// In the middle of each step: what was asked for may have happened or not, and one look tells.
func TestFaultMAASRestartsInTheMiddleOfAStep(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		inLab(t, false, func(l lab) {
			ctx := l.Context()
			id := l.machine("node7")
			for _, step := range []struct {
				op   string
				do   func() error
				done func(cert.Provided) bool
			}{
				{"deploy", func() error { return l.Deploy(ctx, id, cert.DeployOptions{}) }, func(m cert.Provided) bool { return m.Status == cert.StatusDeploying }},
				{"abort", func() error { return l.Abort(ctx, id, "") }, func(m cert.Provided) bool { return m.StatusMessage == "Aborted deployment" }},
				{"lock", func() error { return l.Lock(ctx, id, "") }, func(m cert.Provided) bool { return m.Locked }},
				{"unlock", func() error { return l.Unlock(ctx, id, "") }, func(m cert.Provided) bool { return !m.Locked }},
				{"release", func() error { return l.Release(ctx, id, cert.ReleaseOptions{}) }, func(m cert.Provided) bool { return m.Status == cert.StatusReleasing || m.Status == cert.StatusFree }},
				{"mark_broken", func() error { return l.MarkBroken(ctx, id, "") }, func(m cert.Provided) bool { return m.Status == cert.StatusBroken }},
			} {
				if m := l.look(id); m.Holder == cert.Nobody {
					_, err := l.Acquire(ctx, id, "")
					require.NoError(l, err)
				}
				if step.op == "unlock" || step.op == "lock" {
					l.until(id, cert.StatusAcquired)
					require.NoError(l, l.Deploy(ctx, id, cert.DeployOptions{}))
					l.until(id, cert.StatusDeployed)
					if step.op == "unlock" {
						require.NoError(l, l.Lock(ctx, id, ""))
					}
				}
				for name, fault := range map[string]maastest.Fault{
					"cut": {Kind: maastest.Cuts, Op: step.op, After: after, Times: 1},
					"502": with(maastest.Gateway(502, after), step.op),
					"504": with(maastest.Gateway(504, after), step.op),
				} {
					was := l.region.CallsOf("machine." + step.op)
					l.region.Fault(id, fault)
					err := step.do()
					if step.done(l.look(id)) && l.region.CallsOf("machine."+step.op) == was {
						l.region.Clear(id) // it was so already: nothing was asked
						require.NoError(l, err)
						continue
					}
					require.Equal(l, cert.ProviderOutcome, cert.ProviderFaultOf(err), "%s %s: %v", step.op, name, err)
					require.Contains(l, err.Error(), unknown)
					require.Equal(l, 1, l.region.CallsOf("machine."+step.op)-was, "what may have happened is not repeated")
					if !after {
						require.False(l, step.done(l.look(id)), step.op)
						continue
					}
					require.True(l, step.done(l.look(id)), step.op)
					break
				}
				if !after {
					require.NoError(l, step.do(), "asked for again it happens")
					require.True(l, step.done(l.look(id)), step.op)
				}
				if step.op == "unlock" {
					continue
				}
				if step.op == "lock" {
					require.NoError(l, l.Release(ctx, id, cert.ReleaseOptions{}))
					l.until(id, cert.StatusFree)
				}
				if step.op == "release" {
					l.until(id, cert.StatusFree)
				}
			}
		})
	}
}

func with(f maastest.Fault, op string) maastest.Fault {
	f.Op, f.Times = op, 1
	return f
}

// An allocation whose answer is lost is this lab's machine, and is found to be.
func TestFaultAnswerToAcquireIsLost(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]maastest.Fault{
		"504":       with(maastest.Gateway(504, true), "allocate"),
		"cut":       {Kind: maastest.Cuts, Op: "allocate", After: true, Times: 1},
		"slow":      {Kind: maastest.Slow, Op: "allocate", After: true, Delay: time.Hour, Times: 1},
		"truncated": {Kind: maastest.Truncates, Op: "allocate", Times: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inLab(t, false, func(l lab) {
				id := l.machine("node7")
				l.region.Fault(id, fault)
				m, err := l.Acquire(l.Context(), id, "")
				require.NoError(l, err)
				require.Equal(l, cert.ThisLab, m.Holder)
				require.Equal(l, cert.StatusAcquired, m.Status)
				require.Equal(l, 1, l.region.CallsOf("machines.allocate"))
				require.Equal(l, "lab1", l.region.State(id).OwnerData["certlab-lab"])
			})
		})
	}
	t.Run("and it has not happened", func(t *testing.T) {
		t.Parallel()
		inLab(t, false, func(l lab) {
			id := l.machine("node7")
			l.region.Fault(id, with(maastest.Gateway(504, false), "allocate"))
			_, err := l.Acquire(l.Context(), id, "")
			require.EqualError(l, err, `cannot acquire "node7": MAAS at `+regionURL+" did not answer what is in front of it (504)"+unknown)
			require.Equal(l, cert.ProviderOutcome, cert.ProviderFaultOf(err))
			require.Equal(l, cert.StatusFree, l.look(id).Status)
		})
	})
}

// Taken by somebody else between the list and the acquisition.
func TestFaultTakenBetweenListAndAcquire(t *testing.T) {
	t.Parallel()
	for admin, want := range map[bool]string{
		true:  `cannot acquire "node7": MAAS user bob has it (Allocated)`,
		false: `cannot acquire "node7": another user of MAAS has it, or MAAS at ` + regionURL + " does not have it any more (the key sees only its own user's machines and free ones)",
	} {
		inLab(t, admin, func(l lab) {
			id := l.machine("node7")
			l.region.AddUser("bob", false)
			l.region.Fault(id, maastest.Fault{Kind: maastest.Taken, By: "bob", Times: 1})
			_, err := l.Acquire(l.Context(), id, "")
			require.EqualError(l, err, want)
			require.Equal(l, cert.ProviderConflict, cert.ProviderFaultOf(err))
			require.Equal(l, "bob", l.region.State(id).Owner)
			require.Equal(l, 1, l.region.CallsOf("machines.allocate"), "a conflict is not repeated")
		})
	}
}

// Two labs, one user of MAAS, one free machine: one of them has it, and the other sees who.
func TestFaultTwoLabsWithOneUserWantOneMachine(t *testing.T) {
	t.Parallel()
	inLab(t, false, func(l lab) {
		id := l.machine("node7")
		second := newProvider(t, l.region, l.key, "lab2")
		won := make(chan string, 2)
		lost := make(chan error, 2)
		for name, p := range map[string]*maas.Provider{"lab1": l.Provider, "lab2": second} {
			go func() {
				if _, err := p.Acquire(l.Context(), id, ""); err != nil {
					lost <- err
				} else {
					won <- name
				}
			}()
		}
		winner, err := <-won, <-lost
		require.Equal(l, cert.ProviderConflict, cert.ProviderFaultOf(err))
		require.Regexp(l, `^cannot acquire ".*": (the lab `+winner+` has it, with the same MAAS user certlab|MAAS user certlab has it, but not for this lab)`, err.Error())
		require.Equal(l, "certlab-"+winner, l.region.State(id).AgentName)
		for name, p := range map[string]*maas.Provider{"lab1": l.Provider, "lab2": second} {
			found, err := p.Look(l.Context(), id)
			require.NoError(l, err)
			require.Equal(l, name == winner, found[0].Holder == cert.ThisLab)
		}
	})
}

func TestFaultKeyRevokedAndRotated(t *testing.T) {
	t.Parallel()
	inLab(t, false, func(l lab) {
		id := l.held("node7")
		l.region.Revoke(l.key)
		err := l.Deploy(l.Context(), id, cert.DeployOptions{})
		require.EqualError(l, err, `cannot deploy "node7": MAAS at `+regionURL+" does not accept the key: Authorization Error: Invalid API key. (give it a key that is good: a new one is under the user's API keys in MAAS)")
		require.Equal(l, cert.ProviderRefused, cert.ProviderFaultOf(err))
		*l.allowed = true
		l.SetKey(l.region.AddUser("certlab", false))
		require.NoError(l, l.Deploy(l.Context(), id, cert.DeployOptions{}))
		require.Equal(l, maastest.Deploying, l.region.State(id).Status)
	})
}

func TestFaultClockSkewed(t *testing.T) {
	t.Parallel()
	inLab(t, false, func(l lab) {
		id := l.held("node7")
		l.region.SetClockSkew(-20 * time.Minute)
		err := l.Deploy(l.Context(), id, cert.DeployOptions{})
		require.Equal(l, cert.ProviderClock, cert.ProviderFaultOf(err))
		require.Equal(l, `cannot deploy "node7": the clocks differ too much: here it is `+time.Now().UTC().Format("2006-01-02 15:04:05 UTC")+
			", and at MAAS "+time.Now().Add(-20*time.Minute).UTC().Format("2006-01-02 15:04:05 UTC")+", which is 20m0s apart, and MAAS allows 300 s "+
			"(set the one that is wrong: both should follow the same NTP servers, see `timedatectl`; the key is not the fault)", err.Error())
		l.region.SetClockSkew(4 * time.Minute)
		require.NoError(l, l.Deploy(l.Context(), id, cert.DeployOptions{}))
	})
}
