package agent

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/agent/checkbox"
	"certlab/internal/order"
)

func TestFaultCheckboxHangsWhenItIsAsked(t *testing.T) {
	t.Parallel()
	const short = 2 * time.Second
	for _, test := range []struct {
		name, hang, flood string
		limits            checkbox.Limits
		failure, message  string
	}{
		{"for its version", "launcher --version", "", checkbox.Limits{Version: short}, order.FailNoCheckbox, "for its version: checkbox-cli launcher: took longer than 2s: it hangs (try it by hand on the machine)"},
		{"for a plan's jobs", "list-bootstrapped", "", checkbox.Limits{Jobs: short}, order.FailCheckbox, "cannot list the jobs of " + small.Plan + ": checkbox-cli list-bootstrapped: took longer than 2s: it hangs"},
		{"to check the launcher", "check-config", "", checkbox.Limits{Check: short}, order.FailCheckbox, "cannot check the launcher: checkbox-cli check-config: took longer than 2s: it hangs"},
		{"and prints without end", "", "list-bootstrapped", checkbox.Limits{}, order.FailCheckbox, "it printed more than 16777216 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := small
			s.Hang, s.Flood = test.hang, test.flood
			g, _ := scriptedRig(t, s)
			g.opts.Limits = test.limits
			g.start()
			r := g.wait(g.run(order.Spec{Plan: small.Plan}))
			require.Equal(t, order.Failed, r.State)
			require.Equal(t, test.failure, r.Failure.Type, r.Failure.Message)
			require.Contains(t, r.Failure.Message, test.message)
			if test.failure == order.FailNoCheckbox {
				status, err := g.client.Status(context.Background())
				require.NoError(t, err)
				require.Contains(t, status.CheckboxProblem, test.message, "the unit's status says it")
			}
		})
	}
}

func TestFaultCheckboxLeavesProcessesBehind(t *testing.T) {
	t.Parallel()
	s := small
	s.Leave = true
	g, _ := scriptedRig(t, s)
	g.opts.Grace = 200 * time.Millisecond
	g.start()
	id := g.run(order.Spec{Plan: small.Plan})
	r := g.wait(id)
	require.Equal(t, order.Completed, r.State, "what was measured counts all the same")
	require.Equal(t, []order.FileKind{order.SubmissionFile, order.ConsoleFile}, kinds(r))
	require.Empty(t, marked(filepath.Join(g.dir, "runs", id, "attempt-1", "start-1")), "processes live on")
	g.logs("Checkbox left processes behind, which were ended", "sh (")
}

func TestFaultCheckboxKilledByTheKernel(t *testing.T) {
	t.Parallel()
	vmstat := filepath.Join(t.TempDir(), "vmstat")
	require.NoError(t, os.WriteFile(vmstat, []byte("oom_kill 0\n"), 0o644))
	g, _ := scriptedRig(t, script{Version: "7.3.0", Plan: example + "killed-nb", Running: example + "killer", Die: vmstat,
		Jobs:    []checkbox.Job{{ID: example + "killer", Plugin: "shell"}},
		Console: "console/killed-then-resumed.txt", Archive: "archives/head-killed-nb.tar.xz"})
	g.opts.VMStatFile = vmstat
	g.start()
	r := g.wait(g.run(order.Spec{Plan: example + "killed-nb"}))
	require.Nil(t, r.Failure)
	require.Equal(t, order.Counts{"pass": 2, "crash": 1}, r.Counts, "the session went on, and the job is no pass")
	require.Len(t, r.Interruptions, 1)
	require.Equal(t, example+"killer", r.Interruptions[0].Job)
	require.Equal(t, "resumed; ended by SIGKILL; the kernel was out of memory and ended processes meanwhile (journalctl -k says which)", r.Interruptions[0].Note)
	g.logs("Checkbox was interrupted", "ended by SIGKILL")
}
