package maas_test

import (
	"context"
	"strings"
	"testing"

	"certlab/internal/cert"
	"certlab/internal/provider/maas"
	"certlab/internal/provider/maas/maastest"
	"github.com/stretchr/testify/require"
)

// changes are all methods that change something.
var changes = map[string]func(context.Context, *maas.Provider, string) error{
	"acquire": func(ctx context.Context, p *maas.Provider, id string) error {
		_, err := p.Acquire(ctx, id, "")
		return err
	},
	"deploy": func(ctx context.Context, p *maas.Provider, id string) error {
		return p.Deploy(ctx, id, cert.DeployOptions{})
	},
	"lock":   func(ctx context.Context, p *maas.Provider, id string) error { return p.Lock(ctx, id, "") },
	"unlock": func(ctx context.Context, p *maas.Provider, id string) error { return p.Unlock(ctx, id, "") },
	"release": func(ctx context.Context, p *maas.Provider, id string) error {
		return p.Release(ctx, id, cert.ReleaseOptions{})
	},
	"abort":       func(ctx context.Context, p *maas.Provider, id string) error { return p.Abort(ctx, id, "") },
	"mark broken": func(ctx context.Context, p *maas.Provider, id string) error { return p.MarkBroken(ctx, id, "") },
	"mark fixed":  func(ctx context.Context, p *maas.Provider, id string) error { return p.MarkFixed(ctx, id, "") },
	"set pool":    func(ctx context.Context, p *maas.Provider, id string) error { return p.SetPool(ctx, id, "quarantine") },
	"tag":         func(ctx context.Context, p *maas.Provider, id string) error { return p.Tag(ctx, id, "bad", true) },
	"untag":       func(ctx context.Context, p *maas.Provider, id string) error { return p.Tag(ctx, id, "theirs", false) },
	"on": func(ctx context.Context, p *maas.Provider, id string) error {
		return p.Power(ctx, id, cert.SwitchOn, false)
	},
	"off": func(ctx context.Context, p *maas.Provider, id string) error {
		return p.Power(ctx, id, cert.SwitchOff, false)
	},
	"cycle": func(ctx context.Context, p *maas.Provider, id string) error {
		return p.Power(ctx, id, cert.SwitchCycle, false)
	},
	"cycle of a unit's machine, not configured": func(ctx context.Context, p *maas.Provider, id string) error {
		return p.Power(ctx, id, cert.SwitchCycle, true)
	},
	"test":           func(ctx context.Context, p *maas.Provider, id string) error { return p.Test(ctx, id, nil) },
	"override tests": func(ctx context.Context, p *maas.Provider, id string) error { return p.OverrideFailedTests(ctx, id) },
}

const juju = "0f7a9b1c-2222-4444-8888-123456789abc"

// Whatever is asked, a machine that somebody else holds is left alone, in each state, and the message says who holds it.
func TestFaultForeignMachines(t *testing.T) {
	t.Parallel()
	foreign := map[string]struct {
		who  string // in the message
		mine bool   // the key's user is its owner
		make func(*maastest.MachineState)
	}{
		"another user's": {"MAAS user bob has it", false, func(m *maastest.MachineState) { m.Owner = "bob" }},
		"another user's with our agent name": {"MAAS user bob has it", false, func(m *maastest.MachineState) {
			m.Owner, m.AgentName, m.OwnerData = "bob", "certlab-lab1", map[string]string{"certlab-lab": "lab1"}
		}},
		"a Juju model's of another user": {"the Juju model " + juju + " has it (MAAS user bob", false, func(m *maastest.MachineState) {
			m.Owner, m.AgentName, m.OwnerData = "bob", juju, map[string]string{"juju-model-uuid": juju}
		}},
		"a Juju model's of our user": {"the Juju model " + juju + " has it (MAAS user certlab", true, func(m *maastest.MachineState) {
			m.Owner, m.AgentName, m.OwnerData = "certlab", juju, map[string]string{"juju-model-uuid": juju}
		}},
		"a Juju model's that carries all our marks": {"the Juju model " + juju + " has it", true, func(m *maastest.MachineState) {
			m.Owner, m.AgentName, m.OwnerData = "certlab", "certlab-lab1", map[string]string{"juju-model-uuid": juju, "certlab-lab": "lab1"}
		}},
		"another lab's of our user": {"the lab lab2 has it, with the same MAAS user certlab", true, func(m *maastest.MachineState) {
			m.Owner, m.AgentName, m.OwnerData = "certlab", "certlab-lab2", map[string]string{"certlab-lab": "lab2"}
		}},
		"allocated by hand by our user": {"MAAS user certlab has it, but not for this lab", true, func(m *maastest.MachineState) { m.Owner = "certlab" }},
	}
	for name, kind := range foreign {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, admin := range []bool{true, false} {
				inLab(t, admin, func(l lab) {
					l.region.AddUser("bob", false)
					statuses := []maastest.Status{maastest.Deployed, maastest.Allocated, maastest.Releasing, maastest.FailedReleasing, maastest.FailedTesting}
					if !admin {
						statuses = []maastest.Status{maastest.Deployed, maastest.FailedReleasing}
					}
					for _, status := range statuses {
						id := l.machine("node7")
						l.region.Change(id, func(m *maastest.MachineState) {
							kind.make(m)
							m.Status, m.Tags = status, []string{"theirs"}
							if status == maastest.Releasing || status == maastest.FailedReleasing {
								m.AgentName = ""
							}
						})
						before := l.region.State(id)
						writes := writes(l.region)
						for method, change := range changes {
							if !kind.mine && !admin && method == "acquire" {
								continue // see TestFaultTakenBetweenListAndAcquire
							}
							err := change(l.Context(), l.Provider, id)
							want, who := cert.ProviderForeign, kind.who
							switch {
							case method == "acquire":
								want = cert.ProviderConflict
							case !kind.mine && !admin:
								want, who = cert.ProviderNotFound, "another user of MAAS has it"
							}
							require.Equal(l, want, cert.ProviderFaultOf(err), "%s of %s: %v", method, status, err)
							require.Contains(l, err.Error(), who, method)
							require.Contains(l, err.Error(), `"node7"`)
							require.Equal(l, before, l.region.State(id), method)
						}
						_, err := l.QueryPower(l.Context(), id, false)
						require.Error(l, err)
						if admin || kind.mine {
							require.NotEqual(l, cert.ThisLab, l.look(id).Holder)
							require.NotEqual(l, cert.Nobody, l.look(id).Holder)
						}
						require.Equal(l, writes, writesWithout(l.region, "machines.allocate"))
					}
				})
			}
		})
	}
}

