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
	killAt  int // -1: never
	// tools answers in the context's place, for tests that start processes.
	tools hooks.Runner

	mu     sync.Mutex
	calls  []hooks.Command
	killed bool
}

// privateDir is where files for tools would be; there are none in process.
const privateDir = "/run/hookstest"

// Run is the hook tool. When it is time to kill the hook it does not return: the charm's goroutine ends.
func (r *runner) Run(ctx context.Context, cmd hooks.Command) ([]byte, error) {
	r.mu.Lock()
	if r.killAt == len(r.calls) || r.killed {
		r.killed = true
		r.mu.Unlock()
		runtime.Goexit()
	}
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
