package hookstest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"certlab/internal/hooks"
	"certlab/internal/hooks/hookstest"
	"certlab/internal/juju"

	"github.com/stretchr/testify/require"
)

const charmcraft = "testdata/charmcraft.yaml"

type innConfig struct {
	Port int64          `config:"port"`
	Rate float64        `config:"rate"`
	Open bool           `config:"open"`
	Name string         `config:"name"`
	Key  hooks.SecretID `config:"key"`
}

type booking struct {
	Guest  string   `param:"guest"`
	Nights int      `param:"nights"`
	Price  *float64 `param:"price"`
	Quiet  bool     `param:"quiet"`
}

// inn is a charm that uses all that there is.
func inn() hooks.Charm {
	return hooks.Charm{
		Reconcile: reconcileInn,
		Remove:    func(context.Context, *hooks.Unit) error { return hooks.Maintenance("closing down") },
		Actions: map[string]hooks.Action{
			"book": func(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
				var b booking
				if err := call.Params(ctx, &b); err != nil {
					return err
				}
				if err := call.Log(ctx, "looking for a room"); err != nil {
					return err
				}
				if err := call.Set(map[string]any{"room": map[string]any{"number": b.Nights * 7, "quiet": b.Quiet}, "guest": b.Guest}); err != nil {
					return err
				}
				if err := u.StateSet(ctx, map[string]string{"booked": b.Guest}); err != nil {
					return err
				}
				fmt.Fprintln(call.Output, "welcome")
				switch b.Guest {
				case "nobody":
					call.Fail("no room for %s", b.Guest)
				case "burglar":
					return errors.New("cannot let a burglar in")
				}
				return nil
			},
			"close": func(context.Context, *hooks.Unit, *hooks.ActionCall) error { return nil },
		},
	}
}

func reconcileInn(ctx context.Context, u *hooks.Unit) error {
	var config innConfig
	if err := u.Config(ctx, &config); err != nil {
		return err
	}
	leader, err := u.IsLeader(ctx)
	if err != nil {
		return err
	}
	if u.Event.Kind == hooks.UpgradeCharm {
		u.Log.Info("renovated", "name", config.Name)
		if err := u.SetApplicationVersion(ctx, "2.0"); err != nil {
			return err
		}
	}
	if config.Open {
		err = u.SetPorts(ctx, fmt.Sprint(config.Port))
	} else {
		err = u.SetPorts(ctx)
	}
	if err != nil {
		return err
	}
	guests := 0
	ids, err := u.RelationIDs(ctx, "guests")
	if err != nil {
		return err
	}
	for _, id := range ids {
		units, err := u.RelationUnits(ctx, id)
		if err != nil {
			return err
		}
		guests += len(units)
		if err := u.RelationSet(ctx, id, map[string]string{"door": fmt.Sprint(config.Port)}); err != nil {
			return err
		}
		if leader {
			if err := u.RelationSetApp(ctx, id, map[string]string{"name": config.Name, "rate": fmt.Sprint(config.Rate)}); err != nil {
				return err
			}
			if err := grantKey(ctx, u, id); err != nil {
				return err
			}
		}
	}
	if config.Key != "" {
		values, err := u.SecretGet(ctx, hooks.SecretRead{ID: config.Key, Refresh: true})
		switch {
		case errors.Is(err, hooks.ErrNotAllowed):
			return hooks.Blocked("juju grant-secret KEY %s", u.App)
		case err != nil:
			return err
		}
		u.Log.Debug("the key is " + values["teeth"])
	}
	if config.Name == "burning" {
		return errors.New("cannot go on: the house is on fire")
	}
	if err := u.StateSet(ctx, map[string]string{"guests": fmt.Sprint(guests)}); err != nil {
		return err
	}
	if leader {
		if err := u.SetAppStatus(ctx, hooks.Active(config.Name)); err != nil {
			return err
		}
	}
	return hooks.Active("%d guests", guests)
}

// grantKey gives the guests a key to their rooms, once.
func grantKey(ctx context.Context, u *hooks.Unit, relation string) error {
	info, err := u.SecretInfo(ctx, "room-key "+relation)
	if errors.Is(err, hooks.ErrNotFound) {
		id, err := u.SecretAdd(ctx, hooks.Secret{Label: "room-key " + relation, Content: map[string]string{"teeth": "zigzagzigzag"}})
		if err != nil {
			return err
		}
		return u.SecretGrant(ctx, id, relation, "")
	}
	_ = info
	return err
}

