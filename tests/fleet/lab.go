package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"certlab/internal/durable"
	"certlab/internal/order"
	"certlab/internal/provider/maas/maastest"
)

// Options say what a lab is.
type Options struct {
	Program  string // path of certlabd
	Dir      string // for all that it writes
	Machines int
	Racks    int // zones too, one for each
	Timings  maastest.Timings
	Limits   order.FleetLimits
	Seed     uint64
	Script   Script // what a run comes to; nil: one job passes and one fails
}

// A Lab is a region with machines, and a controller that works with it.
type Lab struct {
	Region  *maastest.Region
	Systems []string // system_ids
	rack    *rack
	service *service
	server  *http.Server
	http    *http.Client // over the unix socket, as root; or a person's
	token   string       // of that person
	shared  atomic.Int64 // lists of several machines
}

// Start makes a lab and waits until its controller is ready.
func Start(ctx context.Context, o Options) (_ *Lab, err error) {
	l := &Lab{rack: newRack()}
	l.rack.script = o.Script
	if l.rack.script == nil {
		l.rack.script = plain
	}
	l.Region = maastest.New(maastest.Options{Timings: o.Timings, Seed: o.Seed, Host: l.rack})
	l.rack.region = l.Region
	key := l.Region.AddUser("certlab", true)
	for n := range o.Machines {
		mac := fmt.Sprintf("52:54:01:00:%02x:%02x", n>>8, n&0xff)
		id := l.Region.AddMachine(maastest.Machine{Hostname: fmt.Sprintf("node%d", n+1), Cores: 8, MemoryMiB: 16 << 10, Zone: fmt.Sprintf("zone%d", n%max(1, o.Racks)),
			NICs: []maastest.NIC{{Name: "eth0", MAC: mac, SpeedMbits: 1000}}, Tags: []string{"cert"}})
		l.Systems = append(l.Systems, id)
		l.rack.macs[id] = mac
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l.server = &http.Server{Handler: http.HandlerFunc(l.region), ReadHeaderTimeout: 30 * time.Second}
	go func() { _ = l.server.Serve(listener) }()
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	agents, providers, keyFile := filepath.Join(o.Dir, "agents"), filepath.Join(o.Dir, "providers"), filepath.Join(o.Dir, "maas.key")
	for _, dir := range []string{agents, providers} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	// Machines here do not run it.
	if err := os.WriteFile(filepath.Join(agents, "certlab-agent_amd64"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		return nil, err
	}
	if err := durable.WriteFile(keyFile, []byte(key+"\n"), 0o600); err != nil {
		return nil, err
	}
	l.service, err = newService(o.Program, o.Dir, order.ControllerDesired{Unit: "cert-controller/0", ModelUUID: "fleet", SiteName: "Fleet", BindAddress: "127.0.0.1",
		Addresses: []string{"127.0.0.1"}, DataDir: filepath.Join(o.Dir, "data"), MaxSubmissionBytes: 1 << 20, LogLevel: "info",
		Fleet: order.Fleet{MAAS: order.MAAS{URL: "http://" + listener.Addr().String() + "/MAAS", KeyFile: keyFile, Source: "secret", QuarantinePool: "quarantine", QuarantineTag: "certlab-quarantine"},
			Limits: o.Limits, Checkbox: order.CheckboxSource{Source: "path", Path: "/usr/bin/true"}, Agents: agents, Providers: providers}})
	if err != nil {
		return nil, err
	}
	l.rack.cas = l.service.cas
	l.http = l.service.root()
	return l, l.service.start(ctx)
}

// region counts what asks for several machines, and has the region answer.
func (l *Lab) region(w http.ResponseWriter, r *http.Request) {
	if query := r.URL.Query(); r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/machines/") && len(query["id"]) != 1 && !query.Has("op") {
		l.shared.Add(1)
	}
	l.Region.ServeHTTP(w, r)
}

// SharedPolls is how often the region was asked for several machines at once, or for all.
func (l *Lab) SharedPolls() int { return int(l.shared.Load()) }

// Took is how long a machine took at the region to go from one status to another, after a time; 0: it has not.
func (l *Lab) Took(systemID string, from, to maastest.Status, since time.Time) time.Duration {
	var began time.Time
	for _, e := range l.Region.Log() {
		if e.SystemID != systemID || e.At.Before(since) || e.Before == e.After {
			continue
		}
		if e.After == from {
			began = e.At
		}
		if e.Before == from && e.After == to && !began.IsZero() {
			return e.At.Sub(began)
		}
	}
	return 0
}

// Kill ends the controller as a crash does, and starts it again.
func (l *Lab) Kill(ctx context.Context) error {
	l.service.kill()
	return l.service.start(ctx)
}

// Log is what the controller has printed.
func (l *Lab) Log() string { return l.service.printed() }

// Close ends everything.
func (l *Lab) Close() {
	if l.service != nil {
		l.service.kill()
	}
	l.rack.close()
	l.Region.Close()
	_ = l.server.Close()
	if l.http != nil {
		l.http.CloseIdleConnections()
	}
}

// An Answer is one of the API that is no success.
type Answer struct {
	Status int
	Text   string
}

func (a *Answer) Error() string { return fmt.Sprintf("%d: %s", a.Status, a.Text) }

// Call makes a request, once.
func (l *Lab) Call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	base := "http://local"
	if l.token != "" {
		base = l.service.url
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, body)
	if err != nil {
		return err
	}
	if l.token != "" {
		req.Header.Set("Authorization", "Bearer "+l.token)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := l.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return &Answer{resp.StatusCode, string(text)}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// Persist is Call until an answer comes that time does not change: the controller may be away.
func (l *Lab) Persist(ctx context.Context, method, path string, in, out any) error {
	for {
		err := l.Call(ctx, method, path, in, out)
		var a *Answer
		if err == nil || errors.As(err, &a) && a.Status < 500 && a.Status != http.StatusTooManyRequests {
			return err
		}
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// Memory is the controller's resident memory now and at its highest, in bytes.
func (l *Lab) Memory() (now, peak int64) { return l.service.memory() }
