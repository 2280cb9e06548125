package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"strings"
	"time"

	"certlab/internal/hooks"
	"certlab/internal/workload"
)

// waitStep is how long one request of a longer wait may take, and runPoll how often a run is looked at.
const (
	waitStep = 20 * time.Second
	runPoll  = 2 * time.Second
)

// plan is a Checkbox plan's full id.
var planID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*::[^\s\x00-\x1f\x7f]+$`)

// report is what an import of dossiers answers.
type report struct {
	Lines   int  `json:"lines"`
	Changed int  `json:"changed"`
	DryRun  bool `json:"dry_run"`
	Changes []struct{ Machine, Hostname, Field, Before, After string }
}

func decodeReport(answer []byte) (report, error) {
	var r report
	if err := json.Unmarshal(answer, &r); err != nil {
		return r, fmt.Errorf("cannot read the service's answer: %w", err)
	}
	return r, nil
}

// reservation is what actions look at in one.
type reservation struct {
	ID       string `json:"id"`
	Kind     string `json:"kind"`
	State    string `json:"state"`
	Run      string `json:"run"`
	Holder   string `json:"holder"`
	Hostname string `json:"hostname"`
}

func (r reservation) waiting() bool { return r.State == "queued" || r.State == "preparing" }

type runPlanParams struct {
	Plan    string `param:"plan"`
	Query   string `param:"query"`
	Release string `param:"release"`
	Kernel  string `param:"kernel"`
	Reason  string `param:"reason"`
	Wait    int64  `param:"wait"` // seconds
}

func (p runPlanParams) check() error {
	if len(p.Plan) > maxLine || !printable(p.Plan) || !planID.MatchString(p.Plan) {
		return fmt.Errorf("cannot run plan %s: want a full id, such as com.canonical.certlab::preflight", hooks.Shown(p.Plan))
	}
	if err := checkName("query", p.Query, "a machine's name, or attributes such as tags=gpu,arch=arm64,memory>=64G"); err != nil {
		return err
	}
	for name, value := range map[string]string{"release": p.Release, "kernel": p.Kernel} {
		if value != "" && !releaseName.MatchString(value) {
			return fmt.Errorf("cannot use %s %s: want a name as MAAS has it, such as noble or hwe-24.04", name, hooks.Shown(value))
		}
	}
	return checkReason(p.Reason, false)
}

// runPlan reserves a machine for one run: it is provisioned, runs the plan, delivers and is released, whoever waits for that.
func (sys system) runPlan(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params runPlanParams
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	if err := params.check(); err != nil {
		return fail(call, err)
	}
	ask, err := sys.api(u)
	if err != nil {
		return fail(call, err)
	}
	reason := params.Reason
	if reason == "" {
		reason = "run-plan, task " + call.ID
	}
	var got map[string]any
	if err := ask(ctx, callTime, "POST", "/api/v1/reservations", map[string]any{
		"reason": reason, "query": params.Query, "release": params.Release, "kernel": params.Kernel, "failover": true,
		"spec": map[string]any{"plan": params.Plan, "title": reason},
	}, &got); err != nil {
		return fail(call, err)
	}
	r := decodeReservation(got)
	if params.Wait > 0 {
		if err := call.Log(ctx, "reservation %s is made; if this task does not end, ask: juju run %s show-reservation reservation=%s", r.ID, u.Name, r.ID); err != nil {
			return err
		}
	}
	got, run := followRun(ctx, ask, got, time.Now().Add(time.Duration(params.Wait)*time.Second))
	results := shownReservation(got)
	if run != nil {
		results["run-state"], results["run-url"] = run["state"], run["url"]
		if counts, ok := resultKeys(run["counts"]).(map[string]any); ok {
			results["counts"] = counts
		}
	}
	if err := call.Set(results); err != nil {
		return fail(call, err)
	}
	if message := failureOf(run); message != "" {
		call.Fail("%s (run %s)", message, decodeReservation(got).Run)
	} else if message := failureOf(got); message != "" {
		call.Fail("%s (reservation %s)", message, r.ID)
	}
	return nil
}

// failureOf is the message of a run's or a reservation's failure.
func failureOf(v map[string]any) string {
	failure, _ := v["failure"].(map[string]any)
	message, _ := failure["message"].(string)
	return message
}

func decodeReservation(v map[string]any) reservation {
	text := func(key string) string { s, _ := v[key].(string); return s }
	return reservation{ID: text("id"), Kind: text("kind"), State: text("state"), Run: text("run"), Holder: text("holder"), Hostname: text("hostname")}
}

// followRun waits until the run of a reservation is over, or the time is. The run goes on by itself; whatever is lost on the way, what was
// known last is returned.
func followRun(ctx context.Context, ask caller, got map[string]any, deadline time.Time) (map[string]any, map[string]any) {
	var run map[string]any
	again := func(path string, step time.Duration, into *map[string]any) bool {
		var now map[string]any
		err := ask(ctx, callTime+step, "GET", path, nil, &now)
		if err == nil {
			*into = now
		}
		var refused *workload.APIError
		return err == nil || errors.Is(err, workload.ErrNotAnswering) || errors.As(err, &refused) && refused.Status == 404
	}
	for ctx.Err() == nil && time.Until(deadline) > 0 {
		r := decodeReservation(got)
		if r.waiting() {
			step := min(time.Until(deadline), waitStep)
			path := fmt.Sprintf("/api/v1/reservations/%s?wait=%d", url.PathEscape(r.ID), max(1, int(step.Seconds())))
			if !again(path, step, &got) {
				return got, run
			}
			if decodeReservation(got).waiting() && !pause(ctx, min(runPoll, time.Until(deadline))) {
				return got, run
			}
			continue
		}
		if r.Run != "" && !again("/api/v1/runs/"+url.PathEscape(r.Run), 0, &run) {
			return got, run
		}
		state, _ := run["state"].(string)
		if state == "completed" || state == "failed" || state == "cancelled" || r.Run == "" || run == nil && r.State == "ended" {
			return got, run
		}
		if !pause(ctx, min(runPoll, time.Until(deadline))) {
			return got, run
		}
	}
	return got, run
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// shownReservation are the results about a reservation. Keys are people's, and not for a log.
func shownReservation(answer map[string]any) map[string]any {
	answer = maps.Clone(answer)
	if want, ok := answer["want"].(map[string]any); ok {
		want = maps.Clone(want)
		delete(want, "resolved")
		delete(want, "keys")
		answer["want"] = want
	}
	results := resultKeys(answer).(map[string]any)
	results["reservation"] = results["id"]
	delete(results, "id")
	return results
}

type reservationParam struct {
	Reservation string `param:"reservation"`
}

const aReservation = "a reservation's id, or the name of the machine that it has"

func (sys system) showReservation(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params reservationParam
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	if err := checkName("reservation", params.Reservation, aReservation); err != nil {
		return fail(call, err)
	}
	ask, err := sys.api(u)
	if err != nil {
		return fail(call, err)
	}
	var got map[string]any
	if err := ask(ctx, callTime, "GET", "/api/v1/reservations/"+url.PathEscape(params.Reservation), nil, &got); err != nil {
		return fail(call, err)
	}
	return set(call, shownReservation(got))
}

// cancelReservation ends what the lab itself, or a run-plan, has asked for. A person's machine is the person's to give back.
func (sys system) cancelReservation(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params struct {
		Reservation string `param:"reservation"`
		Reason      string `param:"reason"`
	}
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	if err := checkName("reservation", params.Reservation, aReservation); err != nil {
		return fail(call, err)
	}
	if err := checkReason(params.Reason, false); err != nil {
		return fail(call, err)
	}
	ask, err := sys.api(u)
	if err != nil {
		return fail(call, err)
	}
	var got map[string]any
	if err := ask(ctx, callTime, "GET", "/api/v1/reservations/"+url.PathEscape(params.Reservation), nil, &got); err != nil {
		return fail(call, err)
	}
	r := decodeReservation(got)
	if r.Kind == "manual" || r.Kind == "" {
		return fail(call, fmt.Errorf("cannot cancel reservation %s: it is %s's own, and Juju does not tell who asks (they, or an admin, can: certlab machine release %s)", r.ID, r.Holder, strings.TrimSpace(r.Hostname)))
	}
	if err := ask(ctx, callTime, "POST", "/api/v1/reservations/"+url.PathEscape(r.ID)+"/cancel", map[string]any{"reason": params.Reason}, &got); err != nil {
		return fail(call, err)
	}
	return set(call, shownReservation(got))
}