// versions runs a test on both versions of Juju.
func versions(t *testing.T, test func(t *testing.T, version hookstest.Option)) {
	for _, version := range []string{hookstest.Juju36, hookstest.Juju40} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			test(t, hookstest.Version(version))
		})
	}
}

func TestAHooksWritesComeOut(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, version hookstest.Option) {
		s := hookstest.New(t, inn(), charmcraft, version).WithConfig(map[string]string{"port": "8080", "name": "Zum Bären"}).WithRelation("guests", "walker", 3)
		id := s.RelationID("guests")
		r := s.Fire("config-changed").RequireStatus("active", "3 guests")
		require.Equal(t, hooks.Active("Zum Bären"), r.AppStatus())
		require.Equal(t, "8080", r.Bag(id, s.Unit())["door"])
		require.Equal(t, map[string]string{"name": "Zum Bären", "rate": "1.5"}, r.Bag(id, "inn"))
		require.Contains(t, r.Facts(), `state guests="3"`)
		require.Contains(t, r.Facts(), `port 8080/tcp `)
		require.Contains(t, strings.Join(r.Facts(), "\n"), `secret application "room-key guests:1" granted to application-walker`)
		require.Equal(t, []string{"secret-add --label room-key guests:1 teeth#file=…"}, r.Called("secret-add"))
		s.Again()

		r = s.WithConfig(map[string]string{"open": "false"}).Fire("config-changed").RequireSuccess()
		require.Equal(t, []string{"close-port -- 8080/tcp"}, r.Wrote())
		r = s.Fire("upgrade-charm").RequireSuccess()
		require.Equal(t, "2.0", r.After.Units[s.Unit()].WorkloadVersion)
		require.Equal(t, []string{"INFO renovated name=\"Zum Bären\""}, r.Log)
	})
}

func TestAFailedHookKeepsOnlyItsStatusAndLog(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, version hookstest.Option) {
		s := hookstest.New(t, inn(), charmcraft, version).WithRelation("guests", "walker", 1).WithConfig(map[string]string{"name": "burning"})
		before := s.Fire("update-status")
		require.Equal(t, 1, before.Code)
		require.Equal(t, "cannot go on: the house is on fire\n", before.Stderr)
		require.Equal(t, []string{"ERROR cannot go on: the house is on fire"}, before.Log)
		require.NotContains(t, strings.Join(before.Facts(), "\n"), "door")
		require.NotContains(t, strings.Join(before.Facts(), "\n"), "secret")
		require.NotContains(t, strings.Join(before.Facts(), "\n"), "port 80")
		s.WithConfig(map[string]string{"name": "quenched"}).Fire("update-status").RequireStatus("active", "1 guests")
	})
}

func TestFaultAKilledHookEndsAsAnUndisturbedOne(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, version hookstest.Option) {
		hookstest.Kill{
			Setup: func(t testing.TB) *hookstest.Scenario {
				return hookstest.New(t, inn(), charmcraft, version).WithRelation("guests", "walker", 2)
			},
			Fire: func(s *hookstest.Scenario) hookstest.Result { return s.Fire("config-changed") },
		}.Everywhere(t)
	})
}

func TestRelationsComeAndGo(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, version hookstest.Option) {
		s := hookstest.New(t, inn(), charmcraft, version).WithRelation("guests", "walker", 1)
		id := s.RelationID("guests")
		s.FireRelation("created", id, "").RequireSuccess()
		s.FireRelation("joined", id, "walker/0").RequireStatus("active", "1 guests")
		s.WithData(id, "walker/0", map[string]string{"feet": "sore"}).FireRelation("changed", id, "walker/0").RequireSuccess()
		s.WithData(id, "walker", map[string]string{"song": "loud"}).FireRelation("changed", id, "walker").RequireSuccess()
		s.WithRemoteUnits("walker", 1).FireRelation("joined", id, "walker/1").RequireStatus("active", "2 guests")
		s.FireRelation("departed", id, "walker/0").RequireStatus("active", "1 guests")
		r := s.FireRelation("broken", id, "").RequireStatus("active", "0 guests")
		require.Empty(t, r.After.Relations[1])
		s.WithRelation("guests", "walker", 0)
		require.NotEqual(t, id, s.RelationID("guests"))
		r = s.Fire("stop").RequireStatus("terminated", "")
		require.Equal(t, []string{"status-set -- maintenance closing down"}, r.Called("status-set"))
		require.Equal(t, []string{"juju-log -l DEBUG -- nothing is done any more: the unit is being removed"}, s.Exec().Tools())
		s.Fire("remove").RequireSuccess()
	})
}

