package locallab

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"certlab/internal/juju"
)

// A host is a machine as the agents of its units see it.
type host struct {
	lab     *Lab
	machine *Machine

	mu    sync.Mutex
	ready map[string]string // unit → boot in which its tools were linked
}

var _ juju.Host = (*host)(nil)

func (h *host) Paths(unit string) juju.Paths { return juju.DefaultPaths(unit) }

func (h *host) BootID(context.Context) (string, error) {
	state, id := h.machine.State()
	if state != On {
		return "", errDown
	}
	return id, nil
}

func (h *host) InstallCharm(ctx context.Context, unit string, ch *juju.Charm) error {
	archive, err := openCharm(ch.Path)
	if err != nil {
		return fmt.Errorf("cannot install charm %s: %w", ch.URL, err)
	}
	defer archive.Close()
	var stderr bytes.Buffer
	status, err := h.machine.Exec(ctx, ExecSpec{Argv: []string{insideUnpack, h.Paths(unit).CharmDir}, Stdin: archive, Stderr: &stderr})
	if err == nil && status != (ExitStatus{}) {
		err = fmt.Errorf("%s", bytes.TrimSpace(stderr.Bytes()))
	}
	if err != nil {
		return fmt.Errorf("cannot install charm %s: %w", ch.URL, err)
	}
	return nil
}

// openCharm opens an archive; a directory, as tests have, becomes one first.
func openCharm(name string) (*os.File, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil || !info.IsDir() {
		return file, err
	}
	file.Close()
	if file, err = os.CreateTemp("", "charm"); err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		file.Close()
		return nil, err
	}
	archive := zip.NewWriter(file)
	if err := errors.Join(archive.AddFS(os.DirFS(name)), archive.Close()); err != nil {
		file.Close()
		return nil, err
	}
	_, err = file.Seek(0, io.SeekStart)
	return file, err
}

func (h *host) Listen(ctx context.Context, unit, socket string) (net.Listener, error) {
	return h.machine.Listen(ctx, socket)
}

// prepare links the hook tools, once for each boot.
func (h *host) prepare(ctx context.Context, unit string) error {
	_, boot := h.machine.State()
	h.mu.Lock()
	ready := h.ready[unit] == boot && boot != ""
	h.mu.Unlock()
	if ready {
		return nil
	}
	program := h.lab.toolProgram()
	if err := h.machine.links(ctx, h.Paths(unit).ToolsDir, program, hookTools()); err != nil {
		return err
	}
	if err := h.machine.links(ctx, "/usr/bin", program, []string{"juju-exec", "juju-run"}); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ready[unit] = boot
	return nil
}

// maxOutput bounds what is kept of a process' output, in bytes for each stream. Juju was seen to take 20 MB.
const maxOutput = 64 << 20

func (h *host) Dispatch(ctx context.Context, spec juju.DispatchSpec) juju.Exit {
	exit := h.dispatch(ctx, spec)
	if errors.Is(exit.Err, errDown) {
		// The machine went down with the process. Its agent is about to be told, and must not take this for the charm's fault.
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Second):
		}
		return juju.Exit{Code: -1, Signal: "killed", Stdout: exit.Stdout, Stderr: exit.Stderr}
	}
	return exit
}

func (h *host) dispatch(ctx context.Context, spec juju.DispatchSpec) juju.Exit {
	if err := h.prepare(ctx, spec.Unit); err != nil {
		return juju.Exit{Err: err}
	}
	argv := []string{spec.Path}
	if spec.Kind == juju.RunExec {
		script := path.Join("/tmp", "juju-exec"+strconv.FormatInt(time.Now().UnixNano(), 10), "script.sh")
		if err := h.machine.put(ctx, script, spec.Script); err != nil {
			return juju.Exit{Err: err}
		}
		defer func() { _ = h.machine.remove(context.WithoutCancel(ctx), path.Dir(script)) }()
		argv = []string{"/bin/bash", script}
	}
	stdout, stderr := &lineWriter{tell: spec.Output}, &lineWriter{tell: spec.Output, stderr: true}
	status, err := h.machine.Exec(ctx, ExecSpec{Argv: argv, Env: spec.Env, Dir: spec.Dir, Stdout: stdout, Stderr: stderr})
	stdout.flush()
	stderr.flush()
	exit := juju.Exit{Code: status.Code, Stdout: stdout.all, Stderr: stderr.all, Err: err}
	if status.Signal != 0 {
		exit.Signal = status.Signal.String()
	}
	return exit
}

