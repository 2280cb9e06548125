package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

// answers is a controller that answers by method and path, and keeps what it was asked.
type answers struct {
	t      *testing.T
	mu     sync.Mutex
	asked  []string          // METHOD path?query
	bodies map[string]string // the last one, by METHOD path
	by     map[string]func(http.ResponseWriter, *http.Request)
}

func newAnswers(t *testing.T) *answers {
	a := &answers{t: t, bodies: map[string]string{}, by: map[string]func(http.ResponseWriter, *http.Request){}}
	fakeController(t, func(w http.ResponseWriter, r *http.Request) {
		key := r.Method + " " + r.URL.Path
		body, _ := io.ReadAll(r.Body)
		a.mu.Lock()
		a.asked = append(a.asked, r.Method+" "+r.URL.RequestURI())
		a.bodies[key] = string(body)
		answer := a.by[key]
		a.mu.Unlock()
		if answer == nil {
			refuse(http.StatusNotFound, cert.NotFound, "there is nothing at "+r.URL.Path)(w, r)
			return
		}
		answer(w, r)
	})
	return a
}

// gives answers a question with v.
func (a *answers) gives(question string, v any) {
	a.by[question] = func(w http.ResponseWriter, r *http.Request) { _ = json.NewEncoder(w).Encode(v) }
}

func refuse(status int, code cert.Code, message string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"code": code, "message": message}})
	}
}

// ends runs a command that must end with this status, and returns what it says.
func ends(t *testing.T, status exitCode, args ...string) (out, errs string) {
	t.Helper()
	code, out, errs := certlab(t, "", args...)
	require.Equal(t, int(status), code, "certlab %v: %s%s", args, out, errs)
	return out, errs
}

// TestFaultCampaignArguments: what cannot be right is said before anything is asked for, and is never one of the statuses that say how a campaign stands.
func TestFaultCampaignArguments(t *testing.T) {
	a := newAnswers(t)
	empty := filepath.Join(t.TempDir(), "empty")
	start := func(more ...string) []string { return append([]string{"campaign", "start"}, more...) }
	for message, args := range map[string][]string{
		"cannot tell what to test: give --kernel":                                                             start("--query", "arch=amd64"),
		`cannot use --kernel "linux": give it as NAME=VERSION`:                                                start("--kernel", "linux", "--query", "a=b"),
		`cannot use --package "a=": give it as NAME=VERSION`:                                                  start("--package", "a=", "--query", "a=b"),
		"--kernel and --image can't be used together":                                                         start("--kernel", "linux=1", "--image", "2"),
		"--pocket and --ppa can't be used together":                                                           start("--kernel", "linux=1", "--pocket", "proposed", "--ppa", "ppa:a/b"),
		"cannot use --suite, --component or --key-file without --archive":                                     start("--kernel", "linux=1", "--suite", "noble", "--query", "a=b"),
		"cannot read the archive's key: open " + empty:                                                        start("--kernel", "linux=1", "--archive", "https://a", "--key-file", empty, "--query", "a=b"),
		"cannot tell which machines: give --query, --machine or --of-baseline":                                start("--kernel", "linux=1"),
		"--query and --machine can't be used together":                                                        start("--kernel", "linux=1", "--query", "a=b", "--machine", "c"),
		`cannot use the time "tomorrow": give one such as 2026-12-01T12:00:00Z, or a date such as 2026-12-01`: start("--kernel", "linux=1", "--query", "a=b", "--due", "tomorrow"),
		"unknown flag --colour":                                                                               start("--colour", "red"),
		"cannot change the campaign: give --due, --priority or --at-once":                                     {"campaign", "change", "x"},
		"missing flags: --reason=TEXT":                                                                        {"campaign", "cancel", "x"},
		"cannot use --standing or --query without --all":                                                      {"decision", "approve", "x", "--standing", "undecided", "--reason", "y"},
		"cannot tell what to waive: name findings, or give --all with what chooses them":                      {"decision", "waive", "x", "--until", "2030-01-01", "--reason", "y"},
		"cannot use a filter with named findings: give --all instead of them":                                 {"decision", "waive", "x", "f1", "--class", "regression", "--until", "2030-01-01", "--reason", "y"},
		"cannot read the policy: open " + empty:                                                               {"policy", "check", empty},
		"cannot read the kernel team's status: there is nothing in it":                                        {"kernel", "read", "-"},
		"unexpected argument explode":                                                                         {"campaign", "explode"},
	} {
		out, errs := ends(t, exitUsage, args...)
		require.Contains(t, errs, message, "%v", args)
		require.Empty(t, out)
	}
	require.Empty(t, a.asked, "nothing was asked for")
	_, errs := ends(t, 2, "run", "explode")
	require.Contains(t, errs, "unexpected argument explode", "other commands are as they were")
}

