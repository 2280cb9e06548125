package juju

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEnvironmentIsThatOfJuju compares the whole environment of hooks and actions with testdata/env, which was printed by
// hooks of a real Juju 4.0.15. Left out are what the shell of the recording's dispatch added (PWD, SHLVL, _); the context id's
// random part is a placeholder on both sides.
func TestEnvironmentIsThatOfJuju(t *testing.T) {
	t.Parallel()
	related := func(kind HookKind, name string) Hook {
		return Hook{Name: "req-" + name, Kind: kind, Relation: 3, RemoteApp: "pa"}
	}
	changed, departed := related(RelationChanged, "relation-changed"), related(RelationDeparted, "relation-departed")
	changed.RemoteUnit = "pa/0"
	departed.RemoteUnit, departed.DepartingUnit = "pa/0", "pa/0"
	for file, opts := range map[string]ContextOptions{
		"pa-0.actions_echo":                {Unit: "pa/0", Kind: RunAction, Task: 67},
		"pb-0.actions_big":                 {Unit: "pb/0", Kind: RunAction, Task: 43},
		"pb-0.hooks_config-changed":        {Unit: "pb/0", Kind: RunHook, Hook: Hook{Name: "config-changed", Kind: ConfigChanged}},
		"pb-0.hooks_install":               {Unit: "pb/0", Kind: RunHook, Hook: Hook{Name: "install", Kind: Install}},
		"pb-0.hooks_req-relation-broken":   {Unit: "pb/0", Kind: RunHook, Hook: related(RelationBroken, "relation-broken")},
		"pb-0.hooks_req-relation-changed":  {Unit: "pb/0", Kind: RunHook, Hook: changed},
		"pb-0.hooks_req-relation-created":  {Unit: "pb/0", Kind: RunHook, Hook: related(RelationCreated, "relation-created")},
		"pb-0.hooks_req-relation-departed": {Unit: "pb/0", Kind: RunHook, Hook: departed},
		"pb-0.hooks_secret-changed": {Unit: "pb/0", Kind: RunHook,
			Hook: Hook{Name: "secret-changed", Kind: SecretChanged, Secret: "unsql4nrj2h5sntg9dag"}},
		"probe-0.hooks_data-storage-attached": {Unit: "probe/0", Kind: RunHook,
			Hook: Hook{Name: "data-storage-attached", Kind: StorageAttached, Storage: "data/0"}},
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(filepath.Join("testdata/env", file+".env"))
			require.NoError(t, err)
			m := probeModel(t, "4.0.15")
			require.NoError(t, m.Update(func(s *State) error {
				for _, app := range []string{"pa", "pb"} {
					copied := *s.Applications["probe"]
					copied.Name, copied.Leader = app, ""
					s.Applications[app] = &copied
					s.Units[app+"/0"] = &Unit{Name: app + "/0", Application: app, Machine: "0", Life: Alive}
				}
				s.Tasks[67] = &Task{ID: 67, Receiver: "pa/0", Action: "echo", Params: map[string]any{"num": 1}}
				s.Tasks[43] = &Task{ID: 43, Receiver: "pb/0", Action: "big"}
				s.Storage["data/0"] = &Storage{ID: "data/0", Name: "data", Kind: "filesystem", Unit: "probe/0", Location: "/srv/probe", Attached: true}
				return nil
			}))
			c, err := NewContext(m, opts)
			require.NoError(t, err)
			random := regexp.MustCompile(`(JUJU_CONTEXT_ID=.*-)[0-9a-f]{32}\b`)
			var want []string
			for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
				name, _, _ := strings.Cut(line, "=")
				if name == "PWD" || name == "SHLVL" || name == "_" {
					continue
				}
				want = append(want, random.ReplaceAllString(line, "${1}X"))
			}
			var got []string
			for _, line := range c.Env() {
				got = append(got, random.ReplaceAllString(line, "${1}X"))
			}
			require.ElementsMatch(t, want, got)
		})
	}
}

func TestExecHasNoDispatchPathAndCommandsHaveNoAction(t *testing.T) {
	t.Parallel()
	m := probeModel(t, "4.0.15")
	exec, err := NewContext(m, ContextOptions{Unit: "probe/0", Kind: RunExec, Task: 1})
	require.NoError(t, err)
	require.Contains(t, exec.Env(), "JUJU_ACTION_NAME=juju-exec")
	require.Contains(t, exec.Env(), "JUJU_HOOK_NAME=")
	require.NotContains(t, strings.Join(exec.Env(), " "), "JUJU_DISPATCH_PATH")
	command, err := NewContext(m, ContextOptions{Unit: "probe/0", Kind: RunExec})
	require.NoError(t, err)
	require.NotContains(t, strings.Join(command.Env(), " "), "JUJU_ACTION")
}

func TestModelProxiesReachHooksInBothSpellings(t *testing.T) {
	t.Parallel()
	m := probeModel(t, "4.0.15")
	require.NoError(t, m.Update(func(s *State) error {
		s.Config["juju-http-proxy"] = "http://p:1"
		s.Config["https-proxy"] = "http://p:2"
		return nil
	}))
	c, err := NewContext(m, ContextOptions{Unit: "probe/0", Kind: RunHook, Hook: Hook{Name: "start", Kind: Start}})
	require.NoError(t, err)
	require.Subset(t, c.Env(), []string{"JUJU_CHARM_HTTP_PROXY=http://p:1", "https_proxy=http://p:2", "HTTPS_PROXY=http://p:2"})
}
