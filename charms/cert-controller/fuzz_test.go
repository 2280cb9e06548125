package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/fuzztest"
	"certlab/internal/hooks"
)

// FuzzOptions: any values of the options become a desired state, or one line of status that names the option.
func FuzzOptions(f *testing.F) {
	seed := func(o options) []byte {
		text, err := json.Marshal(o)
		require.NoError(f, err)
		return text
	}
	good := options{Port: 8443, BindAddress: "10.0.0.1", ExternalURL: "https://lab.example.com", SiteName: "Lab", MinFreeSpace: 100, RetentionDays: 90, MaxSubmissionSize: 512, LogLevel: "info"}
	fuzztest.Run(f, 800, [][]byte{seed(good), seed(options{}), seed(options{Port: 1, LogLevel: "debug", BindAddress: "::"})}, func(t *testing.T, data []byte) {
		var o options
		if json.Unmarshal(data, &o) != nil {
			return
		}
		d, err := o.desired("model")
		if err != nil {
			var status hooks.Status
			require.ErrorAs(t, err, &status)
			require.Equal(t, "blocked", status.Name)
			fuzztest.Error(t, err)
			return
		}
		require.Positive(t, d.Port)
		require.Less(t, d.Port, 1<<16)
		require.False(t, strings.ContainsAny(d.SiteName+d.BindAddress+d.ExternalURL, "\n\x00"), "%+v", d)
	})
}