// TestFaultCampaignRefusals: what the controller refuses has its own exit status, apart from those that say how a campaign stands.
func TestFaultCampaignRefusals(t *testing.T) {
	a := newAnswers(t)
	approve := []string{"decision", "approve", "noble", "--reason", "all is well", "--seen", "57"}
	for _, c := range []struct {
		http    int
		code    cert.Code
		message string
		want    exitCode
	}{
		{403, cert.Forbidden, "cannot approve noble: its policy sru@3 wants the role signer: ada has the role engineer", exitNoRight},
		{401, cert.Unauthorized, "the token is unknown, revoked or expired (get a new one: certlab login)", exitNoRight},
		{409, cert.Conflict, "cannot approve noble: since version 57 a finding was added (node1: suspend fails); look at version 59 and decide again", exitConflict},
		{400, cert.Invalid, "cannot decide: say why (reason)", exitUsage},
		{404, cert.NotFound, `there is no campaign "noble": did you mean noble-linux?`, exitNothing},
		{503, cert.Unavailable, "the controller is busy", exitAway},
		{429, cert.TooMany, "64 requests are under way", exitAway},
		{500, cert.Internal, "something went wrong in the controller: see its log", exitSoftware},
	} {
		a.by["POST /api/v1/campaigns/noble/decisions"] = refuse(c.http, c.code, c.message)
		out, errs := ends(t, c.want, approve...)
		require.Equal(t, "certlab: "+c.message+"\n", errs)
		require.Empty(t, out)
		require.Greater(t, int(c.want), int(exitNoVerdict), "no error says how a campaign stands")
	}
	require.JSONEq(t, `{"action":"approve","reason":"all is well","version":57}`, a.bodies["POST /api/v1/campaigns/noble/decisions"])

	t.Run("the controller is away", func(t *testing.T) {
		s := fakeController(t, nil)
		s.Close()
		_, errs := ends(t, exitAway, "campaign", "show", "noble")
		require.Contains(t, errs, "cannot reach the controller: nothing answers at")
	})
	t.Run("nobody is logged in", func(t *testing.T) {
		t.Setenv("CERTLAB_CONFIG", filepath.Join(t.TempDir(), "none"))
		_, errs := ends(t, exitNoRight, "campaign", "list")
		require.Contains(t, errs, "not logged in: certlab login URL --code CODE")
	})
	t.Run("another program answers", func(t *testing.T) {
		fakeController(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>") })
		_, errs := ends(t, exitSoftware, "campaign", "show", "noble")
		require.Contains(t, errs, "it is not what a Certlab controller says")
	})
	t.Run("an answer that says nothing", func(t *testing.T) {
		fakeController(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "{}") })
		ends(t, exitRunning, "campaign", "show", "noble")
		ends(t, exitUndecided, approve...)
	})
}

// TestFaultControllerAwayWhileACampaignIsWatched: who follows a campaign goes on when the controller is there again.
func TestFaultControllerAwayWhileACampaignIsWatched(t *testing.T) {
	a := newAnswers(t)
	v := fullView()
	v.Campaign.State, v.Standing = cert.CampaignActive, cert.StandWaiting
	asked := 0
	a.by["GET /api/v1/campaigns/noble"] = func(w http.ResponseWriter, r *http.Request) {
		asked++
		switch {
		case asked == 3:
			refuse(503, cert.Unavailable, "the service is starting")(w, r)
			return
		case asked < 6 && asked > 3:
			panic(http.ErrAbortHandler)
		case asked == 8:
			v.Campaign.State, v.Standing = cert.CampaignRejected, cert.StandRejected
			v.Verdict = &cert.Verdict{Outcome: cert.StandRejected, By: "ada"}
		case asked == 7:
			v.Coverage.Done++
		}
		_ = json.NewEncoder(w).Encode(v)
	}
	out, errs := ends(t, exitRejected, "campaign", "show", "noble", "--watch", "--interval", "1ms")
	require.Equal(t, 1, strings.Count(errs, "certlab: the service is starting; trying again\n"), errs)
	require.Equal(t, 1, strings.Count(errs, "certlab: the controller is there again\n"), errs)
	require.Contains(t, errs, "noble-linux-6.8.0-51.52 [################....] 35 of 42 machines: 3 running")
	require.Equal(t, 1, strings.Count(errs, "36 of 42 machines"), "each change once: %s", errs)
	require.Contains(t, out, "REJECTED by ada")
	require.Equal(t, 1, strings.Count(out, "Campaign  "), "without a terminal it is shown once, at the end")

	t.Run("for good", func(t *testing.T) {
		a.by["GET /api/v1/campaigns/noble"] = refuse(404, cert.NotFound, `there is no campaign "noble"`)
		_, errs := ends(t, exitNothing, "campaign", "wait", "noble", "--interval", "1ms")
		require.Equal(t, "certlab: there is no campaign \"noble\"\n", errs)
	})
	t.Run("longer than anyone waits", func(t *testing.T) {
		v.Campaign.State, v.Standing, v.Verdict = cert.CampaignActive, cert.StandWaiting, nil
		a.gives("GET /api/v1/campaigns/noble", v)
		out, _ := ends(t, exitRunning, "campaign", "wait", "noble", "--interval", "1h", "--patience", "1ms")
		require.Contains(t, out, "NOT FINISHED")
	})
}

