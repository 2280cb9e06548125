package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"certlab/internal/order"
)

// A Client speaks to the agent in a directory over its socket.
type Client struct{ http *http.Client }

// NewClient returns a client of the agent in dir.
func NewClient(dir string) *Client {
	socket := filepath.Join(dir, order.AgentSocket)
	return &Client{&http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}}
}

func (c *Client) do(ctx context.Context, method, path string, body, answer any) error {
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		reader = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, reader)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("cannot reach the agent: %w (is it running, and are you root?)", err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("cannot read the agent's answer: %w", err)
	}
	if resp.StatusCode >= 300 {
		var failed struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(data, &failed) == nil && failed.Error != "" {
			return errors.New(failed.Error)
		}
		return fmt.Errorf("cannot use the agent: it answers %s", resp.Status)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("cannot read the agent's answer: %w", err)
	}
	return nil
}

// Status returns the agent's status.
func (c *Client) Status(ctx context.Context) (order.AgentStatus, error) {
	var s order.AgentStatus
	return s, c.do(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// Clean tells the agent that a dirty machine is what it was, on a person's word.
func (c *Client) Clean(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, "/v1/clean", nil, nil)
}

// Start asks for a run.
func (c *Client) Start(ctx context.Context, req order.RunRequest) (order.Run, error) {
	var r order.Run
	err := c.do(ctx, http.MethodPost, "/v1/runs", req, &r)
	return r, err
}

// Run returns a run, once it is final or wait is over.
func (c *Client) Run(ctx context.Context, id string, wait time.Duration) (order.Run, error) {
	var r order.Run
	err := c.do(ctx, http.MethodGet, fmt.Sprintf("/v1/runs/%s?wait=%d", url.PathEscape(id), int(wait.Seconds())), nil, &r)
	return r, err
}

// Cancel asks for a run to end.
func (c *Client) Cancel(ctx context.Context, id string) (order.Run, error) {
	var r order.Run
	err := c.do(ctx, http.MethodPost, "/v1/runs/"+url.PathEscape(id)+"/cancel", nil, &r)
	return r, err
}

// RerunFailed asks for the jobs of a run that failed to be run again.
func (c *Client) RerunFailed(ctx context.Context, id string) (order.Run, error) {
	var r order.Run
	err := c.do(ctx, http.MethodPost, "/v1/runs/"+url.PathEscape(id)+"/rerun-failed", nil, &r)
	return r, err
}

// Plans lists the plans whose id or name contains filter.
func (c *Client) Plans(ctx context.Context, filter string) ([]order.Suite, error) {
	var s []order.Suite
	err := c.do(ctx, http.MethodGet, "/v1/plans?filter="+url.QueryEscape(filter), nil, &s)
	return s, err
}

// Interactive runs a plan at this terminal: it has the agent in dir prepare the run, runs Checkbox here, and returns the run once the
// agent has taken in what came of it. After a reboot in the middle it is called again with the run's id in req.
func Interactive(ctx context.Context, dir string, req order.RunRequest, tell func(string)) (order.Run, error) {
	c := NewClient(dir)
	req.Origin = order.FromInteractive
	r, err := c.Start(ctx, req)
	if err != nil {
		return r, err
	}
	tell(fmt.Sprintf("run %s of %s: preparing", r.Run, r.Spec.Plan))
	for {
		var t terminal
		if err := c.do(ctx, http.MethodGet, "/v1/runs/"+url.PathEscape(r.Run)+"/terminal", nil, &t); err != nil {
			return r, err
		}
		r = t.Run
		if r.State.Final() {
			return r, nil
		}
		if t.Start != "" {
			// Not ctx: an interrupt from the keyboard is Checkbox's to answer, in its own way.
			if err := Keep(context.WithoutCancel(ctx), t.Start); err != nil {
				return r, err
			}
		}
		if !sleep(ctx, 200*time.Millisecond) {
			// The run would wait for its person for a while; who leaves before it began does not come back.
			cancelCtx, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer stop()
			return c.Cancel(cancelCtx, r.Run)
		}
	}
}
