package workload

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/canonical/pebble/client"
	"gopkg.in/yaml.v3"
)

const (
	// layerLabel and layerFile name the charm's layer over the API and on disk. Pebble wants NNN-label.yaml, and a label of at
	// least two characters.
	layerLabel = "charm"
	layerFile  = "010-charm.yaml"

	// callTimeout bounds a call that Pebble answers at once; changeTimeout one that starts or stops services.
	callTimeout   = 5 * time.Second
	changeTimeout = 60 * time.Second
	// startTimeout bounds the wait for a Pebble that systemd was asked to start.
	startTimeout = 60 * time.Second

	defaultKillDelay = 20 * time.Second
)

func (w *Workload) pebbleDir() string    { return filepath.Join(w.base, "pebble") }
func (w *Workload) pebbleSocket() string { return filepath.Join(w.pebbleDir(), ".pebble.socket") }
func (w *Workload) layerPath() string    { return filepath.Join(w.pebbleDir(), "layers", layerFile) }

func (w *Workload) killDelay() time.Duration {
	if w.cfg.Service.KillDelay > 0 {
		return w.cfg.Service.KillDelay
	}
	return defaultKillDelay
}

// layer is the charm's Pebble layer. on-success restarts too: a service exits in order to be started from newer programs.
func (w *Workload) layer() ([]byte, error) {
	command := w.Command()
	for i, arg := range command {
		if strings.ContainsAny(arg, " \t\"'\\[]") {
			return nil, fmt.Errorf("cannot write Pebble's layer: %q holds a character with a meaning of its own", arg)
		}
		command[i] = arg
	}
	type service struct {
		Override      string `yaml:"override"`
		Summary       string `yaml:"summary"`
		Command       string `yaml:"command"`
		Startup       string `yaml:"startup"`
		OnSuccess     string `yaml:"on-success"`
		OnFailure     string `yaml:"on-failure"`
		BackoffDelay  string `yaml:"backoff-delay"`
		BackoffFactor string `yaml:"backoff-factor"`
		BackoffLimit  string `yaml:"backoff-limit"`
		KillDelay     string `yaml:"kill-delay"`
	}
	return yaml.Marshal(struct {
		Summary  string             `yaml:"summary"`
		Services map[string]service `yaml:"services"`
	}{
		Summary: "Certlab's unit " + w.cfg.Unit,
		Services: map[string]service{w.cfg.Service.Name: {
			Override: "replace", Summary: w.cfg.Service.Summary, Command: strings.Join(command, " "), Startup: "enabled",
			OnSuccess: "restart", OnFailure: "restart", BackoffDelay: "1s", BackoffFactor: "2", BackoffLimit: "30s",
			KillDelay: w.killDelay().String(),
		}},
	})
}

