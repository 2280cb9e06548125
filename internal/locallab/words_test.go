package locallab

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSplitWords(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"":                       nil,
		"a  b\tc":                {"a", "b", "c"},
		`"a b" 'c d'`:            {"a b", "c d"},
		`A="x y" B='"'`:          {"A=x y", `B="`},
		`a\ b \"c\" x\ny`:        {"a b", `"c"`, "x\ny"},
		`""`:                     {""},
		`/bin/sh -c 'echo "$X"'`: {"/bin/sh", "-c", `echo "$X"`},
	} {
		got, err := splitWords(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{`"a`, `'`, `a\`} {
		_, err := splitWords(text)
		require.Error(t, err, text)
	}
}

func TestExpandVariables(t *testing.T) {
	t.Parallel()
	env := []string{"ONE=1", "TWO=a b", "EMPTY="}
	got := expandVariables([]string{"$ONE", "$TWO", "${TWO}", "x${ONE}y", "$EMPTY", "${EMPTY}", "$$HOME", "$1", "a$ONE", "${none}"}, env)
	require.Equal(t, []string{"1", "a", "b", "a b", "x1y", "", "$HOME", "$1", "a$ONE", ""}, got)
}

func TestSpans(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"5": 5 * time.Second, "250ms": 250 * time.Millisecond, "1min 30s": 90 * time.Second, "0": 0, "infinity": 0, "1.5h": 90 * time.Minute,
	} {
		got := time.Hour
		require.NoError(t, setSpan(&got, text), text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "x", "5 parsecs", "-1", "99999999999"} {
		var got time.Duration
		require.Error(t, setSpan(&got, text), text)
	}
}

func TestUnitFile(t *testing.T) {
	t.Parallel()
	u := newUnitFile("web@one.service")
	require.NoError(t, u.parse(strings.NewReader(`# comment
[Unit]
Description=The %i of %p
After=a.service b.service
Unknown=key

[Service]
Type=exec
ExecStartPre=-/bin/rm -f /x
ExecStart=/bin/old
ExecStart=
ExecStart=@/bin/new argv0 \
  # a comment in between
  "two words" %%
Environment=A=1 "B=2 3"
Environment=C=4
EnvironmentFile=-/etc/x
Restart=on-failure
RestartSec=2min
TimeoutStopSec=infinity
KillMode=process
KillSignal=SIGINT
SuccessExitStatus=3 SIGKILL
OOMScoreAdjust=-1000
UMask=0077
[Install]
WantedBy=multi-user.target
`)))
	require.NoError(t, u.complete())
	require.Equal(t, "The one of web", u.description)
	require.Equal(t, []string{"a.service", "b.service"}, u.after)
	require.Equal(t, []execLine{{argv: []string{"/bin/new", "two words", "%"}}}, u.start)
	require.Equal(t, []execLine{{argv: []string{"/bin/rm", "-f", "/x"}, ignore: true}}, u.startPre)
	require.Equal(t, []string{"A=1", "B=2 3", "C=4"}, u.environment)
	require.Equal(t, []string{"-/etc/x"}, u.envFiles)
	require.Equal(t, 2*time.Minute, u.restartDelay)
	require.Zero(t, u.stopTimeout)
	require.Equal(t, syscall.SIGINT, u.killSignal)
	require.True(t, u.goodCodes[3] && u.goodSignals[syscall.SIGKILL])
	require.Equal(t, -1000, *u.oom)
	require.Equal(t, 0o077, u.umask)
	require.Equal(t, []string{"multi-user.target"}, u.wantedBy)

	for _, bad := range []string{
		"[Service]\nExecStart=/bin/x\nRestart=sometimes", "[Service]\nRestart=always", "[Service]\nExecStart=/bin/x\nExecStart=/bin/y",
		"[Service]\nType=forking\nExecStart=/bin/x", "[Service]\nno equals sign", "[Service]\nExecStart=/bin/x\nOOMScoreAdjust=5000",
		"[Service]\nType=oneshot\nExecStart=/bin/x\nRestart=always", "[Service]\nExecStart=/bin/x '",
	} {
		u := newUnitFile("bad.service")
		err := u.parse(strings.NewReader(bad))
		if err == nil {
			err = u.complete()
		}
		require.Error(t, err, bad)
	}
}

func TestShutdownTimes(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 23, 30, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{"now": 0, "+5": 5 * time.Minute, "+0": 0, "23:45": 15 * time.Minute, "00:30": time.Hour} {
		got, ok := shutdownDelay(text, now)
		require.True(t, ok, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"soon", "+x", "-5", "25:00"} {
		_, ok := shutdownDelay(text, now)
		require.False(t, ok, text)
	}
}

func TestSystemctlsRelatives(t *testing.T) {
	t.Parallel()
	for call, want := range map[string]string{
		"reboot": "reboot", "reboot -f": "reboot", "poweroff": "poweroff", "halt -p": "poweroff", "poweroff --reboot": "reboot", "shutdown -r now": "reboot --after=0s",
		"shutdown -h +1": "poweroff --after=1m0s", "shutdown": "poweroff --after=1m0s", "shutdown -c": "cancel", "systemctl is-active x": "is-active x",
	} {
		words := strings.Fields(call)
		got, ok := asSystemctl(words[0], words[1:])
		require.True(t, ok, call)
		require.Equal(t, want, strings.Join(got, " "), call)
	}
}

func TestMountinfo(t *testing.T) {
	t.Parallel()
	path, kind, ok := parseMountinfo(`36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`)
	require.True(t, ok)
	require.Equal(t, "/mnt 2", path)
	require.Equal(t, "ext3", kind)
	for _, line := range []string{"", "36 35 98:0 / /", "a b c d e f g - "} {
		_, _, ok := parseMountinfo(line)
		require.False(t, ok, line)
	}
}

func TestPlanBundle(t *testing.T) {
	t.Parallel()
	dir, charms := t.TempDir(), t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	require.NoError(t, os.WriteFile(filepath.Join(charms, "controller.charm"), nil, 0o600))
	bundle := write("bundle.yaml", "applications:\n  a: {charm: ./checkbox_amd64.charm}\n  b: {charm: ../x/checkbox.charm, options: {checkbox-source: deb}}\n  c: {charm: ./controller.charm}\n  d: {charm: ./checkbox.charm}\n")
	overlay := write("overlay.yaml", "applications:\n  d: {options: {checkbox-path: /mine}}\n---\napplications:\n  e: {charm: ./other.charm}\n")
	plan, err := PlanBundle(bundle, []string{overlay}, charms, "/opt/checkbox-cli", "")
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b", "c", "d", "e"}, plan.Applications)
	require.YAMLEq(t, "applications:\n  a: {options: {checkbox-source: path, checkbox-path: /opt/checkbox-cli}}\n  c: {charm: "+filepath.Join(charms, "controller.charm")+"}\n",
		string(plan.Overlay))
	plan, err = PlanBundle(write("plain.yaml", "applications:\n  c: {charm: ./controller.charm}\n"), nil, "", "/opt/checkbox-cli", "")
	require.NoError(t, err)
	require.Empty(t, plan.Overlay)
	controller := write("controller.yaml", "applications:\n  c: {charm: ./cert-controller.charm}\n  o: {charm: ./cert-controller.charm, resources: {site-programs: ./own.tar.gz}, options: {deployed-checkbox-source: snap}}\n")
	plan, err = PlanBundle(controller, nil, "", "/opt/checkbox-cli", "/lab/site.tar.gz")
	require.NoError(t, err)
	require.YAMLEq(t, "applications: {c: {options: {deployed-checkbox-source: path, deployed-checkbox-path: /opt/checkbox-cli}, resources: {site-programs: /lab/site.tar.gz}}}", string(plan.Overlay))
	_, err = PlanBundle(write("bad.yaml", "applications: [\n"), nil, "", "", "")
	require.ErrorContains(t, err, "cannot read bundle")
	_, err = PlanBundle(filepath.Join(dir, "none"), nil, "", "", "")
	require.ErrorContains(t, err, "cannot read bundle")
}

func TestFindCheckbox(t *testing.T) {
	t.Parallel()
	none := func(string) string { return "" }
	dir := t.TempDir()
	path := filepath.Join(dir, ".venv", "bin", "checkbox-cli")
	deep := filepath.Join(dir, "bundles", "deep")
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.MkdirAll(deep, 0o700))
	got, err := FindCheckbox("", none, deep)
	require.NoError(t, err)
	require.Empty(t, got)
	require.NoError(t, os.WriteFile(path, nil, 0o700))
	for _, from := range []string{dir, deep} {
		got, err = FindCheckbox("", none, from)
		require.NoError(t, err)
		require.Equal(t, path, got)
	}
	got, err = FindCheckbox("", func(string) string { return path }, "/")
	require.NoError(t, err)
	require.Equal(t, path, got)
	_, err = FindCheckbox("/no/such/checkbox-cli", none, deep)
	require.ErrorContains(t, err, "cannot use Checkbox")

	require.NoError(t, os.WriteFile(filepath.Join(dir, ".venv", "pyvenv.cfg"), nil, 0o600))
	require.Equal(t, filepath.Join(dir, ".venv"), checkboxRoot(path))
	require.Empty(t, checkboxRoot("/usr/bin/env"))
	require.Empty(t, checkboxRoot(""))
}

func TestDefaultDir(t *testing.T) {
	t.Parallel()
	env := func(values ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(values); i += 2 {
				if values[i] == name {
					return values[i+1]
				}
			}
			return ""
		}
	}
	for want, values := range map[string][]string{
		"/x":                             {"CERTLAB_LAB", "/x", "HOME", "/h"},
		"/s/certlab/lab":                 {"XDG_STATE_HOME", "/s", "HOME", "/h"},
		"/h/.local/state/certlab/lab":    {"HOME", "/h"},
		"/home/.local/state/certlab/lab": {"XDG_STATE_HOME", "relative", "HOME", "/home"},
	} {
		got, err := DefaultDir(env(values...))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := DefaultDir(env())
	require.ErrorContains(t, err, "--dir")
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	l := &Lab{settings: settings{Number: 7}}
	require.Equal(t, "127.77.7.11", l.address("0"))
	require.Equal(t, "127.77.7.14", l.address("3"))
	seen := map[string]bool{}
	for i := range 1000 {
		address := l.address(strings.TrimSpace(string(rune('0'+i/100)) + string(rune('0'+i/10%10)) + string(rune('0'+i%10))))
		require.False(t, seen[address], address)
		seen[address] = true
	}
}
