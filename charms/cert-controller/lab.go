package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"certlab/internal/hooks"
)

// Actions about the lab as a whole.

// list asks for a list, page by page, and hands each entry to show, which says whether it counts. It returns how many did.
func list(ctx context.Context, ask caller, path string, query url.Values, key string, show func(map[string]any) bool) (int, error) {
	count := 0
	query.Set("limit", fmt.Sprint(pageSize))
	for range maxPages {
		var page map[string]any
		if err := ask(ctx, callTime, "GET", path+"?"+query.Encode(), nil, &page); err != nil {
			return count, err
		}
		entries, _ := page[key].([]any)
		for _, entry := range entries {
			if entry, ok := entry.(map[string]any); ok && show(entry) {
				count++
			}
		}
		next, _ := page["next"].(string)
		if next == "" {
			break
		}
		query.Set("cursor", next)
	}
	return count, nil
}

// words joins those that there are. Each may be a text or a list of texts; what has a label is preceded by it.
func words(entry map[string]any, keys ...string) string {
	var out []string
	for _, key := range keys {
		label, key, ok := strings.Cut(key, "=")
		if !ok {
			label, key = "", label
		} else {
			label += " "
		}
		switch v := entry[key].(type) {
		case string:
			if v != "" {
				out = append(out, label+v)
			}
		case []any:
			texts := make([]string, 0, len(v))
			for _, each := range v {
				texts = append(texts, fmt.Sprint(each))
			}
			if len(texts) > 0 {
				out = append(out, label+strings.Join(texts, ","))
			}
		}
	}
	return strings.Join(out, "  ")
}

func (sys system) listReservations(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params struct {
		State string `param:"state"`
	}
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	ask, err := sys.api(u)
	if err != nil {
		return fail(call, err)
	}
	query := url.Values{}
	if params.State != anyState {
		query.Set("state", params.State)
	}
	count, err := list(ctx, ask, "/api/v1/reservations", query, "reservations", func(r map[string]any) bool {
		want, _ := r["want"].(map[string]any)
		fmt.Fprintln(call.Output, words(r, "id", "kind", "state", "holder", "hostname", "until=until", "run", "ending", "blocked")+"  "+words(want, "query", "release")+"  "+words(r, "reason"))
		return true
	})
	if err != nil {
		return fail(call, err)
	}
	return set(call, map[string]any{"count": count})
}

func (sys system) listIncidents(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params struct {
		All bool `param:"all"`
	}
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	ask, err := sys.api(u)
	if err != nil {
		return fail(call, err)
	}
	query := url.Values{}
	if !params.All {
		query.Set("open", "true")
	}
	open := 0
	count, err := list(ctx, ask, "/api/v1/incidents", query, "incidents", func(i map[string]any) bool {
		if i["closed"] == nil {
			open++
		}
		machines, _ := i["machines"].([]any)
		fmt.Fprintf(call.Output, "%s  %d machines  %s\n", words(i, "id", "scope", "name", "failure", "opened", "closed=closed"), len(machines), words(i, "text", "ending"))
		return true
	})
	if err != nil {
		return fail(call, err)
	}
	return set(call, map[string]any{"count": count, "open": open})
}

type scopeParams struct {
	Scope  string `param:"scope"`
	Name   string `param:"name"`
	Reason string `param:"reason"`
}

func (p scopeParams) check(needReason bool) error {
	if err := hooks.CheckLine("name", p.Name, 200); err != nil {
		return err
	}
	named := strings.TrimSpace(p.Name) != ""
	switch {
	case p.Scope == "lab" && named:
		return errors.New("cannot use name with scope=lab: leave it out, or give scope=pool, zone or rack")
	case p.Scope != "lab" && !named:
		return fmt.Errorf("cannot do that without a name: give name=, of the %s", p.Scope)
	}
	return checkReason(p.Reason, needReason)
}

func (sys system) pause() hooks.Action {
	return simple(sys, func(p scopeParams) error { return p.check(true) }, func(p scopeParams) (string, string, any) {
		return "POST", "/api/v1/pauses", map[string]any{"scope": p.Scope, "name": p.Name, "reason": p.Reason}
	})
}

type resumeParams struct {
	Scope string `param:"scope"`
	Name  string `param:"name"`
}

func (sys system) resume(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params resumeParams
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	if err := (scopeParams{Scope: params.Scope, Name: params.Name}).check(false); err != nil {
		return fail(call, err)
	}
	ask, err := sys.api(u)
	if err != nil {
		return fail(call, err)
	}
	query := url.Values{"scope": {params.Scope}}
	if params.Name != "" {
		query.Set("name", params.Name)
	}
	if err := ask(ctx, callTime, "DELETE", "/api/v1/pauses?"+query.Encode(), nil, nil); err != nil {
		return fail(call, err)
	}
	return set(call, map[string]any{"scope": params.Scope, "name": params.Name})
}

func (sys system) usage(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params struct {
		From string `param:"from"`
		To   string `param:"to"`
	}
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	query := url.Values{}
	for name, value := range map[string]string{"from": params.From, "to": params.To} {
		if value == "" {
			continue
		}
		at, err := parseTime(value)
		if err != nil {
			return fail(call, fmt.Errorf("cannot use %s %s: want a day or a time, such as 2026-11-23 or 2026-11-23T08:00:00Z", name, hooks.Shown(value)))
		}
		query.Set(name, at.Format(time.RFC3339))
	}
	ask, err := sys.api(u)
	if err != nil {
		return fail(call, err)
	}
	path := "/api/v1/usage"
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	var answer map[string]any
	if err := ask(ctx, callTime, "GET", path, nil, &answer); err != nil {
		return fail(call, err)
	}
	// Names of people need not make keys of results.
	holders, _ := answer["holders"].(map[string]any)
	delete(answer, "holders")
	for _, name := range sortedKeys(holders) {
		fmt.Fprintf(call.Output, "%s  %v hours\n", name, holders[name])
	}
	return set(call, resultKeys(answer).(map[string]any))
}

func parseTime(text string) (time.Time, error) {
	if at, err := time.Parse(time.DateOnly, text); err == nil {
		return at, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	return at.UTC(), err
}

// showFleet shows where machines come from, by whose key, and how they are.
func (sys system) showFleet(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params struct{}
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	s, err := sys.service(u)
	if err != nil {
		return fail(call, err)
	}
	ask, err := sys.api(u)
	if err != nil {
		return fail(call, err)
	}
	var answer map[string]any
	if err := ask(ctx, callTime, "GET", "/api/v1/fleet", nil, &answer); err != nil {
		return fail(call, err)
	}
	known, _ := s.readDesired()
	source := "none"
	if maas := known.Fleet.MAAS; maas.URL != "" {
		source = maas.Source
	}
	if provider, ok := answer["provider"].(map[string]any); ok {
		delete(provider, "url") // it may be from a secret, which Juju would keep with the results; `certlab site` shows it
	}
	hands, _ := answer["needs_hands"].([]any)
	for _, machine := range hands {
		if machine, ok := machine.(map[string]any); ok {
			fmt.Fprintln(call.Output, words(machine, "hostname", "rack=rack", "position", "needs_hands"))
		}
	}
	delete(answer, "needs_hands")
	answer["needs_hands"] = len(hands)
	results := resultKeys(answer).(map[string]any)
	results["source"] = source
	return set(call, results)
}