// TestFaultAnswerToAStartIsLost: the command says how to repeat it, and the repetition asks for the same campaign.
func TestFaultAnswerToAStartIsLost(t *testing.T) {
	a := newAnswers(t)
	a.by["POST /api/v1/campaigns"] = func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	args := []string{"campaign", "start", "--kernel", "linux=6.8.0-51.52", "--series", "noble", "--pocket", "proposed", "--machine", "node1", "--except", "node2", "--due", "2030-01-31",
		"--spin", "2", "--tracker", "https://bugs.launchpad.net/bugs/1", "--at-once", "3", "--reason", "cycle", "--policy", "sru@2"}
	_, errs := ends(t, exitAway, args...)
	first := decodeJSON[cert.NewCampaign](t, a.bodies["POST /api/v1/campaigns"])
	require.True(t, cert.ValidID(cert.CampaignID, first.ID))
	require.Contains(t, errs, "(it may be started: repeat the command with --id "+first.ID+", and nothing is started twice)")
	due := time.Date(2030, 1, 31, 23, 59, 59, 0, time.UTC)
	require.Equal(t, cert.NewCampaign{ID: first.ID, Kind: cert.KindSRU, Policy: "sru@2", Due: &due, AtOnce: 3, Reason: "cycle",
		Subject:  cert.Subject{Kind: cert.SubjectKernel, Source: "linux", Version: "6.8.0-51.52", Series: "noble", Pocket: "proposed", Spin: 2, Tracker: "https://bugs.launchpad.net/bugs/1"},
		Machines: cert.MachineChoice{Names: []string{"node1"}, Except: []string{"node2"}}}, first)

	a.gives("POST /api/v1/campaigns", cert.Campaign{ID: first.ID, Name: "noble"})
	out, _ := ends(t, 0, append(args, "--id", first.ID)...)
	require.Contains(t, out, first.ID)
	require.Equal(t, first, decodeJSON[cert.NewCampaign](t, a.bodies["POST /api/v1/campaigns"]))
}

// TestFaultAHundredThousandFindings: a list of all of them comes in pages, and the campaign's screen asks for none of them.
func TestFaultAHundredThousandFindings(t *testing.T) {
	a := newAnswers(t)
	const all = 100_000
	a.by["GET /api/v1/campaigns/noble/findings"] = func(w http.ResponseWriter, r *http.Request) {
		limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
		from, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
		next := ""
		if from+limit < all {
			next = strconv.Itoa(from + limit)
		}
		fmt.Fprintf(w, `{"next":%q,"findings":[{"id":"f"}%s]}`, next, strings.Repeat(`,{"id":"f"}`, min(limit, all-from)-1))
	}
	out, _ := ends(t, 0, "campaign", "findings", "noble", "--open", "--no-blocker")
	require.Equal(t, 101, strings.Count(out, "\n"), "a hundred and the header, unless more are asked for")
	require.Equal(t, []string{"GET /api/v1/campaigns/noble/findings?blocker=false&limit=100&open=true"}, a.asked)
	a.asked = nil
	out, _ = ends(t, 0, "campaign", "findings", "noble", "--limit", "0")
	require.Equal(t, all+1, strings.Count(out, "\n"))
	require.Len(t, a.asked, all/500, "in pages")
	a.asked = nil
	a.gives("GET /api/v1/campaigns/noble", fullView())
	ends(t, exitUndecided, "campaign", "show", "noble")
	require.Equal(t, []string{"GET /api/v1/campaigns/noble"}, a.asked, "the screen asks once")
}

// TestFaultLogOfDecisionsWasAltered: a log that is not as it was written is said, and nothing is taken for good that was not checked.
func TestFaultLogOfDecisionsWasAltered(t *testing.T) {
	a := newAnswers(t)
	a.gives("GET /api/v1/decisions", cert.DecisionList{Intact: ptr(true)})
	out, _ := ends(t, 0, "decision", "verify")
	require.Equal(t, "the log of decisions is as it was written\n", out)
	require.Equal(t, []string{"GET /api/v1/decisions?limit=1&verify=true"}, a.asked)
	a.gives("GET /api/v1/decisions", cert.DecisionList{Intact: ptr(false), Broken: "entry 7 does not have its hash"})
	_, errs := ends(t, exitData, "decision", "verify")
	require.Equal(t, "certlab: the log of decisions is not as it was written: entry 7 does not have its hash (compare with a backup: certlabd check)\n", errs)
	a.gives("GET /api/v1/decisions", cert.DecisionList{})
	_, errs = ends(t, exitData, "decision", "verify")
	require.Contains(t, errs, "the controller does not say")
	out, _ = ends(t, exitData, "decision", "verify", "--format", "json")
	require.JSONEq(t, `{"intact":false}`, out)
}
