package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

// TestFaultExitStatusOfReserveAndRun: scripts go by the exit status, so each ending has its own, and the message stands on standard error.
func TestFaultExitStatusOfReserveAndRun(t *testing.T) {
	const id, runID = "v01hzz3m2k3n4p5q6r7s8t9v0w1", "r01hzz3m2k3n4p5q6r7s8t9v0w1"
	ready := cert.Reservation{ID: id, State: cert.ReservationReady, Hostname: "node1", Run: runID}
	failed := cert.Reservation{ID: id, State: cert.ReservationEnded, Ending: cert.EndedFailed, Run: runID, Failure: &cert.Failure{Type: cert.FailBoot, Message: "it does not boot"}}
	queued := cert.Reservation{ID: id, State: cert.ReservationQueued, Blocked: "nobody has a GPU to spare", Estimate: &cert.Estimate{Position: 2}}
	over := func(state cert.State, counts cert.Counts) *cert.Run {
		return &cert.Run{ID: runID, State: state, Hostname: "node1", Spec: cert.Spec{Plan: "a::b"}, Counts: counts}
	}
	for _, c := range []struct {
		name        string
		args        string
		reservation cert.Reservation
		run         *cert.Run
		refusal     string
		code        int
		out, errs   string
	}{
		{"ready", "reserve gpu --reason x", ready, nil, "", 0, "node1", ""},
		{"no machine", "reserve gpu --reason x", failed, nil, "", 3, "boot: it does not boot", ""},
		{"still waiting", "reserve gpu --reason x --patience 1ms", queued, nil, "", 4, "queued", "waiting for a machine, number 2 in the queue: nobody has a GPU to spare"},
		{"asked for only", "reserve gpu --reason x --no-wait", queued, nil, "", 0, "queued", ""},
		{"refused", "reserve gpu --reason x", ready, nil, "no machine matches gpu", 1, "", "certlab: no machine matches gpu"},
		{"no reason", "reserve gpu", ready, nil, "", 2, "", "--reason"},
		{"ran", "run a::b --query gpu", ready, over(cert.Completed, cert.Counts{"pass": 3}), "", 0, "3 pass", "node1 is ready: a::b runs as " + runID},
		{"something failed", "run a::b --query gpu", ready, over(cert.Completed, cert.Counts{"pass": 3, "fail": 1}), "", 1, "1 fail", ""},
		{"no manifest is not green", "run a::b --query gpu", ready, over(cert.Completed, cert.Counts{"pass": 3, cert.OutcomeNoManifest: 1}), "", 1, "1 no-manifest", ""},
		{"a lost machine is not green", "run a::b --query gpu", ready, over(cert.Completed, cert.Counts{"pass": 3, cert.OutcomeLost: 1}), "", 1, "1 machine-lost", ""},
		{"no results", "run a::b --query gpu", ready, over(cert.Failed, nil), "", 3, "failed", ""},
		{"no machine to run on", "run a::b --query gpu", failed, nil, "", 3, "it does not boot", ""},
		{"not over", "run a::b --query gpu --patience 1ms", ready, over(cert.Running, nil), "", 4, "running", ""},
		{"cannot be right", "run a::b --query gpu", ready, nil, "no machine matches gpu", 2, "", "certlab: no machine matches gpu"},
		{"neither query nor machine", "run a::b", ready, nil, "", 2, "", "--query"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fakeController(t, func(w http.ResponseWriter, r *http.Request) {
				answer := func(status int, v any) {
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(status)
					_ = json.NewEncoder(w).Encode(v)
				}
				refuse := func(status int, code cert.Code, message string) {
					answer(status, map[string]any{"error": map[string]string{"code": string(code), "message": message}})
				}
				switch {
				case c.refusal != "":
					refuse(http.StatusBadRequest, cert.Invalid, c.refusal)
				case strings.HasPrefix(r.URL.Path, "/api/v1/runs/") && c.run == nil:
					refuse(http.StatusNotFound, cert.NotFound, "there is no such run")
				case strings.HasPrefix(r.URL.Path, "/api/v1/runs/"):
					answer(http.StatusOK, c.run)
				default:
					answer(http.StatusOK, c.reservation)
				}
			})
			code, out, errs := certlab(t, "", append([]string{"machine"}, strings.Fields(c.args)...)...)
			require.Equal(t, c.code, code, "%s%s", out, errs)
			require.Contains(t, out, c.out)
			require.Contains(t, errs, c.errs)
		})
	}
}
