package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/durable"
	"certlab/internal/order"
	"certlab/tests/bench/report"
)

// usage is what a process has used since it started.
type usage struct {
	processor time.Duration // its own
	tree      time.Duration // and that of the children that it has waited for
	wakeups   int64         // how often one of its threads gave up a processor and came back
}

// use reads what a process has used; false if it is gone.
func use(pid int) (u usage, ok bool) {
	dir := fmt.Sprintf("/proc/%d", pid)
	text, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return u, false
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 15 || fields[0] == "Z" {
		return u, false
	}
	for n, field := range fields[11:15] {
		ticks, _ := strconv.ParseInt(field, 10, 64)
		if n >= 2 {
			u.tree += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	tasks, _ := filepath.Glob(dir + "/task/*")
	for _, task := range tasks {
		// Nanoseconds, where stat has hundredths of a second.
		if text, err := os.ReadFile(task + "/schedstat"); err == nil {
			fields := strings.Fields(string(text))
			ns, _ := strconv.ParseInt(fields[0], 10, 64)
			u.processor += time.Duration(ns)
		}
		if text, err := os.ReadFile(task + "/status"); err == nil {
			_, rest, _ := strings.Cut(string(text), "\nvoluntary_ctxt_switches:")
			line, _, _ := strings.Cut(rest, "\n")
			n, _ := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
			u.wakeups += n
		}
	}
	u.tree += u.processor
	return u, true
}

// child returns the first child of a process, 0 if it has none.
func child(pid int) int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, path := range tasks {
		text, _ := os.ReadFile(path)
		if fields := strings.Fields(string(text)); len(fields) > 0 {
			n, _ := strconv.Atoi(fields[0])
			return n
		}
	}
	return 0
}

// keeperOf finds the process that keeps Checkbox for the agent in dir.
func keeperOf(dir string) int {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		text, _ := os.ReadFile(path)
		args := strings.Split(string(text), "\x00")
		if len(args) > 2 && strings.HasSuffix(args[0], "certlab-agent") && args[1] == "keep" && strings.HasPrefix(args[2], dir) {
			pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
			return pid
		}
	}
	return 0
}

