package juju

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var ctrlTexts = map[string]string{
	"metadata.yaml": `
name: ctrl
summary: small controller for agents
description: gives its agents servers and a secret
provides: {agents: {interface: cert_agents}}
peers: {cluster: {interface: ctrl_peers}}
storage: {data: {type: filesystem, location: /srv/data, minimum-size: 1M}}
`,
	"config.yaml": `
options:
  title: {type: string, default: "lab"}
  note: {type: string}
  count: {type: int, default: 1}
  ratio: {type: float, default: 0.5}
  flag: {type: boolean, default: false}
  token: {type: secret}
`,
	"manifest.yaml": "bases:\n- {name: ubuntu, channel: \"24.04\", architectures: [amd64]}\n",
	"actions.yaml":  "list-things: {description: list things}\nslow: {description: s, params: {seconds: {type: integer, default: 3}}}\n",
}

var workerTexts = map[string]string{
	"metadata.yaml": `
name: worker
summary: small worker
description: takes work from ctrl
requires: {agents: {interface: cert_agents, optional: true, limit: 1}}
`,
	"config.yaml":   "options:\n  pool: {type: string, default: main}\n",
	"manifest.yaml": "bases:\n- {name: ubuntu, channel: \"24.04\", architectures: [amd64]}\n",
	"actions.yaml":  "show-run: {description: show the last run}\n",
}

func testCharm(t *testing.T, texts map[string]string) *Charm {
	t.Helper()
	ch, err := NewCharm(texts)
	require.NoError(t, err)
	return ch
}

// ctrlCharm does what the transcript's ctrl charm does.
func ctrlCharm(sc *script) {
	publish := func(relation string) {
		if sc.tool("is-leader") != "True" {
			return
		}
		sid := sc.tool("state-get", "sid")
		if sid == "" {
			sid = sc.tool("secret-add", "--label", "agent-creds", "--owner", "application", "user=agent", "password=pw-1")
			sc.tool("state-set", "sid="+sid)
		}
		sc.tool("secret-grant", sid, "-r", relation)
		sc.tool("relation-set", "-r", relation, "--app", "secret-id="+sid, "serial="+sc.tool("config-get", "count"))
	}
	switch sc.event {
	case "install":
		sc.tool("status-set", "maintenance", "installing")
	case "config-changed":
		for _, r := range strings.Fields(sc.tool("relation-ids", "agents")) {
			publish(r)
		}
	case "start":
		sc.tool("status-set", "active", "ready")
	case "agents-relation-created":
		publish(sc.env["JUJU_RELATION_ID"])
	}
}

// workerCharm does what the transcript's worker charm does.
func workerCharm(sc *script) {
	sync := func(relation, flag string) {
		app := sc.tool("relation-list", "-r", relation, "--app")
		sid := sc.tool("relation-get", "-r", relation, "--app", "secret-id", app)
		if sid == "" {
			sc.tool("status-set", "waiting", "controller gave no secret")
			return
		}
		args := []string{"secret-get", sid}
		if flag != "" {
			args = append(args, flag)
		}
		if sc.tool(args[0], args[1:]...) != "" {
			sc.tool("relation-set", "-r", relation, "ready=true", "slots=4")
			sc.tool("status-set", "active", "connected")
		}
	}
	switch sc.event {
	case "install":
		sc.tool("status-set", "maintenance", "installing")
	case "agents-relation-changed":
		sync(sc.env["JUJU_RELATION_ID"], "")
	case "secret-changed":
		for _, r := range strings.Fields(sc.tool("relation-ids", "agents")) {
			sync(r, "--refresh")
		}
	}
}

