package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/tests/bench/report"
)

// BenchmarkPoll has 1,000 agents poll one certlabd, each with a key and a connection of its own, and gives them orders.
func BenchmarkPoll(b *testing.B) {
	const machines, orders = 1000, 300
	const idle = 20 * time.Second
	agents := make([]*agent, machines)
	for n := range agents {
		agents[n] = newAgent(b, n)
	}
	s := startService(b, b.TempDir(), agents...)
	alone, _ := s.memory()
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	defer func() { stop(); all.Wait() }()
	var mu sync.Mutex
	arrived := make(map[string]time.Time)
	first := make(chan struct{}, machines)
	had := make(chan struct{}, orders)
	for _, a := range agents {
		c := a.client(s)
		all.Go(func() {
			for wait := 0; ctx.Err() == nil; wait = 50 {
				p, err := pollOnce(ctx, c, s.url, wait)
				at := time.Now()
				if err != nil {
					if ctx.Err() == nil {
						b.Error(err)
					}
					return
				}
				if wait == 0 {
					first <- struct{}{}
				}
				for _, o := range p.Orders {
					d := delivery{s: s, run: o.Run}
					s.call(c, http.MethodPut, s.url+"/agent/v1/runs/"+o.Run, d.report(order.Running), nil)
					mu.Lock()
					if _, again := arrived[o.Run]; !again {
						arrived[o.Run] = at
						had <- struct{}{}
					}
					mu.Unlock()
				}
			}
		})
	}
	for range machines {
		select {
		case <-first:
		case <-time.After(patience):
			require.FailNow(b, "not all agents have polled")
		}
	}
	before := s.processor()
	time.Sleep(idle) // what is measured is that nothing happens
	used := s.processor() - before
	waiting, _ := s.memory()

	started := make(map[string]time.Time)
	for n := range orders {
		run := cert.NewID(cert.RunID, time.Now())
		started[run] = time.Now()
		s.call(s.root, http.MethodPost, "http://local/api/v1/runs", cert.NewRun{ID: run, Machine: agents[n*37%machines].identity.Hostname,
			Spec: cert.Spec{Plan: "com.example.lab::small"}}, nil)
	}
	for range orders {
		select {
		case <-had:
		case <-time.After(patience):
			require.FailNow(b, "not all orders have arrived")
		}
	}
	var took []time.Duration
	for run, at := range started {
		took = append(took, arrived[run].Sub(at))
	}
	report.Add(b, report.Row{Measure: "From an order to the agent that has it, with 1,000 agents polling", Value: report.Milliseconds(report.Percentile(took, 99)), Unit: "ms",
		Also: fmt.Sprintf("p99 of %d; p50 %.1f ms", orders, report.Milliseconds(report.Percentile(took, 50))), Goal: report.AtMost(1000)})
	report.Add(b, report.Row{Measure: "Memory of certlabd per polling agent", Value: float64(waiting-alone) / machines / 1024, Unit: "KiB",
		Also: fmt.Sprintf("%.0f MiB with none, %.0f MiB with 1,000", report.MiB(alone), report.MiB(waiting))})
	report.Add(b, report.Row{Measure: "Processor time of certlabd with 1,000 idle agents", Value: report.Milliseconds(used) * float64(time.Minute/idle), Unit: "ms per minute"})
}

func pollOnce(ctx context.Context, c *http.Client, url string, wait int) (p order.Poll, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/agent/v1/poll?wait=%d", url, wait), nil)
	if err != nil {
		return p, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return p, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return p, fmt.Errorf("poll: %s", resp.Status)
	}
	return p, json.NewDecoder(resp.Body).Decode(&p)
}
