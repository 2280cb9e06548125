// Package lab drives a local lab from outside, as an operator does: with the built certlab program. It also sees the lab's machines
// from the host, so that tests can kill what runs there and look at what is left.
//
// Nothing here fails a test by itself: what goes wrong comes back as an error, because under injected faults much may.
package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// A Lab is a local lab in a directory of its own.
type Lab struct {
	Root     string // of the repository
	Certlab  string // the certlab program
	Charms   string // directory of the packed charms
	Checkbox string // the host's checkbox-cli
	Dir      string // of the lab
	Config   string // XDG_CONFIG_HOME of the certlab client
	Nodes    int    // machines of the simulated MAAS
}

// New finds the built programs of the repository at root, and makes a directory for a lab, below temp if that is not empty. Nothing runs
// until Up.
func New(root, temp string) (*Lab, error) {
	l := &Lab{Root: root, Charms: env("CERTLAB_CHARMS", filepath.Join(root, "build", "charms")),
		Certlab:  filepath.Join(env("CERTLAB_BIN", filepath.Join(root, "build", "bin")), "certlab"),
		Checkbox: env("CERTLAB_CHECKBOX", filepath.Join(root, ".venv", "bin", "checkbox-cli"))}
	for _, needed := range []string{l.Certlab, l.Checkbox, l.Charm("checkbox"), l.Charm("cert-controller")} {
		if _, err := os.Stat(needed); err != nil {
			return nil, fmt.Errorf("cannot run a lab: %w (run `make setup pack` first, or set CERTLAB_BIN, CERTLAB_CHARMS, CERTLAB_CHECKBOX)", err)
		}
	}
	// A short path: the lab's unix sockets lie below it.
	dir, err := os.MkdirTemp(temp, "lab")
	if err != nil {
		return nil, err
	}
	l.Dir, l.Config = dir, filepath.Join(dir, "client")
	return l, nil
}

func env(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

// Charm returns the path of a packed charm for this machine's architecture.
func (l *Lab) Charm(name string) string {
	return filepath.Join(l.Charms, name+"_"+runtime.GOARCH+".charm")
}

// Program returns the path of another of the built programs.
func (l *Lab) Program(name string) string { return filepath.Join(filepath.Dir(l.Certlab), name) }

// A Result is what a command printed.
type Result struct {
	Args   []string
	Stdout string
	Stderr string
	Code   int
}

func (r Result) String() string {
	return fmt.Sprintf("%s\nexit code %d\n--- stdout\n%s--- stderr\n%s", strings.Join(r.Args, " "), r.Code, r.Stdout, r.Stderr)
}

// Run runs the certlab program and returns what it printed, whatever its exit code. It fails when ctx ends before the command does.
func (l *Lab) Run(ctx context.Context, args ...string) (Result, error) {
	cmd := exec.CommandContext(ctx, l.Certlab, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = append(os.Environ(), "CERTLAB_LAB="+l.Dir, "XDG_CONFIG_HOME="+l.Config, "CERTLAB_CHECKBOX="+l.Checkbox)
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	r := Result{Args: args, Stdout: stdout.String(), Stderr: stderr.String(), Code: -1}
	if cmd.ProcessState != nil {
		r.Code = cmd.ProcessState.ExitCode()
	}
	var exit *exec.ExitError
	if ctx.Err() != nil {
		return r, fmt.Errorf("certlab %s: %w", strings.Join(args, " "), context.Cause(ctx))
	}
	if err != nil && !errors.As(err, &exit) {
		return r, err
	}
	return r, nil
}

// Must runs the certlab program, whose exit code has to be 0, and returns what it printed to standard output.
func (l *Lab) Must(ctx context.Context, args ...string) (string, error) {
	r, err := l.Run(ctx, args...)
	if err == nil && r.Code != 0 {
		err = errors.New(r.String())
	}
	return r.Stdout, err
}

// Juju runs a command of Juju's, which has to succeed, and returns what it printed to standard output.
func (l *Lab) Juju(ctx context.Context, args ...string) (string, error) {
	return l.Must(ctx, append([]string{"juju"}, args...)...)
}

// Up starts the lab, empty or as it was left.
func (l *Lab) Up(ctx context.Context) error {
	_, err := l.Must(ctx, "lab", "up", "--wait", "0s", "--nodes", strconv.Itoa(l.Nodes))
	return err
}

// Down ends the lab; with destroy, nothing of it is left.
func (l *Lab) Down(ctx context.Context, destroy bool) error {
	args := []string{"lab", "down"}
	if destroy {
		args = append(args, "--destroy")
	}
	_, err := l.Must(ctx, args...)
	return err
}

// Deploy deploys a controller and so many machines with a unit of checkbox each. Options are those of the two applications, besides the
// ones that let several labs share a host.
func (l *Lab) Deploy(ctx context.Context, machines int, options map[string]map[string]any) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	controller := map[string]any{"site-name": "lab", "port": port}
	checkbox := map[string]any{"checkbox-source": "path", "checkbox-path": l.Checkbox}
	for name, value := range options["cert-controller"] {
		controller[name] = value
	}
	for name, value := range options["checkbox"] {
		checkbox[name] = value
	}
	places := map[string]any{"0": map[string]any{}}
	var to []string
	for n := 1; n <= machines; n++ {
		places[strconv.Itoa(n)] = map[string]any{}
		to = append(to, strconv.Itoa(n))
	}
	bundle, err := json.Marshal(map[string]any{ // JSON is YAML too
		"default-base": "ubuntu@24.04/stable",
		"applications": map[string]any{
			"cert-controller": map[string]any{"charm": l.Charm("cert-controller"), "num_units": 1, "to": []string{"0"}, "options": controller,
				"storage": map[string]any{"data": "rootfs,1,10G"}},
			"checkbox": map[string]any{"charm": l.Charm("checkbox"), "num_units": machines, "to": to, "options": checkbox},
		},
		"machines":  places,
		"relations": [][]string{{"cert-controller:cert-agents", "checkbox:cert-agents"}},
	})
	if err != nil {
		return err
	}
	path := filepath.Join(l.Dir, "bundle.yaml")
	if err := os.WriteFile(path, bundle, 0o600); err != nil {
		return err
	}
	_, err = l.Juju(ctx, "deploy", path)
	return err
}

// freePort returns a TCP port that nothing listens on.
func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// URL returns the controller's URL.
func (l *Lab) URL(ctx context.Context) (string, error) {
	out, err := l.Must(ctx, "lab", "url")
	return strings.TrimSpace(out), err
}
