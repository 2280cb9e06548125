package kernelnews

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"certlab/internal/cert"
)

// A record is what is read of a tracker. Each field is read by itself: one of another type is not understood, and the rest is.
type record struct {
	Source  json.RawMessage `json:"source"`
	Version json.RawMessage `json:"version"`
	Series  json.RawMessage `json:"series"`
	Cycle   json.RawMessage `json:"cycle"`   // with the spin: 2026.11.02-3
	Variant json.RawMessage `json:"variant"` // debs, combo or snap-debs
	Task    json.RawMessage `json:"task"`    // by name: {"status": …}
	Built   json.RawMessage `json:"built"`   // {"route-entry": which of the route's archives, from 1}
	Results json.RawMessage `json:"test-observer"`
}

// States of a task, as Launchpad has them. ready are those in which a kernel waits for results, and closed those in which nobody wants any.
var (
	ready  = []string{"Confirmed", "Triaged", "In Progress", "Incomplete"}
	closed = []string{"Fix Committed", "Fix Released", "Invalid", "Won't Fix", "Expired"}
)

const (
	certification = "certification-testing"
	workflow      = "kernel-sru-workflow"
	bugs          = "https://bugs.launchpad.net/bugs/"
)

var (
	bugNumber   = regexp.MustCompile(`^[1-9][0-9]{0,11}$`)
	seriesName  = regexp.MustCompile(`^[a-z]{2,30}$`)
	sourceName  = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{1,99}$`)
	debVersion  = regexp.MustCompile(`^[0-9][A-Za-z0-9.+:~-]{0,99}$`)
	cycleOfSpin = regexp.MustCompile(`^([a-z]?[0-9][A-Za-z0-9.]{0,29})(?:-([0-9]{1,4}))?$`)
)

// tracker reads one tracking bug. It is wanted if it names a kernel that waits for certification testing.
func tracker(number string, raw json.RawMessage, now time.Time) (news cert.KernelNews, wanted bool, err error) {
	var r record
	if json.Unmarshal(raw, &r) != nil {
		return news, false, errors.New("it is not an object")
	}
	tasks := map[string]json.RawMessage{}
	if len(r.Task) > 0 && json.Unmarshal(r.Task, &tasks) != nil {
		return news, false, errors.New("its task is not an object")
	}
	task := taskState(tasks[certification])
	if !slices.Contains(ready, task) || slices.Contains(closed, taskState(tasks[workflow])) {
		return news, false, nil
	}
	if variant := text(r.Variant); variant != "" && variant != "debs" && variant != "combo" {
		return news, false, nil // a snap: it is tested as such
	}
	news = cert.KernelNews{Task: task, Seen: now, Subject: cert.Subject{Kind: cert.SubjectKernel, Source: text(r.Source), Version: text(r.Version), Series: text(r.Series)}}
	s := &news.Subject
	for _, part := range []struct {
		name, value string
		form        *regexp.Regexp
	}{{"number", number, bugNumber}, {"series", s.Series, seriesName}, {"source", s.Source, sourceName}, {"version", s.Version, debVersion}} {
		if part.value == "" {
			return news, false, fmt.Errorf("it has no %s", part.name)
		}
		if !part.form.MatchString(part.value) {
			return news, false, fmt.Errorf("its %s is %q", part.name, clip(part.value))
		}
	}
	s.Tracker = bugs + number
	var unknown []string
	if m := cycleOfSpin.FindStringSubmatch(text(r.Cycle)); m != nil {
		s.Cycle = m[1]
		s.Spin, _ = strconv.Atoi(m[2])
	} else if len(r.Cycle) > 0 {
		unknown = append(unknown, fmt.Sprintf("its cycle (%q)", clip(text(r.Cycle))))
	}
	if s.Flavour = cert.DefaultFlavour(s.Source); s.Flavour != cert.DefaultFlavour("linux") { // a source may build several, and the status does not name them
		unknown = append(unknown, fmt.Sprintf("its flavour (%s is a guess from the name of the source)", s.Flavour))
	}
	if stream := stream(r.Built); stream <= 1 {
		s.Pocket = "proposed"
	} else {
		unknown = append(unknown, fmt.Sprintf("where it is (stream %d goes to another archive than -proposed)", stream))
	}
	if err := s.Validate(); err != nil {
		return news, false, err
	}
	due, ok := due(r.Results)
	if news.Due = due; !ok {
		unknown = append(unknown, "its due date")
	}
	if len(unknown) > 0 {
		news.Note = "not known for certain: " + strings.Join(unknown, ", ")
	}
	return news, true, nil
}

func taskState(raw json.RawMessage) string {
	var task struct {
		Status json.RawMessage `json:"status"`
	}
	if len(raw) == 0 || json.Unmarshal(raw, &task) != nil {
		return ""
	}
	return text(task.Status)
}

// text is a JSON string; of anything else nothing.
func text(raw json.RawMessage) string {
	var s string
	if len(raw) == 0 || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return strings.TrimSpace(s)
}

// stream is which of its route's archives a kernel goes through, from 1; 0 where it is not said.
func stream(raw json.RawMessage) int {
	var built struct {
		Entry json.RawMessage `json:"route-entry"`
	}
	if len(raw) == 0 || json.Unmarshal(raw, &built) != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.Trim(string(built.Entry), `"`))
	if err != nil {
		return 0
	}
	return n
}

// due is the end of the day that is named, in UTC. ok is false where there is one that is not understood.
func due(raw json.RawMessage) (at *time.Time, ok bool) {
	var results struct {
		Due json.RawMessage `json:"due-date"`
	}
	if len(raw) == 0 || json.Unmarshal(raw, &results) != nil || len(results.Due) == 0 || string(results.Due) == "null" {
		return nil, true
	}
	day := text(results.Due)
	if day == "" {
		var wrapped struct {
			Format json.RawMessage `json:"_isoformat"` // as the kernel team's own tools write times
		}
		_ = json.Unmarshal(results.Due, &wrapped)
		day = text(wrapped.Format)
	}
	if len(day) > len(time.DateOnly) {
		day = day[:len(time.DateOnly)]
	}
	t, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return nil, false
	}
	t = t.Add(24*time.Hour - time.Second)
	return &t, true
}

// clip bounds what is shown of a text from outside.
func clip(s string) string {
	const most = 60
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
