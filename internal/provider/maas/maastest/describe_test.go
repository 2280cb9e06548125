package maastest_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/provider/maas/maastest"
)

// description is MAAS's own of its API: the answer of /MAAS/api/2.0/describe/.
type description struct {
	Hash      string
	Resources []struct {
		Name       string
		Auth, Anon *struct {
			Path    string
			Actions []struct{ Name, Method, Op, Doc string }
		}
	}
}

// describe reads the description where there is one: it is no file of this repository. $CERTLAB_SHARED names the directory that it is in, with
// other facts; else that is the repository's neighbour.
func describe(t *testing.T) description {
	shared := os.Getenv("CERTLAB_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "..", "..", "..", "shared")
	}
	b, err := os.ReadFile(filepath.Join(shared, "samples", "maas", "describe.json"))
	if os.IsNotExist(err) {
		t.Skipf("there is no description of MAAS's API here (%v): set CERTLAB_SHARED to where samples/maas/describe.json is", err)
	}
	require.NoError(t, err)
	var d description
	require.NoError(t, json.Unmarshal(b, &d))
	return d
}

func TestEachOperationIsOneOfMAASWithItsParameters(t *testing.T) {
	t.Parallel()
	d := describe(t)
	require.Equal(t, d.Hash, maastest.APIHash)
	type action struct{ path, doc string }
	known := map[string]action{}
	for _, r := range d.Resources {
		for _, h := range []*struct {
			Path    string
			Actions []struct{ Name, Method, Op, Doc string }
		}{r.Auth, r.Anon} {
			if h == nil {
				continue
			}
			for _, a := range h.Actions {
				known[strings.Join([]string{r.Name, a.Name, a.Method, a.Op}, " ")] = action{h.Path, a.Doc}
			}
		}
	}
	documented := func(doc, param string) bool {
		return regexp.MustCompile(`:param ` + regexp.QuoteMeta(param) + `:`).MatchString(doc)
	}
	excused, used := maastest.Undocumented(), map[string]bool{}
	offered := map[string]bool{}
	for _, o := range maastest.Offered() {
		a, ok := known[strings.Join([]string{o.Handler, o.Name, o.Method, o.Op}, " ")]
		require.True(t, ok, "MAAS has no %s %s (%s op=%s)", o.Handler, o.Name, o.Method, o.Op)
		require.Equal(t, a.path, "/MAAS/api/2.0/"+o.Path, "%s %s", o.Handler, o.Name)
		offered[o.Handler+" "+o.Name] = true
		for _, p := range o.Params {
			key := o.Handler + " " + o.Name + " " + p
			if excused[key] != "" {
				used[key] = true
				require.False(t, documented(a.doc, p), "%s needs no excuse", key)
				continue
			}
			require.True(t, documented(a.doc, p), "MAAS documents no parameter %s of %s %s", p, o.Handler, o.Name)
		}
	}
	for key := range excused {
		require.True(t, used[key], "nothing reads %s", key)
	}
	// And the other way round, for the resources that matter most.
	missing := map[string]bool{}
	for key := range known {
		parts := strings.Fields(key)
		if !slices.Contains([]string{"MachineHandler", "MachinesHandler"}, parts[0]) || offered[parts[0]+" "+parts[1]] {
			continue
		}
		missing[strings.ToLower(strings.TrimSuffix(parts[0], "Handler"))+"."+parts[1]] = true
	}
	for op := range maastest.NotOffered() {
		require.True(t, missing[op], "%s is offered, or MAAS does not have it", op)
		delete(missing, op)
	}
	require.Empty(t, missing, "operations that are neither offered nor listed in NotOffered")
}
