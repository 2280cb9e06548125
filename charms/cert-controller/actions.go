package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"certlab/internal/hooks"
	"certlab/internal/workload"
)

const (
	callTime   = 30 * time.Second
	backupTime = 15 * time.Minute // a lab's data can be many GB
	// maxPages bounds a listing, in pages of pageSize.
	maxPages = 100
	pageSize = 200
	maxPath  = 4096 // bytes
	maxRunID = 100
	maxLine  = 1000
)

var runID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// api is the people's API of the service, as an admin.
func (sys system) api(u *hooks.Unit) (func(ctx context.Context, timeout time.Duration, method, path string, body, result any) error, error) {
	s, err := sys.service(u)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, timeout time.Duration, method, path string, body, result any) error {
		s.Step(method + " " + path)
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return s.socket.Call(ctx, method, path, body, result)
	}, nil
}

// fail makes the action fail with err's text. An exit code other than 0 would make Juju show "exit status 1" in its place.
func fail(call *hooks.ActionCall, err error) error {
	if errors.Is(err, workload.ErrNotAnswering) {
		call.Fail("certlabd does not answer: look at the unit's status, and try again when it is active")
		return nil
	}
	call.Fail("%s", err)
	return nil
}

// anyState is the value of state that selects nothing.
const anyState = "any"

func (sys system) listMachines(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params struct {
		Filter string `param:"filter"`
		State  string `param:"state"`
		Query  string `param:"query"`
	}
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	ask, err := sys.api(u)
	if err != nil {
		return fail(call, err)
	}
	for name, value := range map[string]string{"filter": params.Filter, "query": params.Query} {
		if err := hooks.CheckLine(name, value, maxLine); err != nil {
			return fail(call, err)
		}
	}
	query := url.Values{}
	if params.State != anyState && params.State != "" {
		query.Set("state", params.State)
	}
	if params.Query != "" {
		query.Set("query", params.Query)
	}
	count, err := list(ctx, ask, "/api/v1/machines", query, "machines", func(machine map[string]any) bool {
		line := machineLine(machine)
		if !strings.Contains(strings.ToLower(line), strings.ToLower(params.Filter)) {
			return false
		}
		fmt.Fprintln(call.Output, line)
		return true
	})
	if err != nil {
		return fail(call, err)
	}
	return set(call, map[string]any{"count": count})
}

// machineLine shows who a machine is and what it is doing.
func machineLine(machine map[string]any) string {
	doing := "idle"
	if run, _ := machine["current_run"].(string); run != "" {
		doing = "running " + run
	} else if state, _ := machine["state"].(string); state != "" {
		doing = state
	}
	machine["doing"] = doing
	return words(machine, "id", "hostname", "unit", "doing", "for=holder", "until=until", "architecture", "base", "kernel", "pool=pool", "zone=zone", "cid", "tags", "why", "needs_hands", "seen=seen")
}

func (sys system) showRun(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params struct {
		Run string `param:"run"`
	}
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	ask, err := sys.api(u)
	if err != nil {
		return fail(call, err)
	}
	id := strings.TrimSpace(params.Run)
	if !runID.MatchString(id) || len(id) > maxRunID {
		return fail(call, fmt.Errorf("cannot find run %s: want a run's id, as run-suite and `certlab run list` show it", hooks.Shown(id)))
	}
	var run map[string]any
	if err := ask(ctx, callTime, "GET", "/api/v1/runs/"+url.PathEscape(id), nil, &run); err != nil {
		return fail(call, err)
	}
	results := resultKeys(run).(map[string]any)
	if id, ok := results["id"]; ok {
		results["run"] = id
		delete(results, "id")
	}
	return set(call, results)
}

