package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/hooks/hookstest"
	"certlab/internal/order"
)

// secretValue stands where a secret may be put by mistake.
const secretValue = "hunter2-is-a-secret"

func malformedOptions() map[string]hookstest.Malformed {
	number := func(name string) hookstest.Malformed {
		return hookstest.Malformed{Message: `^set ` + name + ` to a number from 1 to \d+ \(it is -?\d+\)$`}
	}
	return map[string]hookstest.Malformed{
		"checkbox-source": {Message: `^set checkbox-source to snap, deb or path \(it is ".*"(… \(\d+ bytes\))?\)$`,
			More: map[string]string{"ppa": `set checkbox-source to snap, deb or path (it is "ppa")`}},
		"checkbox-channel": {Message: `^set checkbox-channel to a snap's channel, such as 24.04/stable, or reset it \(checkbox-source is snap, and it is ".*"(… \(\d+ bytes\))?\)$`,
			Accepts: []string{"empty", "space", "unit"}},
		"checkbox-path": {With: map[string]string{"checkbox-source": "path"},
			Message: `^set checkbox-path to the absolute path of checkbox-cli, such as /usr/bin/checkbox-cli \(checkbox-source is path, and it is ".*"(… \(\d+ bytes\))?\)$`,
			More:    map[string]string{"/usr/../bin/x": "set checkbox-path to the absolute path of checkbox-cli", "/a\x00b": "set checkbox-path to the absolute path"}},
		"extra-packages": {Message: `^set extra-packages to names of Debian packages, separated by spaces \(number \d is ".*"(… \(\d+ bytes\))?\)$`,
			Accepts: []string{"empty", "space"},
			More: map[string]string{"good --purge": `set extra-packages to names of Debian packages, separated by spaces (number 2 is "--purge")`,
				strings.Repeat("aa ", 501): "set extra-packages to at most 500 names of Debian packages (it has 501)"}},
		"default-plan": {Message: `^set default-plan to a plan's full id, such as com.canonical.certification::sru, or reset it \(it is ".*"(… \(\d+ bytes\))?\)$`,
			Accepts: []string{"empty", "space"}},
		"timeout": number("timeout"), "silence-timeout": number("silence-timeout"), "console-limit": number("console-limit"),
		"session-limit": number("session-limit"), "max-boots": number("max-boots"),
		"normal-user": {Message: `^set normal-user to the name of a user, or reset it \(it is ".*"(… \(\d+ bytes\))?\)$`, Accepts: []string{"empty", "space"},
			More: map[string]string{"-root": `set normal-user to the name of a user, or reset it (it is "-root")`}},
		"environment": {Message: `^set environment to NAME=value, one per line: environment, line \d: want NAME=value$`, Accepts: []string{"empty", "space"},
			More: map[string]string{
				"A=1\n" + secretValue:               "environment, line 2: want NAME=value",
				"A=1\n\nA=" + secretValue:           "environment, line 3: A is there twice",
				"A=" + secretValue + "\x01":         "environment, line 1: the value of A has a control character or is not UTF-8",
				"A=" + strings.Repeat("x", 40<<10):  "environment, line 1: the value of A has more than 32768 bytes",
				strings.Repeat("x", 300) + "=1":     "environment, line 1: ",
				manyVariables(20, 32<<10):           "environment, line 16: more than 512 KiB in all",
				manyVariables(501, 1):               "environment, line 501: more than 500 assignments",
				"A=1\n$(reboot)=" + secretValue:     "environment, line 2: want NAME=value",
				"LD_PRELOAD;reboot=" + secretValue:  "environment, line 1: want NAME=value",
				"A=1\nB=2\x00" + secretValue + "\n": "environment, line 2: the value of B has a control character",
			}},
		"secret-environment": {}, // TestASecretReachesTheAgentInAPrivateFileOnly, TestFaultASecretThatIsNotThereIsSaid
		"manifest": {Message: `^set manifest to id=value, one per line: manifest, line \d: want the entry's full id and a value, such as com.canonical.certification::has_camera=true$`,
			Accepts: []string{"empty", "space"},
			More: map[string]string{
				"has_camera=true": "manifest, line 1: want the entry's full id and a value, such as com.canonical.certification::has_camera=true",
				"a::b=":           "manifest, line 1: a::b has no value",
			}},
	}
}

func manyVariables(n, size int) string {
	var all strings.Builder
	for i := range n {
		all.WriteString("A" + strings.Repeat("B", i) + "=" + strings.Repeat("x", size) + "\n")
		if i > 100 {
			all.Reset()
			for j := range n {
				all.WriteString("A" + string(rune('A'+j%26)) + string(rune('A'+j/26)) + "=x\n")
			}
			break
		}
	}
	return all.String()
}

