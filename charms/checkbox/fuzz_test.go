package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/fuzztest"
	"certlab/internal/hooks"
)

// FuzzAssignments: what an operator or an action assigns becomes variables that a launcher can hold, or is refused with its line.
func FuzzAssignments(f *testing.F) {
	seeds := fuzztest.Seeds("A=1,B=2", "# x\n a::b = c\r\n", "PATH=/bin\nA=b=c\n\n", "com.canonical.certification::has_camera=yes")
	fuzztest.Run(f, 800, seeds, func(t *testing.T, data []byte) {
		for _, parse := range []func(string, []string) (map[string]string, error){parseEnvironment, parseManifest} {
			values, err := parse("environment", splitList(string(data)))
			if fuzztest.Error(t, err); err != nil {
				continue
			}
			require.LessOrEqual(t, len(values), maxAssignments)
			var lines []string
			for name, value := range values {
				require.NotContains(t, name, "=")
				require.False(t, hasControl(strings.ReplaceAll(value, "\t", "")), "%q", value)
				lines = append(lines, name+"="+value)
			}
			again, err := parse("environment", lines)
			require.NoError(t, err)
			require.Equal(t, values, again)
		}
	})
}

// FuzzOptions: any values of the options become a desired state, or one line of status that names the option.
func FuzzOptions(f *testing.F) {
	seed := func(o options) []byte {
		text, err := json.Marshal(o)
		require.NoError(f, err)
		return text
	}
	good := options{Source: "snap", Channel: "24.04/stable", DefaultPlan: "com.canonical.certification::sru", Timeout: 60, SilenceTimeout: 30, ConsoleLimit: 100,
		SessionLimit: 100, MaxBoots: 10, NormalUser: "ubuntu", Environment: "A=1\nB=2", Manifest: "a::b=true", ExtraPackages: "jq, curl", SecretEnvironment: "secret:x"}
	deb, path := good, good
	deb.Source, deb.Channel = "deb", "ppa:checkbox-dev/stable"
	path.Source, path.Path = "path", "/opt/checkbox/bin/checkbox-cli"
	fuzztest.Run(f, 800, [][]byte{seed(good), seed(deb), seed(path), seed(options{})}, func(t *testing.T, data []byte) {
		var o options
		if json.Unmarshal(data, &o) != nil {
			return
		}
		d, err := o.desired()
		if err != nil {
			var status hooks.Status
			require.ErrorAs(t, err, &status)
			require.Equal(t, "blocked", status.Name)
			fuzztest.Error(t, err)
			return
		}
		require.Positive(t, d.TimeoutSeconds)
		require.Positive(t, d.ConsoleMaxBytes)
		used := d.Checkbox.Path
		if d.Checkbox.Source != "path" {
			used = d.Checkbox.Channel
		}
		for _, text := range append([]string{used, d.DefaultPlan, d.NormalUser}, d.Checkbox.ExtraPackages...) {
			require.False(t, hasControl(text) || strings.HasPrefix(text, "-"), "%q", text)
		}
	})
}
