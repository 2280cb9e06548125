package maastest_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/provider/maas/maastest"
)

// summary writes the fields that the transcripts show of a machine, as they write them: as Python does.
func summary(m map[string]any) string {
	var b strings.Builder
	b.WriteString("{")
	for i, f := range []string{"system_id", "hostname", "status", "status_name", "status_message", "power_state", "owner", "osystem", "distro_series", "hwe_kernel", "netboot"} {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "'%s': ", f)
		switch v := m[f].(type) {
		case nil:
			b.WriteString("None")
		case bool:
			b.WriteString(map[bool]string{true: "True", false: "False"}[v])
		case string:
			quote := "'"
			if strings.Contains(v, "'") {
				quote = `"`
			}
			b.WriteString(quote + v + quote)
		default:
			fmt.Fprint(&b, v)
		}
	}
	return b.String() + "}"
}

// transcript replays what was said to a real MAAS, one file after another: the region goes on where the one before has left it.
type transcript struct {
	t      *testing.T
	region *maastest.Region
	clock  *maastest.ManualClock
	admin  *person
	bob    *person
	token  string
	// hooks do what the transcripts do not show, before the line of that number: mostly waiting.
	hooks map[string]func()
	known map[string]bool // the lines that cannot match
	seen  map[string]bool
}

const theNode = "mrayyc"

func newTranscript(t *testing.T) *transcript {
	clock := maastest.NewManualClock(time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC))
	r := maastest.New(maastest.Options{Clock: clock})
	x := &transcript{t: t, region: r, clock: clock, admin: newPerson(t, r, "admin", true), bob: newPerson(t, r, "bob", false), seen: map[string]bool{}, known: map[string]bool{}}
	x.admin.clock, x.bob.clock = clock.Now, clock.Now
	r.SetEmail("bob", "b@example.com")
	for i, id := range []string{theNode, "snm8rn", "xemby4"} {
		r.AddMachine(maastest.Machine{SystemID: id, Hostname: fmt.Sprintf("node%d", i+1), New: true})
	}
	r.Change(theNode, func(s *maastest.MachineState) {
		s.Status, s.Owner, s.Series, s.Kernel, s.StatusMessage, s.Power, s.On = maastest.Deployed, "admin", "noble", "ga-24.04", "Configuring storage", "on", true
		s.Netboot = false
	})
	for _, d := range maastest.Differences() {
		x.known[d.Where] = true
	}
	wait := func(d time.Duration) func() { return func() { clock.Advance(d) } }
	x.hooks = map[string]func(){
		"tr1.txt:38": wait(5 * time.Second), // its power goes off
		"tr2.txt:5":  wait(3 * time.Second),
		"tr2.txt:8":  wait(5 * time.Second),
		"tr2.txt:13": wait(3 * time.Second),
		"tr2.txt:29": wait(5 * time.Second),
		"tr2.txt:37": func() { r.Fault(theNode, maastest.Fault{Kind: maastest.BMCRefuses}) },
		"tr3.txt:1":  func() { x.give("snm8rn", "admin"); x.give("xemby4", "admin") },
		"tr3.txt:48": func() { x.free("snm8rn") },
		"tr4.txt:2":  func() { r.Clear(theNode) },
		"tr4.txt:5":  wait(5 * time.Second),
		"tr4.txt:15": wait(3 * time.Second),
		"tr4.txt:21": wait(5 * time.Second),
		"tr4.txt:31": func() {
			require.Equal(t, 200, x.admin.post("scripts/", "name=cert-probe", "script=#!/bin/sh\n").Status)
		},
		"tr4.txt:34": func() { x.free(theNode) },
		"tr4.txt:37": wait(3 * time.Second),
	}
	return x
}

// give and free do what the transcripts have done out of sight.
func (x *transcript) give(id, owner string) {
	x.region.Change(id, func(s *maastest.MachineState) { s.Status, s.Owner = maastest.Allocated, owner })
}

func (x *transcript) free(id string) {
	x.region.Change(id, func(s *maastest.MachineState) {
		s.Status, s.Owner, s.StatusMessage, s.Power, s.On = maastest.Ready, "", "Released", "off", false
	})
}

