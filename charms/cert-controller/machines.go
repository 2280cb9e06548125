package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"certlab/internal/durable"
	"certlab/internal/hooks"
)

// Actions about machines. What a person has to answer for by name, such as a reservation of their own, is not among them: Juju does not
// tell a charm who runs an action.

const (
	maxCSV    = 16 << 20 // bytes; the service takes no more
	maxReason = 500
)

// A caller asks the service.
type caller func(ctx context.Context, timeout time.Duration, method, path string, body, result any) error

// machinePath is the API's path of a machine, or of a part of it.
func machinePath(machine string, more ...string) string {
	return strings.Join(append([]string{"/api/v1/machines", url.PathEscape(machine)}, more...), "/")
}

// checkName checks a parameter that names one thing: a machine, a reservation.
func checkName(parameter, value, what string) error {
	if err := hooks.CheckLine(parameter, value, maxLine); err != nil {
		return err
	}
	if strings.TrimSpace(value) == "" || value == "." || value == ".." {
		return fmt.Errorf("cannot use %s %s: give %s", parameter, hooks.Shown(value), what)
	}
	return nil
}

const aMachine = "a machine's hostname, system_id or id, as list-machines shows them"

// checkReason checks a reason, which goes into logs that people read.
func checkReason(value string, needed bool) error {
	if err := hooks.CheckLine("reason", value, maxReason); err != nil {
		return err
	}
	if needed && strings.TrimSpace(value) == "" {
		return errors.New("cannot do that without a reason: give reason=\"…\"; it is kept in the machine's history")
	}
	return nil
}

// simple is an action that reads its parameters, checks them, and makes one request, whose answer are the results.
func simple[P any](sys system, check func(P) error, request func(P) (method, path string, body any)) hooks.Action {
	return func(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
		var params P
		if err := call.Params(ctx, &params); err != nil {
			return fail(call, err)
		}
		if err := check(params); err != nil {
			return fail(call, err)
		}
		ask, err := sys.api(u)
		if err != nil {
			return fail(call, err)
		}
		method, path, body := request(params)
		var answer map[string]any
		if err := ask(ctx, callTime, method, path, body, &answer); err != nil {
			return fail(call, err)
		}
		return set(call, shownMachine(answer))
	}
}

// shownMachine are the results about a machine: what is long is left to show-machine's output and to `certlab machine show`.
func shownMachine(answer map[string]any) map[string]any {
	for _, long := range []string{"provided", "hardware", "history", "deployments"} {
		delete(answer, long)
	}
	results := resultKeys(answer).(map[string]any)
	if results["machine"] == nil && results["hostname"] != nil {
		results["machine"] = results["id"]
		delete(results, "id")
	}
	return results
}

type machineParam struct {
	Machine string `param:"machine"`
}

func (sys system) showMachine(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params machineParam
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	if err := checkName("machine", params.Machine, aMachine); err != nil {
		return fail(call, err)
	}
	ask, err := sys.api(u)
	if err != nil {
		return fail(call, err)
	}
	var machine map[string]any
	if err := ask(ctx, callTime, "GET", machinePath(params.Machine), nil, &machine); err != nil {
		return fail(call, err)
	}
	history, _ := machine["history"].([]any)
	for _, event := range history {
		if event, ok := event.(map[string]any); ok {
			fmt.Fprintf(call.Output, "%v  %v  %v  %v\n", event["at"], event["kind"], event["who"], event["text"])
		}
	}
	return set(call, shownMachine(machine))
}

type quarantineParams struct {
	Machine string `param:"machine"`
	Reason  string `param:"reason"`
}

func (sys system) quarantine() hooks.Action {
	return simple(sys, func(p quarantineParams) error {
		return cmp.Or(checkName("machine", p.Machine, aMachine), checkReason(p.Reason, true))
	}, func(p quarantineParams) (string, string, any) {
		return "POST", machinePath(p.Machine, "quarantine"), map[string]any{"reason": p.Reason}
	})
}

type returnParams struct {
	Machine string `param:"machine"`
	Force   bool   `param:"force"`
	Reason  string `param:"reason"`
}