func TestFaultMalformedOptionsAreBlockedAndLeaveTheAgentAlone(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.Fire("config-changed").RequireStatus("active", "idle, checkbox 7.3.0, on its own")
	good := l.desired()
	l.CheckMalformedOptions(malformedOptions(), func(about string) {
		require.Equal(t, good, l.desired(), about)
		for _, line := range l.State().Log {
			require.NotContains(t, line.Message, secretValue, about)
		}
		require.NotContains(t, l.State().Units["checkbox/0"].Workload.Message, secretValue, about)
	})
	l.Fire("config-changed").RequireStatus("active", "idle, checkbox 7.3.0, on its own")
	require.Equal(t, good, l.desired())
}

func TestFaultASecretThatIsNotThereIsSaid(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.Fire("config-changed").RequireStatus("active", "idle, checkbox 7.3.0, on its own")
	l.WithConfig(map[string]string{"secret-environment": "secret:cqsvgi5lba75jtcm5ehg"})
	r := l.Fire("config-changed")
	require.Equal(t, "blocked", r.Status().Name)
	require.Contains(t, r.Status().Message, "secret-environment")
	require.Contains(t, r.Status().Message, "cqsvgi5lba75jtcm5ehg")
	require.Empty(t, l.desired().SecretEnvFile)
}

func malformedParams() map[string]hookstest.Malformed {
	run := hookstest.Malformed{Message: `^cannot find run ".*"(… \(\d+ bytes\))?: want a run's id, as run-suite has given it, or last$`, Accepts: []string{"empty", "space", "unit"}}
	expression := func(name string) hookstest.Malformed {
		return hookstest.Malformed{Message: `^cannot use ` + name + ` ".*"(… \(\d+ bytes\))?: want one line of at most 1000 bytes$`,
			// Expressions are Checkbox's to judge.
			Accepts: []string{"empty", "space", "negative", "newline", "unit", "command", "more commands", "backticks", "flag", "path upwards", "quote"}}
	}
	line := func(name, most string) hookstest.Malformed {
		return hookstest.Malformed{Message: `^cannot use ` + name + ` ".*"(… \(\d+ bytes\))?: want one line of at most ` + most + ` bytes$`,
			Accepts: []string{"empty", "negative", "unit", "command", "more commands", "backticks", "flag", "path upwards", "quote"}}
	}
	return map[string]hookstest.Malformed{
		"run-suite plan":    {Message: `^(cannot run plan ".*"(… \(\d+ bytes\))?: want a full id, such as com.canonical.certlab::preflight \(see list-suites\)|cannot tell which plan to run: give plan=ID .*)$`},
		"run-suite exclude": expression("exclude"), "run-suite match": expression("match"),
		"run-suite environment": {Message: `^cannot use this environment: environment, line \d: want NAME=value \(separate the assignments by commas\)$`, Accepts: []string{"empty", "space"}},
		"run-suite title":       line("title", "200"),
		"list-suites filter":    line("filter", "1000"),
		"show-run run":          run, "cancel-run run": run, "rerun-failed run": run,
	}
}

func TestFaultMalformedParametersAreSaid(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.Fire("config-changed").RequireSuccess()
	l.agent(func(s *order.AgentStatus) { s.Current = &order.Run{Report: order.Report{Run: "r1"}} })
	l.anything = func(method, path string) (int, any) {
		if strings.HasPrefix(path, "/v1/plans?filter=") {
			return http.StatusOK, []order.Suite{}
		}
		return http.StatusOK, completed()
	}
	wait := map[string]any{"wait": 0}
	l.CheckMalformedParams(map[string]map[string]any{
		"run-suite": params(map[string]any{"plan": preflightPlan, "wait": 0}), "preflight": wait, "rerun-failed": {"run": "r1", "wait": 0},
		"list-suites": {"filter": ""}, "show-run": {"run": "r1"}, "cancel-run": {"run": "r1"},
	}, malformedParams())
	for _, r := range l.asked() {
		require.Regexp(t, `^/v1/(runs(/[A-Za-z0-9]+(/cancel|/rerun-failed)?)?|plans\?filter=[^&#]*)$`, r.Path)
	}
}

// What an operator cannot type, a package of options or a machine's disk can hold.
func TestFaultDamagedFilesOfTheCharmsAreMadeAnew(t *testing.T) {
	t.Parallel()
	l, _ := related(t)
	l.Fire("config-changed").RequireStatus("active", "idle, checkbox 7.3.0, enrolled")
	good := l.desired()
	for _, name := range []string{"agent/desired.json", "relation.json", "resource.json", "applied.json", "bin/copied.json"} {
		for _, damage := range []string{"", "{", "\x00\x00\x00\x00", `{"id":1}`, "[]"} {
			require.NoError(t, os.WriteFile(filepath.Join(l.base, name), []byte(damage), 0o600))
			l.Fire("config-changed").RequireStatus("active", "idle, checkbox 7.3.0, enrolled")
			require.Equal(t, good, l.desired(), "%s was %q", name, damage)
		}
	}
}