func (x *transcript) replay(file string) {
	f, err := os.Open(filepath.Join("testdata", file))
	require.NoError(x.t, err)
	defer func() { _ = f.Close() }()
	var asked answer
	var shown []string // of the answer, that the transcript has yet to show
	visible := false   // the request of the lines that follow is in the transcript
	number := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		number++
		line, at := lines.Text(), fmt.Sprintf("%s:%d", file, number)
		if hook := x.hooks[at]; hook != nil {
			x.seen[at] = true
			hook()
		}
		switch {
		case x.known[at]:
			x.seen[at] = true
			x.token = x.admin.get("machines/" + theNode + "/?op=get_token").Body
		case strings.HasPrefix(line, "### "):
			asked, visible = x.request(strings.TrimPrefix(line, "### ")), true
			shown = asked.lines(x.t)
		case strings.HasPrefix(line, "[HTTP "):
			if visible {
				require.Equal(x.t, line, fmt.Sprintf("[HTTP %d %s]", asked.Status, asked.Type), at)
				require.Empty(x.t, shown, at)
			}
			visible = false
		case visible:
			require.NotEmpty(x.t, shown, at)
			require.Equal(x.t, line, shown[0], at)
			shown = shown[1:]
		default:
			x.aside(line, at)
		}
	}
}

// lines are what a transcript shows of an answer: machines in short, the rest as it is.
func (a answer) lines(t *testing.T) []string {
	var one map[string]any
	var many []map[string]any
	if a.Status == 200 && json.Unmarshal([]byte(a.Body), &one) == nil && one["system_id"] != nil {
		return []string{summary(one)}
	}
	if json.Unmarshal([]byte(a.Body), &many) == nil {
		var all []string
		for _, m := range many {
			all = append(all, summary(m))
		}
		return all
	}
	return strings.Split(a.Body, "\n")
}

func (x *transcript) request(line string) answer {
	who := x.admin
	if rest, ok := strings.CutPrefix(line, "bob "); ok {
		who, line = x.bob, rest
	}
	words := strings.Split(line, " -d ")
	method, path, _ := strings.Cut(words[0], " ")
	return who.ask(method, path, words[1:]...)
}

// aside is a line that no request of the transcript's has printed: what a machine said, or how one was some time later.
func (x *transcript) aside(line, at string) {
	switch {
	case strings.HasPrefix(line, "=="), strings.HasSuffix(line, ":"): // a heading
	case line == "": // the user-data that the machine has fetched: none
		require.Empty(x.t, x.metadata("GET", "2012-03-01/user-data", ""), at)
	case strings.HasPrefix(line, "status hook"):
		x.metadata("POST", "status/"+theNode, `{"event_type":"start","name":"cmd-install/stage-partitioning/builtin"}`)
	case strings.HasPrefix(line, "signal FAILED"):
		require.Equal(x.t, "Invalid transition: Deployed -> Failed commissioning.", x.metadata("POST", "2012-03-01/?op=signal", "status=FAILED&error=boom"), at)
	case strings.HasPrefix(line, "t="):
		x.clock.Advance(5 * time.Second)
	default:
		now := summary(x.admin.get("machines/" + theNode + "/").machine(x.t))
		if len(line) < len(now) && strings.HasPrefix(line, "{") && !strings.HasSuffix(line, "}") { // cut at the terminal's edge
			now = now[:len(line)]
		}
		require.Equal(x.t, line, now, at)
	}
}

// metadata is what the machine asks with its own key.
func (x *transcript) metadata(method, path, body string) string {
	var token struct {
		Key      string `json:"token_key"`
		Secret   string `json:"token_secret"`
		Consumer string `json:"consumer_key"`
	}
	require.NoError(x.t, json.Unmarshal([]byte(x.token), &token))
	req, err := http.NewRequest(method, "http://maas/MAAS/metadata/"+path, strings.NewReader(body))
	require.NoError(x.t, err)
	require.NoError(x.t, maastest.Sign(req, token.Consumer+":"+token.Key+":"+token.Secret, path, x.clock.Now()))
	res, err := (&http.Client{Transport: x.region.Transport()}).Do(req)
	require.NoError(x.t, err)
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	require.NoError(x.t, err)
	return string(b)
}

func TestTheTranscriptsOfARealMAASAreAnsweredAlike(t *testing.T) {
	t.Parallel()
	x := newTranscript(t)
	for _, file := range []string{"tr1.txt", "tr2.txt", "tr3.txt", "tr4.txt"} {
		x.replay(file)
	}
	for at := range x.hooks {
		require.True(t, x.seen[at], "there is no line %s to do something before", at)
	}
	for at := range x.known {
		if strings.HasPrefix(at, "tr") {
			require.True(t, x.seen[at], "there is no line %s to pass over", at)
		}
	}
	require.Empty(t, x.region.Violations())
}
