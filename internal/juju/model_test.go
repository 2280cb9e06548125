package juju

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"
)

var testTime = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// fullState has something of everything that is stored by reference.
func fullState(t *testing.T) *State {
	t.Helper()
	ch, err := NewCharm(map[string]string{
		"metadata.yaml": "name: ctrl\nsummary: s\ndescription: d\nprovides: {agents: {interface: cert_agents}}\npeers: {cluster: {interface: p}}\n",
		"config.yaml":   "options:\n  i: {type: int, default: 3}\n  s: {type: string}\n",
		"manifest.yaml": "bases:\n- {name: ubuntu, channel: \"24.04\", architectures: [amd64]}\n",
		"actions.yaml":  "do: {description: d, params: {n-x: {type: integer, minimum: 3000000000}}}\n",
	})
	require.NoError(t, err)
	s := NewState(ModelInfo{Name: "lab1", Version: "4.0.15"}, testTime)
	stored := ch.WithRevision(0)
	s.Charms[stored.URL] = stored
	s.Applications["ctrl"] = &Application{Name: "ctrl", Charm: stored.URL, Config: map[string]string{"i": "7"}, Life: Alive}
	s.Units["ctrl/0"] = &Unit{Name: "ctrl/0", Application: "ctrl", Life: Alive,
		Uniter: Uniter{Running: &Hook{Name: "start", Kind: Start}, Relations: map[int]*LocalRelation{0: {Joined: map[string]int{"a/0": 1}}}}}
	s.Relations[0] = &Relation{ID: 0, Endpoints: []Endpoint{{"ctrl", "cluster", "p", Peer}}, Life: Alive}
	s.Secrets["x"] = &Secret{ID: "x", Revisions: []SecretRevision{{Revision: 1, Content: map[string]string{"k": "v"}}}}
	s.Tasks[1] = &Task{ID: 1, Results: map[string]any{"a": map[string]any{"b": "1"}}}
	s.init()
	return s
}

func TestStateSurvivesJSON(t *testing.T) {
	t.Parallel()
	s := fullState(t)
	data, err := json.Marshal(s)
	require.NoError(t, err)
	var again State
	require.NoError(t, json.Unmarshal(data, &again))
	again.init()
	require.Empty(t, cmp.Diff(s, &again, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b *Charm) bool {
		return a.URL == b.URL && a.Text("actions.yaml") == b.Text("actions.yaml") && a.Meta.Name == b.Meta.Name
	})))
	require.Equal(t, map[string]any{"i": int64(7), "s": nil}, again.Settings("ctrl"))
}

func TestUpdateLeavesSnapshotsAlone(t *testing.T) {
	t.Parallel()
	m := NewModel(fullState(t), Options{})
	before := m.Snapshot()
	changed := m.Changed()
	require.NoError(t, m.Update(func(s *State) error {
		s.Secrets["x"].Revisions[0].Content["k"] = "new"
		s.Tasks[1].Results["a"].(map[string]any)["b"] = "2"
		s.Units["ctrl/0"].Uniter.Running.Name = "stop"
		s.Units["ctrl/0"].Uniter.Relations[0].Joined["a/0"] = 2
		return nil
	}))
	require.Equal(t, "v", before.Secrets["x"].Revisions[0].Content["k"])
	require.Equal(t, "1", before.Tasks[1].Results["a"].(map[string]any)["b"])
	require.Equal(t, "start", before.Units["ctrl/0"].Uniter.Running.Name)
	require.Equal(t, 1, before.Units["ctrl/0"].Uniter.Relations[0].Joined["a/0"])
	require.Equal(t, "new", m.Snapshot().Secrets["x"].Revisions[0].Content["k"])
	select {
	case <-changed:
	default:
		t.Fatal("the change was not announced")
	}
}

func TestFailedUpdateOrSaveChangesNothing(t *testing.T) {
	t.Parallel()
	disk := errors.New("disk full")
	var fail error
	m := NewModel(fullState(t), Options{Save: func(*State) error { return fail }})
	before := m.Snapshot()
	err := m.Update(func(s *State) error { s.Model.Name = "x"; return disk })
	require.ErrorIs(t, err, disk)
	fail = disk
	err = m.Update(func(s *State) error { s.Model.Name = "x"; return nil })
	require.ErrorContains(t, err, "disk full")
	require.Same(t, before, m.Snapshot())
	require.Equal(t, "lab1", m.Snapshot().Model.Name)
}
