package juju

import (
	"context"
	"net"
)

// A Host is where a unit's processes run: a machine of the local lab, or a fake in a test. An agent uses the host of its unit's
// machine only. Paths are those that processes on the machine see.
type Host interface {
	// Paths says where the unit's things are on the machine.
	Paths(unit string) Paths

	// BootID is that of the machine's current boot. A new one makes the agent run start again.
	BootID(ctx context.Context) (string, error)

	// InstallCharm unpacks the charm into the unit's charm directory, in place of one that is there. It may be called again for
	// the same charm after having been interrupted.
	InstallCharm(ctx context.Context, unit string, ch *Charm) error

	// Listen makes a unix socket at one of the unit's paths (Paths.AgentSocket, Paths.RunSocket), in place of one that is
	// there. A host without processes returns a nil listener.
	Listen(ctx context.Context, unit, path string) (net.Listener, error)

	// Dispatch runs one process to its end. When ctx is cancelled with ErrKillHook as its cause, the process and its children are
	// killed and Exit.Signal says so; with another cause Dispatch returns at once and the process may live on, as it does when a
	// real agent dies.
	Dispatch(ctx context.Context, spec DispatchSpec) Exit

	// Reboot makes the machine reboot soon, from juju-reboot. The agents on it are ended by whoever runs them.
	Reboot(ctx context.Context) error

	// AttachStorage makes the storage available at its location and returns the location.
	AttachStorage(ctx context.Context, unit string, st Storage) (location string, err error)

	// DetachStorage takes it away again, and its data with it if st.Destroy says so.
	DetachStorage(ctx context.Context, unit string, st Storage) error

	// FetchResource puts a resource's file where the unit's processes can read it and returns the path that they see.
	FetchResource(ctx context.Context, unit string, resource Resource) (path string, err error)

	// RemoveUnit deletes what the agent has put on the machine. The unit is gone.
	RemoveUnit(ctx context.Context, unit string) error
}

// Paths of a unit on its machine. DefaultPaths has Juju's own.
type Paths struct {
	CharmDir    string // the working directory of every hook
	ToolsDir    string // where the hook tools are; first in PATH
	AgentSocket string // where hook tools ask
	RunSocket   string // where juju-exec asks from outside any hook
}

// DefaultPaths are where Juju has a unit's things.
func DefaultPaths(unit string) Paths {
	tag := UnitTag(unit)
	base := "/var/lib/juju/agents/" + tag
	return Paths{
		CharmDir:    base + "/charm",
		ToolsDir:    "/var/lib/juju/tools/" + tag,
		AgentSocket: base + "/agent.socket",
		RunSocket:   base + "/run.socket",
	}
}

// RunKind is what a process is run for.
type RunKind string

const (
	RunHook   RunKind = "hook"
	RunAction RunKind = "action"
	RunExec   RunKind = "exec"
)

// A DispatchSpec is one process to run on a unit's machine, as root.
type DispatchSpec struct {
	Unit string
	Kind RunKind
	Hook Hook // of RunHook
	Task int  // id, of RunAction and RunExec

	Path   string   // absolute path of the executable, which is argv[0] too; empty for RunExec
	Script string   // for RunExec: what bash is to run, from a file script.sh in a directory juju-exec* of its own
	Dir    string   // working directory
	Env    []string // all of it: no HOME, no USER; the host adds nothing but PATH entries after ours

	// Output takes what the process prints while it runs, line by line; stderr says which. It may be nil. Exit has all of it too.
	Output func(line string, stderr bool)

	// Context answers hook tools. A host with real processes need not look at it: they ask through the socket by the context's
	// id, which is in Env.
	Context *Context
}

// An Exit is how a process ended.
type Exit struct {
	Code   int    // exit status; -1 if it was ended by a signal
	Signal string // "terminated", "killed", …
	Stdout []byte
	Stderr []byte
	// Err says why the process could not be run at all; Code and Signal mean nothing then.
	Err error
}