// A lineWriter keeps what is written to it and tells of each line.
type lineWriter struct {
	tell   func(line string, stderr bool)
	stderr bool
	all    []byte
	line   []byte
}

// maxLine bounds a line that is told of; a longer one is told of in parts.
const maxLine = 64 << 10

func (w *lineWriter) Write(data []byte) (int, error) {
	if room := maxOutput - len(w.all); room > 0 {
		w.all = append(w.all, data[:min(room, len(data))]...)
	}
	if w.tell == nil {
		return len(data), nil
	}
	rest := data
	for {
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			break
		}
		w.line = append(w.line, rest[:end]...)
		rest = rest[end+1:]
		w.tell(string(w.line), w.stderr)
		w.line = w.line[:0]
	}
	w.line = append(w.line, rest...)
	if len(w.line) > maxLine {
		w.flush()
	}
	return len(data), nil
}

func (w *lineWriter) flush() {
	if w.tell != nil && len(w.line) > 0 {
		w.tell(string(w.line), w.stderr)
		w.line = w.line[:0]
	}
}

func (h *host) Reboot(ctx context.Context) error { return h.machine.StartReboot(ctx) }

func (h *host) AttachStorage(ctx context.Context, unit string, st juju.Storage) (string, error) {
	if st.Kind != "filesystem" {
		return "", fmt.Errorf("cannot attach storage %s: the local lab has no block devices (use type: filesystem)", st.ID)
	}
	source := path.Join(storageDir, st.ID)
	location := st.Location
	if location == "" {
		location = source
	}
	if err := os.MkdirAll(filepath.Join(h.lab.storageDir(), filepath.FromSlash(st.ID)), 0o755); err != nil {
		return "", fmt.Errorf("cannot attach storage %s: %w", st.ID, err)
	}
	if location == source {
		return location, nil
	}
	if err := h.machine.Mount(ctx, source, location); err != nil {
		return "", err
	}
	h.machine.setMount(Mount{Source: source, Path: location})
	return location, nil
}

func (h *host) DetachStorage(ctx context.Context, unit string, st juju.Storage) error {
	location := st.Location
	if location != "" && location != path.Join(storageDir, st.ID) {
		h.machine.setMount(Mount{Path: location})
		if err := h.machine.Unmount(ctx, location); err != nil {
			return err
		}
	}
	if st.Destroy {
		return os.RemoveAll(filepath.Join(h.lab.storageDir(), filepath.FromSlash(st.ID)))
	}
	return nil
}

func (h *host) FetchResource(ctx context.Context, unit string, resource juju.Resource) (string, error) {
	file, err := os.Open(resource.Path)
	if err != nil {
		return "", fmt.Errorf("cannot fetch resource %q: %w", resource.Name, err)
	}
	defer file.Close()
	name := path.Base(resource.Filename)
	if name == "." || name == "/" {
		name = filepath.Base(resource.Path)
	}
	target := path.Join(path.Dir(h.Paths(unit).CharmDir), "resources", path.Base(resource.Name), name)
	var stderr bytes.Buffer
	const script = `mkdir -p "${1%/*}" && cat > "$1.new" && mv -f "$1.new" "$1"`
	status, err := h.machine.Exec(ctx, ExecSpec{Argv: []string{"/bin/sh", "-c", script, "sh", target}, Stdin: file, Stderr: &stderr})
	if err == nil && status != (ExitStatus{}) {
		err = fmt.Errorf("%s", bytes.TrimSpace(stderr.Bytes()))
	}
	if err != nil {
		return "", fmt.Errorf("cannot fetch resource %q: %w", resource.Name, err)
	}
	return target, nil
}

func (h *host) RemoveUnit(ctx context.Context, unit string) error {
	paths := h.Paths(unit)
	for _, dir := range []string{path.Dir(paths.CharmDir), paths.ToolsDir} {
		if err := h.machine.remove(ctx, dir); err != nil {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.ready, unit)
	return nil
}