func TestAFreshUnitIsInstalled(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, version hookstest.Option) {
		s := hookstest.New(t, inn(), charmcraft, version, hookstest.Fresh(), hookstest.App("hotel"))
		require.Equal(t, "hotel/0", s.Unit())
		s.Fire("install").RequireStatus("active", "0 guests")
		s.Fire("leader-elected").RequireSuccess()
		r := s.Fire("config-changed").RequireSuccess()
		require.Equal(t, hooks.Active("The Inn"), r.AppStatus())
		s.Fire("start").RequireSuccess()
		s.Again()
	})
}

// events are the results' events.
func events(results []hookstest.Result) []string {
	names := []string{}
	for _, r := range results {
		names = append(names, r.Event)
	}
	return names
}

func TestPendingHooksComeInJujusOrder(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, version hookstest.Option) {
		s := hookstest.New(t, inn(), charmcraft, version, hookstest.Fresh()).WithRelation("guests", "walker", 2).WithStorage("cellar", "/srv/cellar").WithLeader(true)
		results := s.Pending()
		require.Equal(t, []string{"cellar-storage-attached", "install", "staff-relation-created", "guests-relation-created", "leader-elected",
			"config-changed", "start", "guests-relation-joined", "guests-relation-changed", "guests-relation-joined", "guests-relation-changed"}, events(results))
		results[len(results)-1].RequireStatus("active", "2 guests")
		require.Empty(t, s.Pending())

		s.WithConfig(map[string]string{"port": "81"}).WithData("guests:1", "walker/1", map[string]string{"feet": "sore"})
		require.Equal(t, []string{"config-changed", "guests-relation-changed"}, events(s.Pending()))
		require.Equal(t, []string{"upgrade-charm"}, events([]hookstest.Result{s.Fire("upgrade-charm")}))
		require.Equal(t, []string{"config-changed"}, events(s.Pending()))

		s.WithConfig(map[string]string{"name": "burning"})
		results = s.Pending()
		require.Equal(t, []string{"config-changed"}, events(results))
		require.Equal(t, 1, results[0].Code)
	})
}

func TestAnInterruptedHookRunsFirst(t *testing.T) {
	t.Parallel()
	s := hookstest.New(t, inn(), charmcraft)
	s.KillAfter(1).Fire("config-changed")
	require.Equal(t, []string{"config-changed"}, events(s.Pending()))
	require.Contains(t, refuses(t, func(t testing.TB) {
		s := hookstest.New(t, inn(), charmcraft)
		s.KillAfter(1).Fire("config-changed")
		s.Fire("start")
	}), "config-changed was interrupted: Juju runs it again before start")
}

func TestOnlyTheLeaderSpeaksForTheApplication(t *testing.T) {
	t.Parallel()
	s := hookstest.New(t, inn(), charmcraft).WithLeader(false).WithUnits(2).WithRelation("guests", "walker", 1)
	r := s.Fire("config-changed").RequireSuccess()
	require.Empty(t, r.Bag(s.RelationID("guests"), "inn"))
	require.Empty(t, r.AppStatus().Name)
	r = s.WithLeader(true).Fire("leader-elected").RequireSuccess()
	require.Equal(t, "The Inn", r.Bag(s.RelationID("guests"), "inn")["name"])
}

