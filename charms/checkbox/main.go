// Command checkbox is the dispatch of the charm checkbox: Juju starts it for each hook and action. It turns the unit's
// options, relation, secret and resource into the desired state of certlab-agent, keeps the agent running, and shows how it is.
//
// What takes long is never done here: the agent installs Checkbox and runs test plans, and asks for a dispatch when something has
// changed that the unit's status should tell.
package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"certlab/internal/hooks"
	"certlab/internal/order"
	"certlab/internal/workload"
)

func main() { os.Exit(hooks.Main(newCharm(system{}))) }

// A system is what a test puts in the place of the machine's own. The zero value is the machine.
type system struct {
	root      string       // for workload.Root
	unitFiles string       // for /etc/systemd/system
	run       workload.Run // for systemctl
	charmDir  string       // for JUJU_CHARM_DIR
	step      func(string) // told of each change of the machine before it is made
	proc      string       // for /proc
	commands  string       // for /usr/local/bin
}

func (sys system) charm(u *hooks.Unit) string {
	if sys.charmDir != "" {
		return sys.charmDir
	}
	return u.Env.CharmDir
}

func newCharm(sys system) hooks.Charm {
	return hooks.Charm{
		Reconcile: sys.reconcile,
		Remove:    sys.remove,
		Actions: map[string]hooks.Action{
			"run-suite":    sys.runSuite,
			"list-suites":  sys.listSuites,
			"show-run":     sys.showRun,
			"cancel-run":   sys.cancelRun,
			"rerun-failed": sys.rerunFailed,
			"preflight":    sys.preflight,
		},
	}
}

// agent is the workload of this unit, and how to talk to it.
type agent struct {
	*workload.Workload
	socket workload.Socket
	unit   string
}

func (sys system) agent(u *hooks.Unit) (agent, error) { return sys.agentOf(u, u.Name) }

// agentOf is the agent of any unit on this machine.
func (sys system) agentOf(u *hooks.Unit, unit string) (agent, error) {
	w, err := workload.New(workload.Config{
		Unit: unit, CharmDir: sys.charm(u), Root: sys.root, UnitFiles: sys.unitFiles, Run: sys.run, Log: u.Log, Step: sys.step, Proc: sys.proc,
		Service: workload.Service{Name: "certlab-agent", Summary: "Runs Checkbox and delivers its results", Dir: agentDir},
	})
	if err != nil {
		return agent{}, err
	}
	return agent{w, w.Socket(order.AgentSocket), unit}, nil
}

// agentDir is the agent's directory below the unit's.
const agentDir = "agent"

// status asks the agent how it is; an agent that does not answer gives workload.ErrNotAnswering.
func (a agent) status(ctx context.Context) (order.AgentStatus, error) {
	var status order.AgentStatus
	err := a.socket.Call(ctx, "GET", "/v1/status", nil, &status)
	return status, err
}

func (a agent) file(name string) string { return filepath.Join(a.Dir(), name) }

// unitOfTag is the inverse of workload.Tag.
func unitOfTag(tag string) string {
	name := strings.TrimPrefix(tag, "unit-")
	if i := strings.LastIndexByte(name, '-'); i >= 0 {
		return name[:i] + "/" + name[i+1:]
	}
	return name
}