// hookSections reads testdata/hooks.txt: for each section, in the file's order, what each unit was told.
func hookSections(t *testing.T) (titles []string, sections map[string]map[string][]string) {
	t.Helper()
	data, err := os.ReadFile("testdata/hooks.txt")
	require.NoError(t, err)
	sections = map[string]map[string][]string{}
	begin := regexp.MustCompile(`^\S+ BEGIN (\S+) (.*)$`)
	action := regexp.MustCompile(` JUJU_ACTION_(UUID|TAG)=\S+`)
	for _, line := range strings.Split(string(data), "\n") {
		if title, ok := strings.CutPrefix(line, "=== "); ok {
			titles = append(titles, title)
			sections[title] = map[string][]string{}
			continue
		}
		if m := begin.FindStringSubmatch(line); m != nil {
			last := sections[titles[len(titles)-1]]
			last[m[1]] = append(last[m[1]], action.ReplaceAllString(m[2], ""))
		}
	}
	return titles, sections
}

var variableOrder = regexp.MustCompile(` JUJU_[A-Z_]+=\S*`)

// normalise brings one unit's hooks into the form in which the transcript and the model are compared.
//
//   - update-status is left out: when it comes depends on when the section was recorded.
//   - A config-changed that follows another at once is left out: 4.0.15 runs it once or twice for one change.
//   - JUJU_REMOTE_APP of relation-broken is left out: it is empty or not from run to run.
//   - The variables' order, and the id of the one secret, mean nothing.
func normalise(hooks []string) []string {
	var all []string
	for _, line := range hooks {
		vars := variableOrder.FindAllString(line, -1)
		name, _, _ := strings.Cut(line, " ")
		if strings.HasSuffix(name, "-relation-broken") {
			vars = slices.DeleteFunc(vars, func(v string) bool { return strings.HasPrefix(v, " JUJU_REMOTE_APP=") })
		}
		slices.Sort(vars)
		line = name + regexp.MustCompile(`[0-9a-v]{19}[0g]\b`).ReplaceAllString(strings.Join(vars, ""), "ID")
		if name == "update-status" || name == "config-changed" && len(all) > 0 && all[len(all)-1] == line {
			continue
		}
		all = append(all, line)
	}
	return all
}

// sameHooks compares what units were told in a section. In relations only the set of hooks is compared, not their order and
// number, because both vary from run to run on a real Juju with the moment at which the other side writes; what holds in every
// run is checked of the model's order: joined before its changed, departed before broken, and all other hooks in sequence.
func sameHooks(t *testing.T, title string, want, got map[string][]string) {
	t.Helper()
	split := func(hooks []string) (others, relation []string) {
		for _, line := range normalise(hooks) {
			name, _, _ := strings.Cut(line, " ")
			if strings.Contains(name, "-relation-") || strings.HasPrefix(name, "secret-") {
				if !slices.Contains(relation, line) {
					relation = append(relation, line)
				}
			} else {
				others = append(others, line)
			}
		}
		slices.Sort(relation)
		return others, relation
	}
	for _, unit := range slices.Sorted(maps.Keys(union(want, got))) {
		wantOthers, wantRelation := split(want[unit])
		gotOthers, gotRelation := split(got[unit])
		require.Equal(t, wantOthers, gotOthers, "%s: hooks of %s: %v", title, unit, got[unit])
		require.Equal(t, wantRelation, gotRelation, "%s: relation and secret hooks of %s: %v", title, unit, got[unit])
		joined, broken := map[string]bool{}, map[string]bool{}
		for _, line := range got[unit] {
			key := regexp.MustCompile(`JUJU_RELATION_ID=\S+`).FindString(line)
			remote := regexp.MustCompile(`JUJU_REMOTE_UNIT=\S+`).FindString(line)
			switch {
			case strings.Contains(line, "-relation-joined"):
				joined[key+remote] = true
			case strings.Contains(line, "-relation-broken"):
				broken[key] = true
			case strings.Contains(line, "-relation-departed"):
				require.False(t, broken[key], "%s: %s departed after broken", title, unit)
			}
		}
		for _, line := range gotRelation {
			if strings.Contains(line, "-relation-joined") {
				require.Contains(t, gotRelation, strings.Replace(line, "-joined", "-changed", 1), "%s: %s joined without changed", title, unit)
			}
		}
	}
}

