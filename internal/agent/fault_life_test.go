package agent

import (
	"context"
	"net/http/httptrace"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/agent/checkbox"
	"certlab/internal/order"
)

// TestFaultMachineRebootsWhileSomebodyWaits takes the machine down, once in order and once by a power cut, while a request waits for its
// run: the request ends and says how things stand, and the run goes on afterwards.
func TestFaultMachineRebootsWhileSomebodyWaits(t *testing.T) {
	t.Parallel()
	g, _ := scriptedRig(t, script{Version: "7.3.0", Plan: example + "killed-nb", Running: example + "killer",
		Jobs:    []checkbox.Job{{ID: example + "killer", Plugin: "shell"}},
		Console: "console/killed-then-resumed.txt", Archive: "archives/head-killed-nb.tar.xz"})
	g.start()
	id := g.run(order.Spec{Plan: example + "killed-nb"})
	g.in(id, example+"killer", "")
	type answer struct {
		run order.Run
		err error
	}
	wait := func() <-chan answer {
		answers, sent := make(chan answer, 1), make(chan struct{})
		told := sync.OnceFunc(func() { close(sent) }) // a connection that turns out to be dead is replaced
		ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { told() }})
		go func() {
			r, err := NewClient(g.dir).Run(ctx, id, time.Hour)
			answers <- answer{r, err}
		}()
		select {
		case <-sent:
		case <-time.After(30 * time.Second):
			require.FailNow(t, "the request is not sent")
		}
		// Connections are accepted in their order: the one before this has been, too.
		_, err := NewClient(g.dir).Status(context.Background())
		require.NoError(t, err)
		return answers
	}
	soon := func(answers <-chan answer) answer {
		select {
		case a := <-answers:
			return a
		case <-time.After(30 * time.Second):
			require.FailNow(t, "who waits for the run waits on")
			return answer{}
		}
	}

	waiting := wait()
	require.NoError(t, g.cmd.Process.Signal(syscall.SIGTERM))
	told := soon(waiting)
	require.NoError(t, told.err)
	require.Equal(t, order.Running, told.run.State)
	require.Equal(t, "the agent is ending, as when the machine goes down or a new version takes over; run "+id+" goes on by itself after that (show-run shows it)", told.run.Notice)
	require.NoError(t, g.cmd.Wait(), "it ends well")

	g.start()
	waiting = wait()
	g.in(id, example+"killer", "")
	g.killAll() // and now without a word
	told = soon(waiting)
	require.ErrorContains(t, told.err, "cannot reach the agent: ")
	require.ErrorContains(t, told.err, "(is it running, and are you root?)")

	g.boot("boot-2")
	g.start()
	r := g.wait(id)
	require.Nil(t, r.Failure)
	require.Equal(t, order.Completed, r.State)
	require.Empty(t, r.Notice)
	require.Len(t, r.Interruptions, 1)
	require.Equal(t, "reboot", r.Interruptions[0].Cause)
}

func TestFaultMachineRebootsAgainAndAgain(t *testing.T) {
	t.Parallel()
	g, _ := scriptedRig(t, script{Version: "7.3.0", Plan: example + "killed-nb", Running: example + "killer", Wait: filepath.Join(t.TempDir(), "never"),
		Jobs:    []checkbox.Job{{ID: example + "killer", Plugin: "shell"}},
		Console: "console/killed-then-resumed.txt", Archive: "archives/head-killed-nb.tar.xz"})
	g.desired.MaxBoots = 1
	g.start()
	id := g.run(order.Spec{Plan: example + "killed-nb"})
	g.in(id, example+"killer", "")
	g.killAll()
	g.boot("boot-2")
	// The second start is cut off before it could do anything.
	g.start()
	g.until("there is a second start", 30*time.Second, func() bool {
		return len(g.starts()) == 2 && exists(filepath.Join(g.starts()[1], keepFile))
	})
	g.killAll()
	g.boot("boot-3")
	g.start()
	r := g.wait(id)
	require.Equal(t, order.Failed, r.State)
	require.Equal(t, order.FailInterrupted, r.Failure.Type)
	require.Contains(t, r.Failure.Message, "Checkbox was interrupted 2 times, more often than max-boots allows")
	require.Len(t, r.Interruptions, 2)
	require.Equal(t, []order.FileKind{order.ConsoleFile, order.SessionFile}, kinds(r))
}
