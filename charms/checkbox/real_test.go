package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/hooks/hookstest"
	"certlab/internal/order"
)

// TestTheRealAgentUnderstandsTheCharm runs the real certlab-agent: what the charm writes, signals and asks is what it reads and answers.
func TestTheRealAgentUnderstandsTheCharm(t *testing.T) {
	t.Parallel()
	l := newPebbleLab(t)
	require.NoError(t, os.Remove(filepath.Join(l.agentDir(), order.AgentSocket)))
	l.sys.charmDir = filepath.Join(l.agents, "unit-checkbox-0", "charm")
	require.NoError(t, os.Remove(filepath.Join(l.sys.charmDir, "bin")))
	require.NoError(t, os.Symlink(filepath.Join(builds.RealCharm(t, "certlab-agent"), "bin"), filepath.Join(l.sys.charmDir, "bin")))
	l.Scenario = hookstest.New(t, newCharm(l.sys), "charmcraft.yaml")
	l.WithConfig(map[string]string{"checkbox-source": "path", "checkbox-path": "/nonexistent/checkbox-cli"})
	l.WithRelation("cert-agents", "cert-controller", 1)
	id := l.RelationID("cert-agents")

	var r hookstest.Result
	require.Eventually(t, func() bool {
		r = l.Fire("config-changed")
		return r.Status().Name == "blocked"
	}, 60*time.Second, 200*time.Millisecond)
	require.Contains(t, r.Status().Message, "checkbox-path")
	bag := r.Bag(id, "checkbox/0")
	require.Contains(t, bag["identity"], `"unit":"checkbox/0"`)
	require.NotEmpty(t, bag["public-key"])

	// Another desired state is applied by the agent that runs.
	l.WithConfig(map[string]string{"checkbox-path": "/nonexistent/other"})
	r = l.Fire("config-changed")
	require.Eventually(t, func() bool {
		r = l.Exec()
		return strings.Contains(r.Status().Message, "/nonexistent/other")
	}, 60*time.Second, 200*time.Millisecond, r.Status().Message)
	require.Equal(t, bag, r.Bag(id, "checkbox/0"), "the key stays")

	r = l.RunAction("cancel-run", map[string]any{"run": "r00000000000000000000000000"})
	require.True(t, r.Failed)
	require.NotEmpty(t, r.Message)
	r = l.RunAction("show-run", map[string]any{"run": "last"})
	require.True(t, r.Failed)
	r = l.RunAction("run-suite", params(map[string]any{"plan": preflightPlan, "wait": 50}))
	require.True(t, r.Failed, r.Results)
	require.Equal(t, "failed", r.Results["state"])
	require.NotContains(t, r.Message, "does not answer")

	l.Fire("stop").RequireSuccess()
	require.NoDirExists(t, filepath.Join(l.base, "bin"))
	l.Fire("remove").RequireSuccess()
}