// BenchmarkAgentFootprint runs a plan with the real agent and the real Checkbox, and reads what agent and keeper use meanwhile.
func BenchmarkAgentFootprint(b *testing.B) {
	checkbox := os.Getenv("CERTLAB_CHECKBOX")
	if checkbox == "" {
		b.Skip("CERTLAB_CHECKBOX is not set: run make bench")
	}
	provider, err := filepath.Abs(filepath.Join("..", "..", "charms", "checkbox", "provider"))
	require.NoError(b, err)
	dir, err := os.MkdirTemp("", "certlab-bench") // a short path: it has a socket
	require.NoError(b, err)
	b.Cleanup(func() { os.RemoveAll(dir) })
	desired, err := json.Marshal(order.AgentDesired{Unit: "checkbox/0", ModelUUID: "model", Checkbox: order.CheckboxSource{Source: "path", Path: checkbox},
		TimeoutSeconds: 600, SilenceSeconds: 300, ConsoleMaxBytes: 64 << 20, SessionMaxBytes: 1 << 30, MaxBoots: 10, ProviderPaths: []string{provider}})
	require.NoError(b, err)
	require.NoError(b, durable.WriteFile(filepath.Join(dir, order.AgentDesiredFile), desired, 0o600))
	agent := exec.Command(program(b, "certlab-agent"), "run", "--dir", dir)
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(b, err)
	defer log.Close()
	agent.Stderr = log
	require.NoError(b, agent.Start())
	defer func() {
		_ = agent.Process.Signal(syscall.SIGTERM)
		_ = agent.Wait()
	}()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, order.AgentSocket))
	}}, Timeout: 2 * patience}
	s := &service{t: b} // for its call
	until(b, "the agent answers", func() bool {
		resp, err := client.Get("http://agent/v1/runs")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})

	// Idle, once it has looked at Checkbox.
	idle, _ := use(agent.Process.Pid)
	for quiet := 0; quiet < 3; {
		time.Sleep(time.Second)
		now, _ := use(agent.Process.Pid)
		if quiet++; now.processor-idle.processor > 20*time.Millisecond {
			quiet = 0
		}
		idle = now
	}
	const idleTime = 10 * time.Second
	time.Sleep(idleTime)
	later, _ := use(agent.Process.Pid)
	report.Add(b, report.Row{Measure: "The agent, idle: processor time", Value: 100 * (later.processor - idle.processor).Seconds() / idleTime.Seconds(), Unit: "% of a core",
		Also: fmt.Sprintf("%.1f wakeups a second", float64(later.wakeups-idle.wakeups)/idleTime.Seconds()), Goal: report.AtMost(0.1)})

	var run order.Run
	s.call(client, http.MethodPost, "http://agent/v1/runs", order.RunRequest{Origin: order.FromAction, Spec: order.Spec{Plan: "com.canonical.certlab::demo-slow"}}, &run)
	var keeper, theirs int
	until(b, "Checkbox runs", func() bool {
		if keeper = keeperOf(dir); keeper != 0 {
			theirs = child(keeper)
		}
		return theirs != 0
	})
	before, _ := use(agent.Process.Pid)
	keeperBefore, _ := use(keeper)
	theirsBefore, _ := use(theirs)
	started := time.Now()
	var ours, kept, checked usage
	var wall time.Duration
	var agentPeak, keeperPeak int64
	for {
		time.Sleep(500 * time.Millisecond)
		now, ok := use(theirs)
		if !ok {
			break
		}
		k, ok := use(keeper)
		if !ok {
			break
		}
		checked, kept, wall = now, k, time.Since(started)
		ours, _ = use(agent.Process.Pid)
		_, peak := memory(b, agent.Process.Pid)
		agentPeak = max(agentPeak, peak)
		if _, peak := memory(b, keeper); peak > keeperPeak {
			keeperPeak = peak
		}
		require.Less(b, wall, 5*time.Minute)
	}
	require.Greater(b, wall, 10*time.Second, "the plan is too short to say anything")
	processor := ours.processor - before.processor + kept.processor - keeperBefore.processor
	wakeups := ours.wakeups - before.wakeups + kept.wakeups - keeperBefore.wakeups
	checkboxTime := checked.tree - theirsBefore.tree
	report.Add(b, report.Row{Measure: "While Checkbox runs: processor time of agent and keeper", Value: 100 * processor.Seconds() / wall.Seconds(), Unit: "% of a core",
		Also: fmt.Sprintf("%.0f s of a plan that mostly waits", wall.Seconds()), Against: "Checkbox's own", Baseline: 100 * checkboxTime.Seconds() / wall.Seconds(), Goal: report.AtMost(0.5)})
	report.Add(b, report.Row{Measure: "While Checkbox runs: wakeups of agent and keeper", Value: float64(wakeups) / wall.Seconds(), Unit: "a second", Goal: report.AtMost(20)})
	report.Add(b, report.Row{Measure: "While Checkbox runs: peak memory of the agent", Value: report.MiB(agentPeak), Unit: "MiB", Goal: report.AtMost(64)})
	report.Add(b, report.Row{Measure: "While Checkbox runs: peak memory of the keeper", Value: report.MiB(keeperPeak), Unit: "MiB", Goal: report.AtMost(32)})

	resp, err := client.Get("http://agent/v1/runs/" + run.Run + "?wait=60")
	require.NoError(b, err)
	defer resp.Body.Close()
	require.NoError(b, json.NewDecoder(resp.Body).Decode(&run))
	require.Equal(b, order.Completed, run.State)
	_, peak := memory(b, agent.Process.Pid)
	report.Add(b, report.Row{Measure: "Peak memory of the agent, reading the submission included", Value: report.MiB(peak), Unit: "MiB", Goal: report.AtMost(128)})
}

// until waits for something that is looked at every 10 ms.
func until(t testing.TB, what string, done func() bool) {
	for deadline := time.Now().Add(2 * patience); !done(); time.Sleep(10 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "%s: not in time", what)
	}
}
