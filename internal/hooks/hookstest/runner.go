package hookstest

import (
	"context"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"certlab/internal/hooks"
	"certlab/internal/juju"
)

// runner answers the charm's hook tools from the model's context.
type runner struct {
	context *juju.Context
	killAt  int             // steps; -1: never
	killNew map[string]bool // steps that it has come past; it is killed at the first other one. Nil: at none
	// tools answers in the context's place, for tests that start processes.
	tools hooks.Runner

	mu     sync.Mutex
	calls  []hooks.Command
	steps  []string
	named  map[string]int // how often each step was taken
	killed bool
}

// step is where the hook may be killed: before each tool, and where Scenario.Point is called. It does not return then: the charm's
// goroutine ends.
func (r *runner) step(what string) {
	r.mu.Lock()
	r.named[what]++
	named := fmt.Sprintf("%s #%d", what, r.named[what])
	if r.killAt == len(r.steps) || r.killed || r.killNew != nil && !r.killNew[named] {
		if r.killNew != nil {
			r.killNew[named] = true
		}
		r.killed = true
		r.mu.Unlock()
		runtime.Goexit()
	}
	r.steps = append(r.steps, what)
	r.mu.Unlock()
}

// privateDir is where files for tools would be; there are none in process.
const privateDir = "/run/hookstest"

// Run is the hook tool.
func (r *runner) Run(ctx context.Context, cmd hooks.Command) ([]byte, error) {
	r.step(cmd.Name)
	r.mu.Lock()
	r.calls = append(r.calls, cmd)
	r.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("cannot run %s: %w", cmd.Name, context.Cause(ctx))
	}

	if r.tools != nil {
		return r.tools.Run(ctx, cmd)
	}
	request := juju.Request{Tool: cmd.Name, Args: slices.Clone(cmd.Args), Dir: "/", StdinSet: cmd.Stdin != nil, Stdin: cmd.Stdin}
	keys := make([]string, 0, len(cmd.Files))
	for key := range cmd.Files {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	if len(keys) > 0 {
		request.Files = make(map[string][]byte)
	}
	for _, key := range keys {
		file := path.Join(privateDir, key)
		request.Files[file] = cmd.Files[key]
		request.Args = append(request.Args, key+"#file="+file)
	}
	response := r.context.Do(request)

	if r.context.Reboot() == juju.RebootNow {
		r.mu.Lock()
		r.killed = true
		r.mu.Unlock()
		runtime.Goexit()
	}
	switch {
	case response.NeedStdin:
		return nil, &hooks.ToolError{Tool: cmd.Name, Code: 1, Stderr: "ERROR hook tool requires stdin, none supplied"}
	case len(response.NeedFiles) > 0:
		return nil, &hooks.ToolError{Tool: cmd.Name, Code: 1, Stderr: fmt.Sprintf("ERROR open %s: no such file or directory", response.NeedFiles[0])}
	case response.Code == 127:
		return nil, fmt.Errorf("cannot run %s: there is no such hook tool in PATH (is this run by Juju?)", cmd.Name)
	case response.Code != 0:
		return nil, &hooks.ToolError{Tool: cmd.Name, Code: response.Code, Stderr: strings.TrimSpace(string(response.Stderr))}
	}
	return response.Stdout, nil
}

// writers are the tools that change something, for others or for the unit's next hook.
var writers = map[string]bool{
	"relation-set": true, "state-set": true, "state-delete": true, "status-set": true, "open-port": true, "close-port": true,
	"secret-add": true, "secret-set": true, "secret-grant": true, "secret-revoke": true, "secret-remove": true,
	"application-version-set": true, "storage-add": true, "juju-reboot": true,
}
