package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"certlab/internal/order"
	"certlab/tests/lab"
)

// well says what is missing before the lab is as it was deployed: each unit active and idle, each agent enrolled.
func (s *Soak) well(ctx context.Context) string {
	status, err := s.lab.Status(ctx)
	if err != nil {
		return err.Error()
	}
	units := status.Units()
	if len(units) != s.Profile.Machines+1 {
		return fmt.Sprintf("there are %d units", len(units))
	}
	var wrong []string
	for name, u := range units {
		want := "enrolled"
		if name == controllerUnit {
			want = fmt.Sprintf("%d machine", s.Profile.Machines)
		}
		if u.Workload.Current != "active" || !strings.Contains(u.Workload.Message, want) || u.Agent.Current != "idle" ||
			strings.Contains(u.Workload.Message, "running ") && name != controllerUnit {
			wrong = append(wrong, fmt.Sprintf("%s is %s/%s: %q", name, u.Workload.Current, u.Agent.Current, u.Workload.Message))
		}
	}
	sort.Strings(wrong)
	return strings.Join(wrong, "; ")
}

// agentRun is what is read of an agent's record of a run.
type agentRun struct {
	Run     order.Run `json:"run"`
	Step    string    `json:"step"`
	Dropped bool      `json:"dropped"`
	Kept    bool      `json:"kept"` // delivered, and its files are still there
}

// agentRuns reads what a machine's agent has written down of its runs.
func agentRuns(ps lab.Processes, machine string) ([]agentRun, error) {
	dir := ps.Path(machine, agentDir(machine))
	if dir == "" {
		return nil, fmt.Errorf("machine %s is off", machine)
	}
	paths, err := filepath.Glob(filepath.Join(dir, "runs", "*", "run.json"))
	if err != nil {
		return nil, err
	}
	var runs []agentRun
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var r agentRun
		if err := json.Unmarshal(data, &r); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		runs = append(runs, r)
	}
	return runs, nil
}

func agentDir(machine string) string {
	return "/var/lib/certlab/unit-" + strings.ReplaceAll(unitOn(machine), "/", "-") + "/agent"
}

func (s *Soak) machines() []string {
	var numbers []string
	for n := range s.Profile.Machines {
		numbers = append(numbers, fmt.Sprint(n+1))
	}
	return numbers
}

// settle waits until everything is over and well. Nobody helps.
func (s *Soak) settle(ctx context.Context) error {
	return s.until(ctx, s.unsettled)
}

// unsettled says what is not over yet.
func (s *Soak) unsettled(ctx context.Context) string {
	runs, err := s.api.Runs(ctx, nil, 0)
	if err != nil {
		return err.Error()
	}
	var open []string
	for _, run := range runs {
		if !run.State.Final() {
			open = append(open, fmt.Sprintf("run %s (%s) on %s is %s", run.ID, run.Spec.Plan, run.Hostname, run.State))
		}
	}
	if len(open) > 0 {
		return fmt.Sprintf("%d runs are not over, such as: %s", len(open), open[len(open)-1])
	}
	subs, err := s.api.Submissions(ctx, nil, 0)
	if err != nil {
		return err.Error()
	}
	for _, sub := range subs {
		if sub.IndexState == "pending" {
			return "submission " + sub.ID + " waits to be indexed"
		}
	}
	ps, err := s.lab.Processes()
	if err != nil {
		return err.Error()
	}
	for _, machine := range s.machines() {
		known, err := agentRuns(ps, machine)
		if err != nil {
			return err.Error()
		}
		for _, r := range known {
			if r.Step != "ended" || !r.Run.Delivered {
				return fmt.Sprintf("run %s of machine %s is in step %q, delivered %v, dropped %v", r.Run.Run, machine, r.Step, r.Run.Delivered, r.Dropped)
			}
		}
	}
	if wrong := s.strangers(ps); wrong != "" {
		return wrong
	}
	return s.well(ctx)
}

// strangers says what runs in the lab besides what has to, or what of that is missing.
func (s *Soak) strangers(ps lab.Processes) string {
	for n := range s.Profile.Machines + 1 {
		machine := fmt.Sprint(n)
		want := map[lab.Role]int{lab.Init: 1, lab.Pebble: 1, lab.Agent: 1}
		if n == 0 {
			want = map[lab.Role]int{lab.Init: 1, lab.Pebble: 1, lab.Certlabd: 1}
		}
		for _, p := range ps.Machines[machine] {
			if want[p.Role()]--; want[p.Role()] < 0 {
				return fmt.Sprintf("machine %s has a process too many: %s", machine, p)
			}
		}
		for role, left := range want {
			if left > 0 {
				return fmt.Sprintf("machine %s has no %s", machine, role)
			}
		}
	}
	return ""
}
