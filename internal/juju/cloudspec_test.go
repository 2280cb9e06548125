package juju

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The keys are those of params.CloudSpec and of Go's field names in Juju's source; neither was seen on a MAAS.
func TestCredentialGetShowsTheCloudToWhoIsTrusted(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, m *Model, _ int) {
		run := func(args ...string) (string, string) {
			stdout, stderr, _ := execContext(t, m).Run("credential-get", args, nil)
			return string(stdout), string(stderr)
		}
		change := func(change func(*State)) {
			require.NoError(t, m.Update(func(s *State) error { change(s); return nil }))
		}
		change(func(s *State) { s.CloudSpec = MAASCloud("rack", "http://10.0.0.2:5240/MAAS", "a:b:c") })
		_, stderr := run()
		require.Equal(t, "ERROR cannot access cloud credentials: permission denied\n", stderr)
		change(func(s *State) { require.NoError(t, s.SetTrust("probe", true)) })
		stdout, _ := run("--format", "json")
		require.Equal(t, `{"type":"maas","name":"rack","endpoint":"http://10.0.0.2:5240/MAAS","credential":{"auth-type":"oauth1","attrs":{"maas-oauth":"a:b:c"}},"is-controller-cloud":true}`+"\n", stdout)
		stdout, _ = run()
		require.Contains(t, stdout, "type: maas\n")
		require.Contains(t, stdout, "credential:\n  authtype: oauth1\n  attributes:\n    maas-oauth: a:b:c\n")
		change(func(s *State) { s.CloudSpec = nil })
		_, stderr = run()
		require.Equal(t, "ERROR cannot access cloud credentials: the model's cloud has none\n", stderr)
	})
}