func (sys system) returnToService() hooks.Action {
	return simple(sys, func(p returnParams) error {
		return cmp.Or(checkName("machine", p.Machine, aMachine), checkReason(p.Reason, p.Force))
	}, func(p returnParams) (string, string, any) {
		return "POST", machinePath(p.Machine, "return"), map[string]any{"force": p.Force, "reason": p.Reason}
	})
}

type powerParams struct {
	Machine string `param:"machine"`
	Action  string `param:"action"`
	Reason  string `param:"reason"`
}

func (sys system) power() hooks.Action {
	return simple(sys, func(p powerParams) error {
		return cmp.Or(checkName("machine", p.Machine, aMachine), checkReason(p.Reason, p.Action != "query"))
	}, func(p powerParams) (string, string, any) {
		return "POST", machinePath(p.Machine, "power"), map[string]any{"action": p.Action, "reason": p.Reason}
	})
}

func (sys system) consoleLog(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params machineParam
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	if err := checkName("machine", params.Machine, aMachine); err != nil {
		return fail(call, err)
	}
	log, err := sys.raw(ctx, u, "GET", machinePath(params.Machine, "console"), "", nil)
	if err != nil {
		return fail(call, err)
	}
	if _, err := call.Output.Write(log); err != nil {
		return fail(call, err)
	}
	return set(call, map[string]any{"bytes": len(log)})
}

// raw makes a request whose body or answer is not JSON.
func (sys system) raw(ctx context.Context, u *hooks.Unit, method, path, mediaType string, body []byte) ([]byte, error) {
	s, err := sys.service(u)
	if err != nil {
		return nil, err
	}
	s.Step(method + " " + path)
	ctx, cancel := context.WithTimeout(ctx, 2*callTime)
	defer cancel()
	_, answer, err := s.socket.Send(ctx, method, path, mediaType, body)
	return answer, err
}

type importParams struct {
	Path   string `param:"path"`
	DryRun bool   `param:"dry-run"`
}

func (sys system) importDossiers(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params importParams
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	if !cleanPath(params.Path) {
		return fail(call, pathError("path", params.Path))
	}
	info, err := os.Stat(params.Path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxCSV {
		return fail(call, fmt.Errorf("cannot read dossiers from %s: want a CSV file of at most %d MiB on the unit's machine (copy it there: juju scp FILE %s:)", hooks.Shown(params.Path), maxCSV>>20, u.Name))
	}
	text, err := os.ReadFile(params.Path)
	if err != nil {
		return fail(call, fmt.Errorf("cannot read dossiers: %w", err))
	}
	answer, err := sys.raw(ctx, u, "POST", "/api/v1/dossiers?dry_run="+strconv.FormatBool(params.DryRun), "text/csv", text)
	if err != nil {
		return fail(call, err)
	}
	report, err := decodeReport(answer)
	if err != nil {
		return fail(call, err)
	}
	for _, c := range report.Changes {
		fmt.Fprintf(call.Output, "%s  %s: %q -> %q\n", cmp.Or(c.Hostname, c.Machine), c.Field, c.Before, c.After)
	}
	return set(call, map[string]any{"lines": report.Lines, "changed": report.Changed, "dry-run": report.DryRun})
}

func (sys system) exportDossiers(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params struct {
		Path string `param:"path"`
	}
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	if params.Path != "" && !cleanPath(params.Path) {
		return fail(call, pathError("path", params.Path))
	}
	if _, err := os.Lstat(params.Path); params.Path != "" && !errors.Is(err, fs.ErrNotExist) {
		return fail(call, fmt.Errorf("cannot write dossiers to %s: it is there already (give another path)", hooks.Shown(params.Path)))
	}
	text, err := sys.raw(ctx, u, "GET", "/api/v1/dossiers.csv", "", nil)
	if err != nil {
		return fail(call, err)
	}
	results := map[string]any{"lines": strings.Count(string(text), "\n")}
	if params.Path == "" {
		_, err = call.Output.Write(text)
	} else {
		results["path"] = params.Path
		err = durable.WriteFile(params.Path, text, 0o600)
	}
	if err != nil {
		return fail(call, fmt.Errorf("cannot write dossiers: %w", err))
	}
	return set(call, results)
}