// writes counts the calls that change something.
func writes(r *maastest.Region) int { return writesWithout(r, "machines.allocate") }

func writesWithout(r *maastest.Region, allowed string) int {
	sum := 0
	for call, n := range r.Calls() {
		if !strings.HasSuffix(call.Op, ".read") && !strings.HasSuffix(call.Op, "whoami") && call.Op != allowed {
			sum += n
		}
	}
	return sum
}

// A machine of Juju's that carries a unit of this lab may be power-cycled, if the config says so, and never be left off.
func TestFaultUnitsMachine(t *testing.T) {
	t.Parallel()
	configured := func(c *maas.Config) { c.PowerUnits = true }
	unit := func(l lab) string {
		id := l.machine("node7")
		l.region.Change(id, func(m *maastest.MachineState) {
			m.Status, m.Owner, m.AgentName, m.OwnerData, m.On, m.Power = maastest.Deployed, "juju", juju, map[string]string{"juju-model-uuid": juju}, true, "on"
		})
		return id
	}
	foreign := `the Juju model ` + juju + ` has it (MAAS user juju, Deployed); this lab changes only machines that it has acquired`
	t.Run("allowed", func(t *testing.T) {
		t.Parallel()
		inLab(t, true, func(l lab) {
			l.region.AddUser("juju", false)
			id := unit(l)
			state, err := l.QueryPower(l.Context(), id, true)
			require.NoError(l, err)
			require.Equal(l, cert.PowerOn, state)
			require.EqualError(l, l.Power(l.Context(), id, cert.SwitchOff, true), `cannot switch "node7" off: `+foreign)
			require.NoError(l, l.Power(l.Context(), id, cert.SwitchCycle, true))
			require.Equal(l, 1, l.region.CallsOf("machine.power_off"))
			require.Equal(l, 1, l.region.CallsOf("machine.power_on"))
			*l.allowed = true
			// All else is refused as ever.
			require.Equal(l, cert.ProviderForeign, cert.ProviderFaultOf(l.Release(l.Context(), id, cert.ReleaseOptions{})))
		}, configured)
	})
	t.Run("not configured", func(t *testing.T) {
		t.Parallel()
		inLab(t, true, func(l lab) {
			l.region.AddUser("juju", false)
			id := unit(l)
			require.EqualError(l, l.Power(l.Context(), id, cert.SwitchCycle, true),
				`cannot power-cycle "node7": `+foreign+" (it carries a unit of this lab: to let such machines be power-cycled, set power-units)")
			require.Zero(l, l.region.CallsOf("machine.power_off"))
		})
	})
	t.Run("no right", func(t *testing.T) {
		t.Parallel()
		inLab(t, false, func(l lab) {
			l.region.AddUser("juju", false)
			id := unit(l)
			err := l.Power(l.Context(), id, cert.SwitchCycle, true)
			require.Equal(l, cert.ProviderForbidden, cert.ProviderFaultOf(err))
			require.EqualError(l, err, `cannot power-cycle "node7": the key's user may not switch machines of other users: that takes an administrator of MAAS`)
		}, configured)
	})
}