func TestSecretsAreReadWhenGranted(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, version hookstest.Option) {
		s := hookstest.New(t, inn(), charmcraft, version).WithSecretOption("key", map[string]string{"teeth": "sesame-sesame"}, false)
		s.Fire("config-changed").RequireStatus("blocked", "juju grant-secret KEY inn")
		s.Change(func(state *juju.State) error { return state.GrantUserSecret("key", []string{"inn"}, true) })
		r := s.Fire("config-changed").RequireStatus("active", "0 guests")
		require.Equal(t, []string{"DEBUG the key is [secret]"}, r.Log)
		r = s.WithSecretContent("key", map[string]string{"teeth": "abracadabra"}).FireSecret("changed", s.OptionSecret("key"), 0).RequireSuccess()
		require.Equal(t, []string{"DEBUG the key is [secret]"}, r.Log)
	})
}

func TestActionsAnswer(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, version hookstest.Option) {
		s := hookstest.New(t, inn(), charmcraft, version)
		r := s.RunAction("book", map[string]any{"guest": "Ada", "nights": 3.0, "quiet": true}).RequireSuccess()
		require.Equal(t, map[string]string{"room.number": "21", "room.quiet": "true", "guest": "Ada"}, r.Results)
		require.Equal(t, []string{"looking for a room"}, r.ActionLog)
		require.Equal(t, "welcome\n", r.Stdout)
		require.Contains(t, r.Facts(), `state booked="Ada"`)

		r = s.RunAction("book", map[string]any{"guest": "nobody"}).RequireSuccess()
		require.True(t, r.Failed)
		require.Equal(t, "no room for nobody", r.Message)
		require.Contains(t, r.Facts(), `state booked="nobody"`, "action-fail keeps what was written")

		r = s.RunAction("book", map[string]any{"guest": "burglar"})
		require.Equal(t, 1, r.Code)
		require.Equal(t, "7", r.Results["room.number"], "results are kept")
		require.Equal(t, "cannot let a burglar in\n", r.Stderr)
		require.Contains(t, r.Facts(), `state booked="nobody"`, "exit 1 drops what was written")
		require.Empty(t, s.RunAction("close", nil).RequireSuccess().Results)
	})
}

func TestStorageResourcesAndProxiesArrive(t *testing.T) {
	t.Parallel()
	menu := filepath.Join(t.TempDir(), "menu.txt")
	require.NoError(t, os.WriteFile(menu, []byte("soup"), 0o600))
	var seen []string
	charm := hooks.Charm{Reconcile: func(ctx context.Context, u *hooks.Unit) error {
		seen = nil
		ids, err := u.StorageIDs(ctx, "cellar")
		require.NoError(t, err)
		for _, id := range ids {
			location, err := u.StorageLocation(ctx, id)
			require.NoError(t, err)
			seen = append(seen, id, location)
		}
		path, err := u.ResourceGet(ctx, "menu")
		if errors.Is(err, hooks.ErrNotFound) {
			path = "none"
		} else {
			require.NoError(t, err)
		}
		network, err := u.NetworkGet(ctx, "guests")
		require.NoError(t, err)
		goal, err := u.GoalState(ctx)
		require.NoError(t, err)
		_, err = u.CredentialGet(ctx)
		seen = append(seen, path, u.Env.Proxy.HTTP, network.IngressAddress(), fmt.Sprint(len(goal.Units)), fmt.Sprint(errors.Is(err, hooks.ErrNotAllowed)))
		return nil
	}}
	s := hookstest.New(t, charm, charmcraft).WithModelConfig("juju-http-proxy", "http://proxy:3128")
	s.Fire("config-changed").RequireSuccess()
	require.Equal(t, []string{"none", "http://proxy:3128", "10.0.0.10", "1", "true"}, seen)
	s.WithStorage("cellar", "/srv/cellar").WithResource("menu", menu)
	id := s.StorageID("cellar")
	s.FireStorage("attached", id).RequireSuccess()
	require.Equal(t, []string{id, "/srv/cellar", menu, "http://proxy:3128", "10.0.0.10", "1", "true"}, seen)
	r := s.FireStorage("detaching", id).RequireSuccess()
	require.Len(t, seen, 5)
	require.Empty(t, r.After.Storage)
}

