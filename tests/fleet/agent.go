package fleet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
)

// A run is what an agent keeps of one on its disk.
type run struct {
	order     order.Order
	work      Work
	sequence  int64
	archive   []byte
	subject   *order.SubjectState
	delivered bool // the controller has acknowledged all of it
}

// boot is a machine's life from power on to power off: cloud-init, then the agent.
func (r *rack) boot(ctx context.Context, systemID string, d *disk) {
	r.region.FetchedUserData(systemID)
	a := &agent{rack: r, systemID: systemID, disk: d, bootID: cert.NewID('b', time.Now())}
	for ctx.Err() == nil && a.http == nil {
		if c, err := a.client(); err == nil {
			a.http = c
			defer c.CloseIdleConnections()
		} else {
			pause(ctx, retry)
		}
	}
	for ctx.Err() == nil && !d.enrolled {
		if a.enrol(ctx) != nil {
			pause(ctx, retry)
		}
	}
	for ctx.Err() == nil {
		if a.say(a.request(ctx, "PUT", "/agent/v1/status", a.status()), nil) == nil {
			break
		}
		pause(ctx, retry)
	}
	for ctx.Err() == nil {
		if !a.work(ctx) {
			pause(ctx, retry)
		}
	}
}

// retry is how long an agent waits before it tries again what has failed.
const retry = 50 * time.Millisecond

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// An agent is one boot's.
type agent struct {
	rack     *rack
	systemID string
	disk     *disk
	bootID   string
	http     *http.Client
}

func (a *agent) client() (*http.Client, error) {
	cas, err := a.rack.cas()
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, ca := range cas {
		pool.AppendCertsFromPEM([]byte(ca))
	}
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{a.disk.key}}}}, nil
}

// request is one with a JSON body, or without a body for nil.
func (a *agent) request(ctx context.Context, method, path string, body any) *http.Request {
	var reader io.Reader
	if body != nil {
		text, _ := json.Marshal(body) // of our own types: cannot fail
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.disk.urls[0]+path, reader)
	if err != nil {
		panic(err)
	}
	req.Header.Set("Content-Type", "application/json")
	return req
}

// say sends a request and decodes the answer into out, if it is a success.
func (a *agent) say(req *http.Request, out any) error {
	resp, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %d %s", req.Method, req.URL.Path, resp.StatusCode, text)
	}
	if out == nil || len(text) == 0 {
		return nil
	}
	return json.Unmarshal(text, out)
}

func (a *agent) enrol(ctx context.Context) error {
	req := a.request(ctx, http.MethodGet, "/enrol/v1/agent/amd64", nil)
	req.Header.Set("Authorization", order.EnrolScheme+" "+a.disk.token)
	if err := a.say(req, nil); err != nil {
		return err
	}
	err := a.say(a.request(ctx, http.MethodPost, "/enrol/v1/enrol", order.Enrolment{Deployment: a.disk.deployment, Token: a.disk.token, PublicKey: a.disk.public,
		Identity: order.Identity{Hostname: "fleet-" + a.systemID, Architecture: "amd64", SystemID: a.systemID, Base: "ubuntu@24.04", Kernel: "6.8.0-1-generic"},
		MACs:     []string{a.rack.macs[a.systemID]}, BootID: a.bootID}), nil)
	if err == nil {
		a.disk.enrolled = true
	}
	return err
}

func (a *agent) status() order.Status {
	s := order.Status{BootID: a.bootID, Booted: time.Now().UTC(), Release: "ubuntu@24.04", Kernel: "6.8.0-1-generic", Version: "test", CheckboxVersion: "1.18.1"}
	for id, run := range a.disk.runs {
		if !run.delivered {
			s.Undelivered = append(s.Undelivered, id)
		}
	}
	return s
}