func union(a, b map[string][]string) map[string]bool {
	all := map[string]bool{}
	for unit := range a {
		all[unit] = true
	}
	for unit := range b {
		all[unit] = true
	}
	return all
}

// TestHookSequencesAreThoseOfJuju plays every section of testdata/hooks.txt, which was recorded on a real Juju 4.0.15, against
// agents whose charms are those of the transcript, and compares what each unit was told: see normalise and sameHooks for what
// may differ. Beyond that, and why:
//
//   - "juju remove-application worker" and "... keep": 4.0.15 ran stop on 0 of 3 and 1 of 4 units and remove on none, and "... w2"
//     had stop without remove; that varies, and the model always runs both.
//   - "app and unit databag of ctrl in one hook" shows ctrl/0 one relation-changed, because worker/0 writes slots back; the model
//     shows it too, as it comes from the charm.
//   - The order of the relation-created hooks of ctrl/0 (agents:1 before cluster:0) is the model's other way round, by id; a
//     chooser (AgentOptions.Choose) can have either.
//   - An agent that is killed in a hook: the transcript's second BEGIN is the run after the restart; the orphan's end is not told.
func TestHookSequencesAreThoseOfJuju(t *testing.T) {
	t.Parallel()
	titles, sections := hookSections(t)
	w := newWorld(t, "4.0.15", map[string]func(*script){"ctrl": ctrlCharm, "worker": workerCharm, "w2": workerCharm,
		"c3": ctrlCharm, "keep": workerCharm})
	next := 0
	// compare takes the next section of the transcript, which must have the title, and compares what ran since the last one.
	compare := func(title string, adjust func(want map[string][]string)) {
		t.Helper()
		require.Less(t, next, len(titles))
		require.True(t, strings.HasPrefix(titles[next], title), "section %q is %q", title, titles[next])
		want := sections[titles[next]]
		next++
		if adjust != nil {
			adjust(want)
		}
		w.quiet()
		sameHooks(t, title, want, w.took())
	}
	set := func(app string, options map[string]string) {
		t.Helper()
		w.update(func(s *State, _ time.Time) error { return s.SetOptions(app, options) })
	}

	var token string
	w.update(func(s *State, now time.Time) error {
		ctrl, worker := s.AddCharm(testCharm(t, ctrlTexts)), s.AddCharm(testCharm(t, workerTexts))
		if _, err := s.AddApplication(Deployment{Name: "ctrl", Charm: ctrl, Units: 1, Placement: []string{"0"},
			Options: map[string]string{"title": "frombundle", "count": "7"}}, now); err != nil {
			return err
		}
		if _, err := s.AddApplication(Deployment{Name: "worker", Charm: worker, Units: 3, Placement: []string{"1", "2", "3"},
			Options: map[string]string{"pool": "blue"}}, now); err != nil {
			return err
		}
		s.Applications["worker"].Leader = "worker/2" // as it was in the transcript
		_, err := s.AddRelation("ctrl:agents", "worker:agents", now)
		return err
	})
	compare("bundle deploy", nil)

	// What the transcript's section on exec and secrets had done before: labels, and a read by the owner itself.
	var id string
	for secret := range w.model.Snapshot().Secrets {
		id = secret
	}
	w.exec("worker/0", "secret-get "+id+" --label mylabel")
	w.exec("ctrl/0", "secret-get "+id)
	w.update(func(s *State, now time.Time) error {
		token = w.model.NewID()
		if _, err := s.AddUserSecret(token, "tok", "", map[string]string{"value": "sesame"}, now); err != nil {
			return err
		}
		if err := s.SetOptions("ctrl", map[string]string{"token": "secret:" + token}); err != nil {
			return err
		}
		return s.GrantUserSecret("tok", []string{"ctrl"}, true)
	})
	w.quiet()
	w.took()

	set("ctrl", map[string]string{"title": "frombundle"})
	compare("config set to the same value", nil)
	set("ctrl", map[string]string{"title": "new"})
	compare("config change of ctrl: title", nil)
	set("ctrl", map[string]string{"count": "8"})
	compare("config change of ctrl: count", nil)
	w.update(func(s *State, _ time.Time) error { return s.ResetOptions("ctrl", []string{"title", "count"}) })
	compare("config reset", nil)
	compare("config from file", nil) // it failed, and told nobody
	set("ctrl", map[string]string{"title": "", "ratio": "1e3", "flag": "True"})
	set("worker", map[string]string{"pool": "green"})
	compare("config change of worker (3 units)", nil)

	w.exec("ctrl/0", "secret-set "+id+" password=pw-2 user=agent")
	compare("owner rotates the secret", nil)
	w.exec("ctrl/0", "secret-set "+id+" password=pw-2 user=agent")
	compare("owner sets the same value again", nil)
	w.exec("ctrl/0", "secret-set "+id+" password=pw-3 user=agent")
	w.quiet()
	w.exec("ctrl/0", "secret-set "+id+" password=pw-4 user=agent")
	compare("two new revisions", nil)

	w.exec("ctrl/0", "relation-set -r agents:1 --app serial=100")
	compare("leader changes its app databag (1 key)", nil)
	w.exec("ctrl/0", "relation-set -r agents:1 --app serial=100")
	compare("leader sets the same value again", nil)
	for n := range 3 {
		w.exec("ctrl/0", fmt.Sprint("relation-set -r agents:1 --app serial=20", n+1))
		w.quiet()
	}
	got := w.took()
	require.Len(t, got["worker/0"], 3, "three changes that the unit keeps up with are three hooks")
	w.mu.Lock()
	w.ran = got
	w.mu.Unlock()
	compare("leader changes the app databag in 3 hooks", nil)
	w.exec("ctrl/0", "relation-set -r agents:1 u=1")
	compare("ctrl/0 changes its unit databag", nil)
	w.exec("worker/0", "relation-set -r agents:1 slots=9")
	compare("worker/0 changes its unit databag", nil)
	w.exec("worker/2", "relation-set -r agents:1 --app w=1")
	compare("worker leader changes the worker app databag", nil)
	w.exec("ctrl/0", "relation-set -r agents:1 --app serial=300; relation-set -r agents:1 u=2")
	compare("app and unit databag of ctrl in one hook", nil)

	w.update(func(s *State, now time.Time) error {
		_, err := s.AddUnits("worker", 1, []string{"4"}, now)
		return err
	})
	compare("4th worker added", func(want map[string][]string) {
		// The new unit sees the application bag of its own side: ctrl/0 told of it before.
		require.NotEmpty(t, want["worker/3"])
	})
	w.update(func(s *State, now time.Time) error { return s.RemoveUnit("worker/3", false, now) })
	w.until(func(s *State) bool { return s.Units["worker/3"] == nil })
	compare("worker/3 removed", nil)
	require.NotContains(t, w.model.Snapshot().Machines, "4", "the machine goes with its last unit")

	w.update(func(s *State, _ time.Time) error { s.RemoveRelation(1); return nil })
	compare("relation removed", nil)
	require.NotContains(t, w.model.Snapshot().Relations, 1)
	require.Empty(t, w.model.Snapshot().Secrets[id].Grants, "the grant goes with the relation")
	w.update(func(s *State, now time.Time) error {
		_, err := s.AddRelation("ctrl", "worker", now)
		return err
	})
	compare("relation added again", nil)

	refresh := func(app string, texts map[string]string) {
		t.Helper()
		w.update(func(s *State, now time.Time) error {
			_, err := s.Refresh(app, testCharm(t, texts), nil, now)
			return err
		})
	}
	refresh("worker", workerTexts)
	compare("refresh of worker", nil)
	refresh("ctrl", ctrlTexts)
	compare("refresh of ctrl", nil)
	refresh("worker", workerTexts)
	compare("refresh with the same charm file again", nil)

	failing := 3
	w.charms["worker"] = func(sc *script) {
		if sc.spec.Unit == "worker/0" && sc.event == "config-changed" && failing > 0 {
			failing--
			sc.exit(1)
		}
		workerCharm(sc)
	}
	set("worker", map[string]string{"pool": "f1"})
	w.quiet()
	require.Equal(t, TaskCompleted, w.finished(w.run("worker/0", "show-run", nil)).Status, "actions run in error state")
	for n, wait := range []time.Duration{5, 10, 20} {
		w.quiet()
		require.Equal(t, n+1, w.model.Snapshot().Units["worker/0"].Failed.Attempt)
		w.clock.Advance(wait*time.Second - time.Millisecond)
		require.NotNil(t, w.model.Snapshot().Units["worker/0"].Failed)
		w.clock.Advance(time.Millisecond)
		w.until(func(s *State) bool {
			f := s.Units["worker/0"].Failed
			return f == nil || f.Attempt > n+1
		})
	}
	collapse := func(want map[string][]string) {
		// The transcript's three failures come as one line each; sameHooks leaves repeated config-changed out on both sides.
		require.Len(t, want["worker/0"], 5)
	}
	compare("hook fails 3 times, then passes", collapse)

	failing = 1000
	set("worker", map[string]string{"pool": "f2"})
	w.quiet()
	w.update(func(s *State, _ time.Time) error { return s.Resolve("worker/0", true) })
	w.until(func(s *State) bool {
		return s.Units["worker/0"].Failed != nil && s.Units["worker/0"].Failed.Attempt == 2
	})
	w.quiet()
	require.Equal(t, "error", w.model.Snapshot().Units["worker/0"].WorkloadStatus().Status)
	w.update(func(s *State, _ time.Time) error { return s.Resolve("worker/0", false) })
	w.quiet()
	require.Equal(t, "active", w.model.Snapshot().Units["worker/0"].WorkloadStatus().Status)
	compare("hook fails for ever", nil)
	failing = 0

	w.bootMachine("2")
	compare("machine of worker/1 rebooted while idle", nil)
	w.bootMachine("0")
	compare("machine of ctrl/0 rebooted while idle", nil)

	w.stop("worker/2")
	w.until(func(s *State) bool { return s.Units["worker/2"].Lost })
	require.Equal(t, "unknown", w.model.Snapshot().Units["worker/2"].WorkloadStatus().Status)
	require.Equal(t, "worker/2", w.model.Snapshot().Applications["worker"].Leader, "the lease outlives the agent")
	pending := []int{w.run("worker/2", "show-run", nil), w.run("worker/2", "show-run", nil)}
	// Leadership goes to whichever other agent is first; in the transcript it was worker/1.
	w.stop("worker/0")
	w.clock.Advance(LeaseDuration)
	w.until(func(s *State) bool {
		return s.Applications["worker"].Leader == "worker/1" && s.Units["worker/1"].Uniter.Leader
	})
	w.start("worker/0")
	w.start("worker/2")
	for _, id := range pending {
		require.Equal(t, TaskCompleted, w.finished(id).Status, "tasks for a lost unit wait for it")
	}
	compare("agent of worker/2 (leader of worker) down", nil)

	set("ctrl", map[string]string{"title": "before-reset"})
	w.quiet()
	w.update(func(s *State, _ time.Time) error { return s.ResetOptions("ctrl", []string{"title"}) })
	compare("config set, then reset", nil)

	begun, release := w.hold("ctrl/0", "config-changed")
	set("ctrl", map[string]string{"title": "killed2"})
	<-begun
	w.stop("ctrl/0")
	w.start("ctrl/0")
	w.until(func(s *State) bool { return s.Units["ctrl/0"].Failed != nil && !s.Units["ctrl/0"].Lost })
	require.Equal(t, `hook failed: "config-changed"`, w.model.Snapshot().Units["ctrl/0"].WorkloadStatus().Message)
	release()
	w.clock.Advance(interruptedRetry)
	w.until(func(s *State) bool { return s.Units["ctrl/0"].Failed == nil })
	compare("agent of ctrl/0 killed with -9 in the middle of: config-changed", nil)

	begun, release = w.hold("ctrl/0", "action:slow")
	slow := w.run("ctrl/0", "slow", map[string]any{"seconds": 12})
	<-begun
	w.stop("ctrl/0")
	release()
	w.start("ctrl/0")
	task := w.finished(slow)
	require.Equal(t, TaskFailed, task.Status)
	require.Equal(t, "action terminated", task.Message)
	compare("agent of ctrl/0 killed with -9 in the middle of: action", nil)

	w.update(func(s *State, now time.Time) error { return s.RemoveApplication("ctrl", true, now) })
	w.until(func(s *State) bool { return s.Units["ctrl/0"] == nil && len(s.RelationsOf("worker")) == 0 })
	compare("juju remove-application ctrl", nil)
	require.NotContains(t, w.model.Snapshot().Applications, "ctrl")

	w.update(func(s *State, now time.Time) error { return s.RemoveApplication("worker", false, now) })
	w.until(func(s *State) bool { return s.Applications["worker"] == nil })
	always := func(units ...string) func(map[string][]string) {
		return func(want map[string][]string) {
			for _, unit := range units {
				want[unit] = append(slices.DeleteFunc(want[unit], func(h string) bool { return h == "stop" || h == "remove" }), "stop", "remove")
			}
		}
	}
	compare("juju remove-application worker", always("worker/0", "worker/1", "worker/2"))

	w.update(func(s *State, now time.Time) error {
		_, err := s.AddApplication(Deployment{Name: "w2", Charm: s.AddCharm(testCharm(t, workerTexts)), Units: 1, Placement: []string{"5"}}, now)
		return err
	})
	w.quiet()
	w.update(func(s *State, now time.Time) error { return s.RemoveApplication("w2", false, now) })
	w.until(func(s *State) bool { return s.Applications["w2"] == nil })
	compare("juju remove-application w2", always("w2/0"))

	w.update(func(s *State, now time.Time) error {
		s.Next.Relation, s.Next.Storage = 4, 1
		ctrl, worker := s.AddCharm(testCharm(t, ctrlTexts)), s.AddCharm(testCharm(t, workerTexts))
		if _, err := s.AddApplication(Deployment{Name: "c3", Charm: ctrl, Units: 1}, now); err != nil {
			return err
		}
		if _, err := s.AddApplication(Deployment{Name: "keep", Charm: worker, Units: 4}, now); err != nil {
			return err
		}
		_, err := s.AddRelation("c3:agents", "keep:agents", now)
		return err
	})
	w.quiet()
	w.took()
	w.update(func(s *State, now time.Time) error { return s.RemoveApplication("c3", false, now) })
	w.until(func(s *State) bool { return s.Units["c3/0"] == nil })
	compare("juju remove-application c3", func(want map[string][]string) {
		// The transcript has no cluster-relation-broken of c3/0, though ctrl/0's has one: the model always runs it.
		want["c3/0"] = append(want["c3/0"], "cluster-relation-broken JUJU_RELATION=cluster JUJU_RELATION_ID=cluster:4 JUJU_REMOTE_UNIT=")
	})
	w.update(func(s *State, now time.Time) error { return s.RemoveApplication("keep", false, now) })
	w.until(func(s *State) bool { return s.Applications["keep"] == nil })
	compare("juju remove-application keep", always("keep/0", "keep/1", "keep/2", "keep/3"))
	require.Equal(t, len(titles), next, "every section was played")
	require.Empty(t, w.model.Snapshot().Units)
}