func TestARebootAtOnceKillsTheHook(t *testing.T) {
	t.Parallel()
	reboots := 0
	charm := hooks.Charm{
		Reconcile: func(ctx context.Context, u *hooks.Unit) error {
			if err := u.StateSet(ctx, map[string]string{"written": "before"}); err != nil {
				return err
			}
			if reboots++; reboots == 1 {
				err := u.Reboot(ctx, true)
				require.Fail(t, "juju-reboot --now does not return", err)
			}
			return nil
		},
		Actions: map[string]hooks.Action{"close": func(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error { return u.Reboot(ctx, true) }},
	}
	s := hookstest.New(t, charm, charmcraft)
	r := s.Fire("config-changed")
	require.True(t, r.Killed)
	require.Equal(t, juju.RebootNow, r.Reboot)
	require.NotContains(t, r.Facts(), `state written="before"`)
	require.Contains(t, s.Fire("config-changed").RequireSuccess().Facts(), `state written="before"`)
	r = s.RunAction("close", nil)
	require.Equal(t, 1, r.Code)
	require.Contains(t, r.Stderr, "juju-reboot is not supported when running an action")
}

func TestALeakedSecretFailsTheTest(t *testing.T) {
	t.Parallel()
	charm := hooks.Charm{Reconcile: func(ctx context.Context, u *hooks.Unit) error {
		return u.StateSet(ctx, map[string]string{"x": "my sesame-sesame"})
	}}
	watched := &failures{TB: t}
	s := hookstest.New(watched, charm, charmcraft).WithSecretOption("key", map[string]string{"teeth": "sesame-sesame"}, true)
	s.Fire("config-changed")
	require.Equal(t, []string{`config-changed: teeth of secret "key" is in the input of state-set`}, watched.errors)
}

// failures keeps the errors that would fail a test.
type failures struct {
	testing.TB
	errors []string
}

func (f *failures) Errorf(format string, args ...any) {
	f.errors = append(f.errors, fmt.Sprintf(format, args...))
}
func (f *failures) FailNow() { panic(f) }

func TestStructsThatDoNotFitCharmcraftFailTheTest(t *testing.T) {
	t.Parallel()
	charm := hooks.Charm{
		Reconcile: func(ctx context.Context, u *hooks.Unit) error { return u.Config(ctx, &struct{}{}) },
		Actions: map[string]hooks.Action{"book": func(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
			return call.Params(ctx, &struct {
				Guest, More string `param:"guest"`
			}{})
		}},
	}
	watched := &failures{TB: t}
	s := hookstest.New(watched, charm, charmcraft)
	require.Equal(t, 1, s.Fire("start").Code)
	require.Equal(t, 1, s.RunAction("book", map[string]any{"guest": "Ada"}).Code)
	require.Len(t, watched.errors, 2)
	require.Contains(t, watched.errors[0], "start: options of charmcraft.yaml and fields of *struct {} differ")
	require.Contains(t, watched.errors[1], `two fields for "guest"`)
}

// refuses runs f and returns what it failed with.
func refuses(t *testing.T, f func(t testing.TB)) string {
	t.Helper()
	watched := &failures{TB: t}
	require.PanicsWithValue(t, watched, func() { f(watched) })
	return strings.Join(watched.errors, "\n")
}

func TestStatesThatJujuCouldNotBeInAreRefused(t *testing.T) {
	t.Parallel()
	for about, f := range map[string]func(s *hookstest.Scenario){
		`unknown option "colour"`:       func(s *hookstest.Scenario) { s.WithConfig(map[string]string{"colour": "red"}) },
		`option "port" expected int`:    func(s *hookstest.Scenario) { s.WithConfig(map[string]string{"port": "door"}) },
		`no endpoint "staff" to relate`: func(s *hookstest.Scenario) { s.WithRelation("staff", "other", 1) },
		`no endpoint "x" to relate`:     func(s *hookstest.Scenario) { s.WithRelation("x", "other", 1) },
		`exceed its maximum relation limit of 1`: func(s *hookstest.Scenario) {
			s.WithRelation("supplier", "one", 1).WithRelation("supplier", "two", 1)
		},
		`no databag in relation`: func(s *hookstest.Scenario) {
			s.WithRelation("guests", "walker", 1).WithData("guests:1", "walker/7", nil)
		},
		`has no relation guests:9`: func(s *hookstest.Scenario) { s.FireRelation("changed", "guests:9", "walker/0") },
		`needs a unit of the relation`: func(s *hookstest.Scenario) {
			s.WithRelation("guests", "walker", 1).FireRelation("joined", "guests:1", "walker/7")
		},
		`no storage "attic"`:                                func(s *hookstest.Scenario) { s.WithStorage("attic", "/srv") },
		`can have 1 of storage "cellar"`:                    func(s *hookstest.Scenario) { s.WithStorage("cellar", "/a").WithStorage("cellar", "/b") },
		`install does not run`:                              func(s *hookstest.Scenario) { s.Fire("install") },
		`(root) : "guest" property is missing and required`: func(s *hookstest.Scenario) { s.RunAction("book", nil) },
		`action "dance" not defined`:                        func(s *hookstest.Scenario) { s.RunAction("dance", nil) },
		`walker/0 leads application inn and is no unit of it`: func(s *hookstest.Scenario) {
			s.Change(func(state *juju.State) error { state.Applications["inn"].Leader = "walker/0"; return nil }).Fire("start")
		},
		`is on machine "0", which is not in the model`: func(s *hookstest.Scenario) {
			s.Change(func(state *juju.State) error { delete(state.Machines, "0"); return nil }).Fire("start")
		},
		`secret-changed goes to who has read the secret`: func(s *hookstest.Scenario) {
			s.WithSecretOption("key", map[string]string{"teeth": "sesame"}, true).FireSecret("changed", s.OptionSecret("key"), 0)
		},
	} {
		require.Contains(t, refuses(t, func(t testing.TB) { f(hookstest.New(t, inn(), charmcraft)) }), about)
	}
	require.Contains(t, refuses(t, func(t testing.TB) { hookstest.New(t, inn(), charmcraft, hookstest.Fresh()).Fire("start") }), "start does not run before install")
}

func TestAgainNoticesWhatChurns(t *testing.T) {
	t.Parallel()
	n := 0
	charm := hooks.Charm{Reconcile: func(ctx context.Context, u *hooks.Unit) error {
		n++
		return hooks.Active("%d", n)
	}}
	require.Contains(t, refuses(t, func(t testing.TB) {
		s := hookstest.New(t, charm, charmcraft)
		s.Fire("start")
		s.Again()
	}), "start the second time wrote something")
}

func TestCharmcraftIsComparedWithTheCode(t *testing.T) {
	t.Parallel()
	hookstest.CheckConfig(t, innConfig{}, charmcraft)
	hookstest.CheckAction(t, booking{}, "testdata", "book")
	hookstest.CheckAction(t, struct{}{}, charmcraft, "close")
	hookstest.CheckActions(t, inn(), charmcraft)

	require.Contains(t, refuses(t, func(t testing.TB) {
		hookstest.CheckConfig(t, struct {
			Port string `config:"port"`
		}{}, charmcraft)
	}), "options of charmcraft.yaml and fields of")
	require.Contains(t, refuses(t, func(t testing.TB) { hookstest.CheckAction(t, struct{}{}, charmcraft, "book") }), `parameters of action "book" in charmcraft.yaml and fields of`)
	require.Contains(t, refuses(t, func(t testing.TB) { hookstest.CheckActions(t, hooks.Charm{}, charmcraft) }), "actions of charmcraft.yaml")
}

func TestAReconcileWithNothingToDoIsCheap(t *testing.T) {
	t.Parallel()
	charm := hooks.Charm{Reconcile: func(ctx context.Context, u *hooks.Unit) error {
		var config innConfig
		if err := u.Config(ctx, &config); err != nil {
			return err
		}
		leader, err := u.IsLeader(ctx)
		if err != nil || !leader {
			return err
		}
		ids, err := u.RelationIDs(ctx, "guests")
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := u.RelationSetApp(ctx, id, map[string]string{"name": config.Name}); err != nil {
				return err
			}
		}
		u.Log.Debug("open", "port", config.Port)
		return hooks.Active("open")
	}}
	versions(t, func(t *testing.T, version hookstest.Option) {
		s := hookstest.New(t, charm, charmcraft, version).WithRelation("guests", "walker", 1000)
		s.Fire("config-changed").RequireStatus("active", "open")
		r := s.Again()
		require.LessOrEqual(t, r.Count(), 6, r.Tools())
	})
}
