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
	good := options{Port: 8443, BindAddress: "10.0.0.1", ExternalURL: "https://lab.example.com", SiteName: "Lab", MinFreeSpace: 100, RetentionDays: 90, MaxSubmissionSize: 512, LogLevel: "info",
		MAASPools: "lab, big iron", MAASProtectedPools: "customers", MAASQuarantinePool: "broken", MAASQuarantineTag: "certlab-quarantine", MAASErase: "customers=full, quick",
		DefaultRelease: "noble", MaxReservationHours: 72, MaxExtensions: 10, MaxMachinesPerPerson: 10, ReminderMinutes: 30, SilenceMinutes: 15, PowerCycles: 3, QuarantineAfter: 3,
		FleetLimits: "boot-minutes: 30\nmax-tries: 5\n", WebhookURL: "https://chat.example.com/?a=b", APTMirror: "http://mirror.lab/ubuntu",
		DeployedCheckboxSource: "snap", DeployedCheckboxChannel: "24.04/stable"}
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
		f := d.Fleet
		texts := []string{d.SiteName, d.BindAddress, d.ExternalURL, f.MAAS.QuarantinePool, f.MAAS.QuarantineTag, f.Limits.Release, f.Webhook.URL, f.Mirror, f.Checkbox.Channel}
		texts = append(append(append(texts, f.MAAS.Pools...), f.MAAS.ProtectedPools...), f.Checkbox.ExtraPackages...)
		require.False(t, strings.ContainsAny(strings.Join(texts, ""), "\n\x00"), "%+v", d)
		require.Positive(t, f.Limits.MaxHours)
		require.GreaterOrEqual(t, f.Limits.BootMinutes, 0)
	})
}

// FuzzCredentials: whatever a secret has, it is a region and a key, or a sentence that shows nothing of the key.
func FuzzCredentials(f *testing.F) {
	seeds := [][]byte{[]byte(region + "\n" + firstKey + "\n"), []byte("https://maas.lab/MAAS/api/2.0/\na:b:c\n-----BEGIN CERTIFICATE-----"), []byte("http://[::1]:5240/MAAS\na:b\n")}
	fuzztest.Run(f, 800, seeds, func(t *testing.T, data []byte) {
		url, rest, _ := strings.Cut(string(data), "\n")
		key, ca, _ := strings.Cut(rest, "\n")
		c, p := checkCredentials(url, key, ca)
		if p != "" {
			require.Zero(t, c)
			fuzztest.Error(t, hooks.Blocked("%s", p))
			if key = strings.TrimSpace(key); len(key) > 5 && strings.Count(key, ":") < 2 {
				require.NotContains(t, strings.ReplaceAll(string(p), "such as "+exampleURL, ""), key)
			}
			return
		}
		require.True(t, strings.HasSuffix(c.url, "/MAAS"), c.url)
		require.NotContains(t, c.url+c.key, "\n")
		require.Equal(t, 2, strings.Count(c.key, ":"))
	})
}