// answers reports whether a Pebble listens on the socket.
func (w *Workload) answers() bool {
	conn, err := net.DialTimeout("unix", w.pebbleSocket(), callTimeout)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// call makes one request to Pebble within timeout. The client's own methods take no context, its requester does.
func (w *Workload) call(ctx context.Context, timeout time.Duration, opts client.RequestOptions, body, result any) (change string, err error) {
	pebble, err := client.New(&client.Config{Socket: w.pebbleSocket(), DisableKeepAlive: true})
	if err != nil {
		return "", fmt.Errorf("cannot talk to Pebble: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return "", err
		}
		opts.Body = bytes.NewReader(data)
	}
	resp, err := pebble.Requester().Do(ctx, &opts)
	if err != nil {
		return "", err
	}
	if result != nil {
		if err := resp.DecodeResult(result); err != nil {
			return "", err
		}
	}
	return resp.ChangeID, nil
}

// addLayer gives a running Pebble the layer that it will also find on disk when it starts next.
func (w *Workload) addLayer(ctx context.Context, layer []byte) error {
	w.Step("pebble add layer")
	_, err := w.call(ctx, callTimeout, client.RequestOptions{Type: client.SyncRequest, Method: "POST", Path: "/v1/layers"}, map[string]any{
		"action": "add", "combine": true, "label": layerLabel, "format": "yaml", "layer": string(layer),
	}, nil)
	if err != nil {
		return fmt.Errorf("cannot give Pebble the charm's layer: %w", err)
	}
	return nil
}

// services asks Pebble for action (replan, restart, start or stop) and waits for it to be over. What became of the service is
// not judged here: one that exits at once is tried again by Pebble, and shows in State.
func (w *Workload) services(ctx context.Context, action string, names ...string) error {
	w.Step("pebble " + action)
	change, err := w.call(ctx, callTimeout, client.RequestOptions{Type: client.AsyncRequest, Method: "POST", Path: "/v1/services"},
		map[string]any{"action": action, "services": names}, nil)
	if err != nil {
		return fmt.Errorf("cannot %s %s: %w", action, w.cfg.Service.Name, err)
	}
	var done client.Change
	_, err = w.call(ctx, changeTimeout+callTimeout, client.RequestOptions{
		Type: client.SyncRequest, Method: "GET", Path: "/v1/changes/" + url.PathEscape(change) + "/wait",
		Query: url.Values{"timeout": {changeTimeout.String()}},
	}, nil, &done)
	if err != nil {
		return fmt.Errorf("cannot %s %s: %w", action, w.cfg.Service.Name, err)
	}
	if done.Err != "" {
		w.cfg.Log.Warn("Pebble reports a problem", "action", action, "service", w.cfg.Service.Name, "error", done.Err)
	}
	return nil
}

// State says how the service is.
type State struct {
	Pebble  bool   // Pebble answers
	Service string // Pebble's word: active, inactive, backoff, error; empty: Pebble does not answer or does not know it
	// Processes is how many processes of the service exist, whichever Pebble started them.
	Processes int
}

// State asks Pebble and the system how the service is.
func (w *Workload) State(ctx context.Context) (State, error) {
	services, err := w.serviceProcesses()
	if err != nil {
		return State{}, err
	}
	state := State{Processes: len(services)}
	if !w.answers() {
		return state, nil
	}
	var infos []client.ServiceInfo
	_, err = w.call(ctx, callTimeout, client.RequestOptions{
		Type: client.SyncRequest, Method: "GET", Path: "/v1/services", Query: url.Values{"names": {w.cfg.Service.Name}},
	}, nil, &infos)
	if err != nil {
		return state, fmt.Errorf("cannot ask Pebble for the state of %s: %w", w.cfg.Service.Name, err)
	}
	state.Pebble = true
	for _, info := range infos {
		if info.Name == w.cfg.Service.Name {
			state.Service = string(info.Current)
		}
	}
	return state, nil
}

// LastLog returns the last line that the service printed, cut to 200 bytes, or nothing: it is for messages only.
func (w *Workload) LastLog(ctx context.Context) string {
	if !w.answers() {
		return ""
	}
	pebble, err := client.New(&client.Config{Socket: w.pebbleSocket(), DisableKeepAlive: true})
	if err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := pebble.Requester().Do(ctx, &client.RequestOptions{
		Type: client.RawRequest, Method: "GET", Path: "/v1/logs",
		Query: url.Values{"n": {"1"}, "services": {w.cfg.Service.Name}},
	})
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 64<<10)
	var last struct{ Message string }
	for lines.Scan() {
		if json.Unmarshal(lines.Bytes(), &last) != nil {
			return ""
		}
	}
	text := strings.TrimSpace(last.Message)
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "") + "…"
	}
	return text
}

// waitForPebble returns when a Pebble listens.
func (w *Workload) waitForPebble(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := poll(ctx, w.answers); err != nil {
		return fmt.Errorf("cannot reach Pebble at %q after systemctl start (see journalctl -u %s)", w.pebbleSocket(), w.unitFileName())
	}
	return nil
}

// poll asks until done says yes or ctx ends.
func poll(ctx context.Context, done func() bool) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		if done() {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err())
		case <-ticker.C:
		}
	}
}
