package workloadtest

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// NewFakeSystemd is NewSystemd with a Pebble in this process, which starts no services and says that they are active. It is for tests that
// make many units and look at what the charm does, not at what Pebble does.
func NewFakeSystemd(t testing.TB, dir string) *Systemd {
	t.Helper()
	s := NewSystemd(t, dir)
	s.fake = true
	return s
}

// FakeCharm makes a charm's bin in dir, with small files in the programs' places.
func FakeCharm(dir string, programs ...string) error {
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	for _, name := range append(programs, "pebble") {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/false\n"), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// startFake answers Pebble's API on the unit's socket. Without one it is a unit that does not come up.
func startFake(text []byte) *unit {
	u := &unit{server: &http.Server{Handler: http.HandlerFunc(fakePebble)}}
	for line := range strings.Lines(string(text)) {
		dir, ok := strings.CutPrefix(strings.TrimSpace(line), "Environment=PEBBLE=")
		if !ok {
			continue
		}
		path := filepath.Join(dir, ".pebble.socket")
		_ = os.Remove(path) // of one that was killed
		if listener, err := net.Listen("unix", path); err == nil {
			go u.server.Serve(listener)
		}
	}
	return u
}

func fakePebble(w http.ResponseWriter, r *http.Request) {
	answer := map[string]any{"type": "sync", "status-code": 200, "status": "OK", "result": true}
	switch r.Method + " " + r.URL.Path {
	case "POST /v1/services":
		answer = map[string]any{"type": "async", "status-code": 202, "status": "Accepted", "change": "1"}
	case "GET /v1/changes/1/wait":
		answer["result"] = map[string]any{"id": "1", "status": "Done", "ready": true}
	case "GET /v1/services":
		answer["result"] = []any{map[string]string{"name": r.URL.Query().Get("names"), "startup": "enabled", "current": "active"}}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // the test tells if it cannot be read
}
