package checkbox

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestJobsThatSleepAnnounceTheirSilence(t *testing.T) {
	t.Parallel()
	environment := map[string]string{"STRESS_BOOT_WAKEUP_DELAY": "3600", "STRESS_S3_SLEEP_DELAY": "60", "STRESS_S4_SLEEP_DELAY": "soon"}
	for _, test := range []struct {
		id, plugin, flags string
		want              time.Duration
	}{
		{"com.canonical.certification::cold-boot-loop-reboot3", "shell", "preserve-locale noreturn autorestart", 30*time.Minute + time.Hour + 2*time.Minute},
		{"com.canonical.certification::warm-boot-loop-reboot1", "shell", "noreturn", 32 * time.Minute},
		{"com.canonical.certification::cold-boot-loop-test3", "shell", "preserve-locale", 0},
		{"com.canonical.certification::stress-tests/suspend_30_cycles", "shell", "", 10*time.Minute + 30*105*time.Second},
		{"com.canonical.certification::stress-tests/suspend-30-cycles-log-check", "shell", "", 0},
		{"com.canonical.certification::stress-tests/suspend-30-cycles-log-attach", "attachment", "", 0},
		{"com.canonical.certification::stress-tests/hibernate_2_cycles", "shell", "", 30*time.Minute + 2*(120+45+180)*time.Second},
		{"com.canonical.certification::stress-tests/suspend_cycles_2_reboot1", "shell", "", 10*time.Minute + 105*time.Second},
		{"com.canonical.certification::stress-tests/suspend_cycles_reboot1", "shell", "noreturn autorestart", 30 * time.Minute},
		{"com.canonical.certification::suspend/suspend_advanced_auto", "shell", "", 10*time.Minute + 105*time.Second},
		{"com.canonical.certification::suspend/network_before_suspend", "shell", "", 0},
		{"com.canonical.certification::after-suspend-audio/playback_auto", "shell", "", 0},
		{"com.canonical.certification::power-management/poweroff", "shell", "noreturn", 32 * time.Minute},
		{"com.canonical.certlab::suspend", "shell", "noreturn", time.Minute},
		{"com.canonical.certification::suspend", "shell", "noreturn", 30 * time.Minute},
		{"com.example::something", "shell", "noreturn", 30 * time.Minute},
		{"com.canonical.certification::disk/stats", "shell", "", 0},
		{"com.canonical.certification::stress_s3_iterations", "resource", "", 0},
	} {
		got := Quiet(Job{ID: test.id, Plugin: test.plugin, Flags: splitFlags(test.flags)}, func(name string) string { return environment[name] })
		require.Equal(t, test.want, got, test.id)
	}
}