// work does the next thing: an order that was taken before, or a new one. It reports whether all went well.
func (a *agent) work(ctx context.Context) bool {
	for _, run := range a.disk.runs {
		if !run.delivered && !a.deliver(ctx, run) {
			return false
		}
	}
	req := a.request(ctx, http.MethodGet, "/agent/v1/poll?wait=20", nil)
	var poll order.Poll
	if a.say(req, &poll) != nil {
		return false
	}
	for _, o := range poll.Orders {
		if a.disk.runs[o.Run] == nil {
			a.rack.mu.Lock() // the disk is looked at when it is wiped
			w := a.rack.script(a.systemID, o)
			a.disk.runs[o.Run] = &run{order: o, work: w, archive: w.archive(o)}
			a.rack.node(a.systemID).ran = append(a.rack.node(a.systemID).ran, o)
			a.rack.mu.Unlock()
		}
	}
	return true
}

// upload goes on where an earlier try got to.
func (a *agent) upload(ctx context.Context, path string, file order.File, archive []byte) error {
	resp, err := a.http.Do(a.request(ctx, http.MethodHead, path, nil))
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode >= 500 || resp.Header.Get("Upload-Complete") == "true" {
		if resp.StatusCode >= 500 {
			return fmt.Errorf("HEAD %s: %d", path, resp.StatusCode)
		}
		return nil
	}
	offset, _ := strconv.Atoi(resp.Header.Get("Upload-Offset"))
	req := a.request(ctx, http.MethodPatch, path, nil)
	req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(archive[offset:])), int64(len(archive)-offset)
	req.Header = http.Header{"Upload-Offset": {strconv.Itoa(offset)}, "Upload-Length": {strconv.Itoa(len(archive))}, "Certlab-File-Kind": {string(file.Kind)}, "Certlab-File-Name": {file.Name}}
	return a.say(req, nil)
}

func (a *agent) deliver(ctx context.Context, run *run) bool {
	now := time.Now().UTC()
	if run.subject == nil {
		run.subject = run.work.state(run.order, a.bootID, now)
	}
	jobs := len(run.work.Results)
	run.sequence++
	report := order.Report{Run: run.order.Run, Attempt: 1, Sequence: run.sequence, Origin: order.FromOrder, Created: run.order.Created, Started: now,
		State: order.Running, Spec: run.order.Spec, Progress: order.Progress{Phase: order.Delivering, JobsDone: jobs, JobsPlanned: jobs}, BootID: a.bootID, Subject: run.subject}
	if a.say(a.request(ctx, http.MethodPut, "/agent/v1/runs/"+run.order.Run, report), nil) != nil {
		return false
	}
	finish := order.Finish{Finished: now, Failure: run.work.Failure, Counts: run.work.counts(), Files: []order.File{}}
	report.Sequence, report.State = report.Sequence+1, order.Failed
	if run.work.Failure == nil {
		report.State = order.Completed
		for _, f := range []struct {
			kind  order.FileKind
			name  string
			bytes []byte
		}{{order.SubmissionFile, "submission.json", run.archive}, {order.JobsFile, "jobs.json", run.work.jobs()}} {
			sum := sha256.Sum256(f.bytes)
			file := order.File{Kind: f.kind, Name: f.name, SHA256: hex.EncodeToString(sum[:]), Size: int64(len(f.bytes))}
			path := fmt.Sprintf("/agent/v1/runs/%s/attempts/1/files/%s", run.order.Run, file.SHA256)
			if a.upload(ctx, path, file, f.bytes) != nil {
				return false
			}
			finish.Files = append(finish.Files, file)
		}
	}
	run.sequence++
	finish.Report = report
	if a.say(a.request(ctx, http.MethodPost, "/agent/v1/runs/"+run.order.Run+"/finish", finish), nil) != nil {
		return false
	}
	a.rack.mu.Lock()
	run.delivered = true
	a.rack.mu.Unlock()
	// What it holds has changed.
	_ = a.say(a.request(ctx, http.MethodPut, "/agent/v1/status", a.status()), nil)
	return true
}
