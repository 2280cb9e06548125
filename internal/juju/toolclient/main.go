package toolclient

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// toolTimeout bounds the wait for a hook tool's answer: the agent answers from memory and its disk.
const toolTimeout = 5 * time.Minute

// Main is the whole of the program whose links are the hook tools: argv[0] says which one it is. As juju-exec or juju-run it
// has the unit's agent run a command in a hook context.
func Main(args []string, env func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	name := filepath.Base(args[0])
	if name == "jujuc" { // jujuc TOOL …, for machines without links
		if len(args) < 2 {
			fmt.Fprintln(stderr, "usage: jujuc TOOL [ARGUMENT]...")
			return 2
		}
		args = args[1:]
		name = filepath.Base(args[0])
	}
	call := Call{Stdin: stdin}
	var err error
	if name == "juju-exec" || name == "juju-run" {
		call.Socket, call.Request.Exec, err = parseExec(args[1:])
		if err != nil {
			fmt.Fprintf(stderr, "ERROR %v\n", err)
			return 2
		}
	} else {
		call.Socket, call.Timeout = env("JUJU_AGENT_SOCKET_ADDRESS"), toolTimeout
		call.Request = Request{Context: env("JUJU_CONTEXT_ID"), Tool: name, Args: args[1:]}
		for _, variable := range []string{"JUJU_CONTEXT_ID", "JUJU_AGENT_SOCKET_ADDRESS"} {
			if env(variable) == "" {
				fmt.Fprintf(stderr, "ERROR %s not set\n", variable)
				return 1
			}
		}
		if call.Request.Dir, err = os.Getwd(); err != nil {
			call.Request.Dir = "/"
		}
	}
	resp, err := Do(call)
	if err != nil {
		fmt.Fprintf(stderr, "ERROR %v\n", err)
		return 1
	}
	stderr.Write(resp.Stderr)
	if resp.Output == "" {
		if _, err := stdout.Write(resp.Stdout); err != nil && resp.Code == 0 {
			return 1
		}
		return resp.Code
	}
	if err := os.WriteFile(resp.Output, resp.Stdout, 0o644); err != nil {
		fmt.Fprintf(stderr, "ERROR %v\n", err)
		return 1
	}
	return resp.Code
}

// RunSocket is where a unit's agent listens for juju-exec.
func RunSocket(unit string) string {
	return "/var/lib/juju/agents/unit-" + strings.ReplaceAll(unit, "/", "-") + "/run.socket"
}

// parseExec reads `juju-exec [-u] UNIT COMMAND…`. One argument after the unit is a script; several are the words of a command.
func parseExec(args []string) (socket string, exec *Exec, err error) {
	exec = &Exec{}
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		switch arg := args[0]; {
		case arg == "--":
			args = args[1:]
			return finishExec(exec, args)
		case (arg == "-u" || arg == "--unit") && len(args) > 1:
			exec.Unit, args = args[1], args[2:]
		case strings.HasPrefix(arg, "--unit="):
			exec.Unit, args = strings.TrimPrefix(arg, "--unit="), args[1:]
		default:
			return "", nil, fmt.Errorf("option provided but not defined: %s", arg)
		}
	}
	return finishExec(exec, args)
}

func finishExec(exec *Exec, args []string) (string, *Exec, error) {
	if exec.Unit == "" {
		if len(args) == 0 {
			return "", nil, errors.New("missing unit-name")
		}
		exec.Unit, args = args[0], args[1:]
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	app, number, ok := strings.Cut(strings.TrimPrefix(exec.Unit, "unit-"), "/")
	if tag, found := strings.CutPrefix(exec.Unit, "unit-"); found && !ok {
		if cut := strings.LastIndex(tag, "-"); cut > 0 {
			app, number, ok = tag[:cut], tag[cut+1:], true
		}
	}
	if !ok || app == "" || number == "" || strings.ContainsAny(app+number, "/ ") {
		return "", nil, fmt.Errorf("invalid unit name %q", exec.Unit)
	}
	exec.Unit = app + "/" + number
	switch len(args) {
	case 0:
		return "", nil, errors.New("missing commands")
	case 1:
		exec.Script = args[0]
	default:
		quoted := make([]string, len(args))
		for i, arg := range args {
			quoted[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		exec.Script = strings.Join(quoted, " ")
	}
	return RunSocket(exec.Unit), exec, nil
}
