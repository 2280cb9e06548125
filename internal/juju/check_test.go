package juju

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckNamesWhatJujuCouldNotBe(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*State)
		want   string
	}{
		"leader of another application": {func(s *State) { s.Applications["probe"].Leader = "other/0" }, "other/0 leads application probe"},
		"unknown option":                {func(s *State) { s.Applications["probe"].Config["nope"] = "1" }, `option "nope"`},
		"option of wrong type":          {func(s *State) { s.Applications["probe"].Config["i"] = "x" }, "not of type int"},
		"secret option of no secret":    {func(s *State) { s.Applications["probe"].Config["sec"] = "secret:x" }, "no secret's URI"},
		"unit without machine":          {func(s *State) { s.Units["probe/0"].Machine = "7" }, `machine "7"`},
		"unit status of Juju's own":     {func(s *State) { s.Units["probe/0"].Workload.Status = "error" }, `workload status "error"`},
		"unknown endpoint": {func(s *State) {
			s.Relations[0].Endpoints[0].Name = "nope"
		}, "which charm probe does not declare"},
		"unit in a relation that is gone": {func(s *State) {
			s.Relations[0].Units["probe/1"] = &RelationUnit{InScope: true}
		}, "unit probe/1 in it, which is not in the model"},
		"empty setting":      {func(s *State) { s.Relations[0].Units["probe/0"].Settings["k"] = "" }, `setting "k" is empty`},
		"undeclared storage": {func(s *State) { s.Storage["x/0"] = &Storage{ID: "x/0", Name: "x", Unit: "probe/0"} }, "does not declare"},
		"grant without relation": {func(s *State) {
			s.Secrets["aaaaaaaaaaaaaaaaaaa0"] = &Secret{ID: "aaaaaaaaaaaaaaaaaaa0", Owner: Owner{"application", "probe"},
				Revisions: []SecretRevision{{Revision: 1}}, Grants: []Grant{{Target: "application-x", Relation: 9}}}
		}, "granted for relation 9"},
		"two secrets of one label": {func(s *State) {
			for _, id := range []string{"aaaaaaaaaaaaaaaaaaa0", "aaaaaaaaaaaaaaaaaaag"} {
				s.Secrets[id] = &Secret{ID: id, Label: "l", Owner: Owner{"application", "probe"}, Revisions: []SecretRevision{{Revision: 1}}}
			}
		}, `have label "l"`},
		"pending action that is none": {func(s *State) { s.Tasks[1].Action, s.Tasks[1].Status = "nope", TaskPending }, `action "nope"`},
		"missing peer relation":       {func(s *State) { delete(s.Relations, 0) }, "lacks its peer relation cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := probeModel(t, "4.0.15")
			require.NoError(t, m.Snapshot().Check())
			require.NoError(t, m.Update(func(s *State) error { test.change(s); return nil }))
			require.ErrorContains(t, m.Snapshot().Check(), test.want)
		})
	}
}
