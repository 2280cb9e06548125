package juju

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tests of this file are the differences between 3.6 and 4.x that the model knows, one each.

func versions(t *testing.T, test func(t *testing.T, m *Model, major int)) {
	for _, version := range []string{"3.6.28", "4.0.15"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			m := probeModel(t, version)
			test(t, m, m.Snapshot().Model.Major())
		})
	}
}

func execContext(t *testing.T, m *Model) *Context {
	t.Helper()
	c, err := NewContext(m, ContextOptions{Unit: "probe/0", Kind: RunExec, Task: 1})
	require.NoError(t, err)
	return c
}

func TestDifferenceLeaderGetExistsOn36Only(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, m *Model, major int) {
		c := execContext(t, m)
		_, stderr, code := c.Run("leader-set", []string{"a=1"}, nil)
		stdout, _, getCode := c.Run("leader-get", []string{"a"}, nil)
		if major == 4 {
			require.Equal(t, 127, code)
			require.Equal(t, "sh: leader-set: command not found\n", string(stderr))
			require.Equal(t, 127, getCode)
			require.NotContains(t, ToolNames(4), "leader-get")
			return
		}
		require.Zero(t, code)
		require.Equal(t, "1\n", string(stdout))
		require.Contains(t, ToolNames(3), "leader-get")
	})
}

func TestDifferencePrivateAddressInRelationDataOn36Only(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, m *Model, major int) {
		require.NoError(t, m.Update(func(s *State) error {
			delete(s.Relations[0].Units, "probe/0")
			s.BeginHook("probe/0", Hook{Name: "cluster-relation-created", Kind: RelationCreated}, m.Now())
			return nil
		}))
		stdout, _, _ := execContext(t, m).Run("relation-get", strings.Fields("-r cluster:0 - probe/0"), nil)
		require.Equal(t, major == 3, strings.Contains(string(stdout), "private-address"))
		require.Contains(t, string(stdout), "ingress-address: 10.77.0.11")
	})
}

func TestDifferenceAdditionalPropertiesAreRefusedByDefaultOn4Only(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, m *Model, major int) {
		ch := m.Snapshot().CharmOf("probe")
		require.Equal(t, major == 3, ch.ActionSchema(major, "echo")["additionalProperties"])
		err := ch.ValidateAction(major, "echo", map[string]any{"num": 1, "more": "x"})
		require.Equal(t, major == 3, err == nil, "%v", err)
		require.EqualError(t, ch.ValidateAction(major, "echo", map[string]any{}),
			`validation failed: (root) : "num" property is missing and required, given {}`)
	})
}

func TestDifferenceSecretRemoveIsLostOn4(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, m *Model, major int) {
		c := execContext(t, m)
		stdout, _, _ := c.Run("secret-add", []string{"--label", "l", "key=value"}, nil)
		require.NoError(t, c.Flush())
		uri := strings.TrimSpace(string(stdout))
		id, ok := ParseSecretURI(uri)
		require.True(t, ok)
		c = execContext(t, m)
		_, _, code := c.Run("secret-remove", []string{uri}, nil)
		require.Zero(t, code)
		ids, _, _ := c.Run("secret-ids", nil, nil)
		require.Empty(t, ids, "it is gone in the same context")
		require.NoError(t, c.Flush())
		require.Equal(t, major == 4, m.Snapshot().Secrets[id] != nil)
	})
}

func TestDifferenceTraceConfigOn4AndSLAOn36(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, m *Model, major int) {
		env := strings.Join(execContext(t, m).Env(), "\n")
		require.Equal(t, major == 4, strings.Contains(env, "JUJU_CHARM_TRACE_CONFIG_GRPC="))
		require.Equal(t, major == 3, strings.Contains(env, "JUJU_SLA="))
	})
}