// resultKeys makes an answer of the API fit for action results, whose keys have hyphens and lower-case letters only. Keys that cannot be made so
// (a job's id) are left out.
func resultKeys(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, value := range v {
			key = strings.ToLower(strings.ReplaceAll(key, "_", "-"))
			if resultKey(key) {
				out[key] = resultKeys(value)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, value := range v {
			out[i] = resultKeys(value)
		}
		return out
	default:
		return v
	}
}

func resultKey(key string) bool {
	if key == "" || key[0] == '-' || key[len(key)-1] == '-' || key == "stdout" || key == "stderr" || key == "return-code" {
		return false
	}
	return strings.Trim(key, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

func (sys system) createToken(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params struct {
		Name string `param:"name"`
		Role string `param:"role"`
		Days int64  `param:"days"`
	}
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	if err := hooks.CheckLine("name", params.Name, maxName); err != nil {
		return fail(call, err)
	}
	ask, err := sys.api(u)
	if err != nil {
		return fail(call, err)
	}
	var token struct {
		Name        string `json:"name"`
		Role        string `json:"role"`
		Code        string `json:"code"`
		CodeExpires string `json:"code_expires"`
		Expires     string `json:"expires"`
		URL         string `json:"url"`
		Fingerprint string `json:"ca_fingerprint"`
	}
	err = ask(ctx, callTime, "POST", "/api/v1/tokens", map[string]any{
		"name": params.Name, "role": params.Role, "expires_in_seconds": params.Days * 24 * 3600,
	}, &token)
	if err != nil {
		return fail(call, err)
	}
	// The fingerprint comes through Juju, which is trusted: whoever has this line need not be asked whether to trust the controller. As
	// output and not as a result, where Juju would break the line.
	fmt.Fprintf(call.Output, "certlab login %s --code %s --fingerprint %s\n", token.URL, token.Code, token.Fingerprint)
	return set(call, map[string]any{
		"name": token.Name, "role": token.Role, "code": token.Code, "code-expires": token.CodeExpires, "expires": token.Expires,
		"url": token.URL, "ca-fingerprint": token.Fingerprint,
	})
}

func (sys system) revokeToken(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params struct {
		Name string `param:"name"`
	}
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	if err := hooks.CheckLine("name", params.Name, maxName); err != nil {
		return fail(call, err)
	}
	if strings.TrimSpace(params.Name) == "" {
		return fail(call, errors.New("cannot revoke: give name=, a token's name or id"))
	}
	ask, err := sys.api(u)
	if err != nil {
		return fail(call, err)
	}
	if err := ask(ctx, callTime, "DELETE", "/api/v1/tokens/"+url.PathEscape(params.Name), nil, nil); err != nil {
		return fail(call, err)
	}
	return set(call, map[string]any{"revoked": params.Name})
}

func (sys system) backup(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	path, ask, err := sys.pathParam(ctx, u, call)
	if err != nil {
		return fail(call, err)
	}
	if path == "" {
		s, err := sys.service(u)
		if err != nil {
			return fail(call, err)
		}
		known, err := s.knownStorage()
		if err != nil {
			return fail(call, err)
		}
		if known.Location == "" {
			return fail(call, errors.New("cannot tell where to put the backup: there is no storage (give path=)"))
		}
		path = filepath.Join(known.Location, "backups", time.Now().UTC().Format("20060102T150405Z")+".tar")
	}
	var made map[string]any
	if err := ask(ctx, backupTime, "POST", "/api/v1/admin/backup", map[string]any{"path": path}, &made); err != nil {
		return fail(call, err)
	}
	return set(call, resultKeys(made).(map[string]any))
}

func (sys system) restore(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	path, ask, err := sys.pathParam(ctx, u, call)
	if err != nil {
		return fail(call, err)
	}
	var restored map[string]any
	if err := ask(ctx, backupTime, "POST", "/api/v1/admin/restore", map[string]any{"path": path}, &restored); err != nil {
		return fail(call, err)
	}
	return set(call, resultKeys(restored).(map[string]any))
}

func (sys system) repair(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params struct {
		Backup string `param:"backup"`
	}
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	if params.Backup != "" && !cleanPath(params.Backup) {
		return fail(call, pathError("backup", params.Backup))
	}
	ask, err := sys.api(u)
	if err != nil {
		return fail(call, err)
	}
	var repaired map[string]any
	if err := ask(ctx, backupTime, "POST", "/api/v1/admin/repair", map[string]any{"backup": params.Backup}, &repaired); err != nil {
		return fail(call, err)
	}
	return set(call, resultKeys(repaired).(map[string]any))
}

func cleanPath(path string) bool {
	return filepath.IsAbs(path) && len(path) <= maxPath && utf8.ValidString(path) && !strings.ContainsFunc(path, unicode.IsControl)
}

func pathError(param, value string) error {
	return fmt.Errorf("cannot use %s %s: want an absolute path on the unit's machine", param, hooks.Shown(value))
}

// pathParam reads the parameter path, which is absolute or, for backup, empty.
func (sys system) pathParam(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) (string, func(context.Context, time.Duration, string, string, any, any) error, error) {
	var params struct {
		Path string `param:"path"`
	}
	if err := call.Params(ctx, &params); err != nil {
		return "", nil, err
	}
	if params.Path != "" && !cleanPath(params.Path) || params.Path == "" && call.Name == "restore" {
		return "", nil, pathError("path", params.Path)
	}
	ask, err := sys.api(u)
	return params.Path, ask, err
}

// set is the end of an action that worked.
func set(call *hooks.ActionCall, results map[string]any) error {
	if err := call.Set(results); err != nil {
		return fail(call, err)
	}
	return nil
}
