package locallab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// writeUnit puts a unit file on the machine.
func writeUnit(t *testing.T, m *Machine, name, text string) {
	mustSh(t, m, fmt.Sprintf("mkdir -p /etc/systemd/system && cat > /etc/systemd/system/%s <<'END'\n%s\nEND", name, text))
}

func eventually(t *testing.T, what string, is func() bool) {
	require.Eventually(t, is, testTimeout, 10*time.Millisecond, what)
}

const loopUnit = `[Unit]
Description=A loop
[Service]
ExecStart=/bin/sh -c 'echo "start $WORD" >> /var/tmp/log; exec sleep 1000'
Environment="WORD=two words"
Restart=always
RestartSec=20ms
[Install]
WantedBy=multi-user.target`

func TestEnabledServiceStartsAtBootAndIsRestarted(t *testing.T) {
	t.Parallel()
	m := bootTestMachine(t, nil)
	writeUnit(t, m, "certlab-x.service", loopUnit)
	mustSh(t, m, "systemctl daemon-reload && systemctl enable --now certlab-x.service")
	eventually(t, "the service runs", func() bool { out, _ := sh(t, m, "cat /var/tmp/log"); return out == "start two words" })
	require.Equal(t, "active", mustSh(t, m, "systemctl is-active certlab-x"))
	require.Equal(t, "enabled", mustSh(t, m, "systemctl is-enabled certlab-x"))

	first := mustSh(t, m, "systemctl show -p MainPID --value certlab-x")
	mustSh(t, m, "kill -9 "+first)
	eventually(t, "it runs again", func() bool {
		pid := mustSh(t, m, "systemctl show -p MainPID --value certlab-x")
		return pid != "0" && pid != first
	})
	require.Equal(t, "1", mustSh(t, m, "systemctl show -P NRestarts certlab-x"))

	require.NoError(t, m.Reboot(testContext(t)))
	eventually(t, "it runs after a reboot", func() bool { out, _ := sh(t, m, "systemctl is-active certlab-x"); return out == "active" })
	m.Kill()
	require.NoError(t, m.Boot(testContext(t)))
	eventually(t, "it runs after a power cut", func() bool { out, _ := sh(t, m, "systemctl is-active certlab-x"); return out == "active" })

	mustSh(t, m, "systemctl disable --now certlab-x")
	require.Equal(t, "inactive", func() string {
		out, code := sh(t, m, "systemctl is-active certlab-x")
		require.Equal(t, 3, code)
		return out
	}())
	require.NoError(t, m.Reboot(testContext(t)))
	_, code := sh(t, m, "systemctl is-active certlab-x")
	require.Equal(t, 3, code)
}

func TestHostsServicesDoNotStart(t *testing.T) {
	t.Parallel()
	m := bootTestMachine(t, nil)
	require.Empty(t, mustSh(t, m, "ls /etc/systemd/system; systemctl list-units --no-legend"))
}

// TestKillModes has a service that starts a helper in a session of its own.
func TestKillModes(t *testing.T) {
	t.Parallel()
	for mode, helper := range map[string]bool{"process": true, "control-group": false, "mixed": false} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			m := bootTestMachine(t, nil)
			writeUnit(t, m, "k.service", "[Service]\nExecStart=/bin/sh -c 'setsid sleep 999 & exec sleep 1000'\nKillMode="+mode)
			mustSh(t, m, "systemctl start k")
			eventually(t, "both run", func() bool { out, _ := sh(t, m, "pgrep -c -x sleep"); return out == "2" })
			mustSh(t, m, "systemctl stop k")
			out, _ := sh(t, m, "pgrep -af 's[l]eep 999'")
			require.Equal(t, helper, strings.Contains(out, "sleep 999"), out)
		})
	}
}

func TestRestartPolicies(t *testing.T) {
	t.Parallel()
	m := bootTestMachine(t, nil)
	for i, test := range []struct {
		policy, end string
		again       bool
	}{
		{"no", "exit 1", false},
		{"always", "exit 0", true},
		{"on-success", "exit 0", true},
		{"on-success", "exit 1", false},
		{"on-failure", "exit 0", false},
		{"on-failure", "exit 1", true},
		{"on-failure", "kill -KILL $$$$", true},
		{"on-abnormal", "exit 1", false},
		{"on-abnormal", "kill -KILL $$$$", true},
	} {
		name := fmt.Sprintf("r%d-%s", i, test.policy)
		mark := "/var/tmp/" + name
		// Only the first time ends; the second one stays.
		writeUnit(t, m, name+".service", fmt.Sprintf("[Service]\nRestart=%s\nRestartSec=10ms\nExecStart=/bin/sh -c 'echo x >> %s; "+
			"test $$(wc -l < %s) -gt 1 && exec sleep 1000; %s'", test.policy, mark, mark, test.end))
		mustSh(t, m, "systemctl start "+name)
		if test.again {
			eventually(t, name+" starts again", func() bool { out, _ := sh(t, m, "wc -l < "+mark); return out == "2" })
			require.Equal(t, "active", mustSh(t, m, "systemctl is-active "+name))
			continue
		}
		eventually(t, name+" has ended", func() bool {
			out, _ := sh(t, m, "systemctl is-active "+name)
			return out == "failed" || out == "inactive"
		})
		require.Equal(t, "1", mustSh(t, m, "wc -l < "+mark))
	}
}

func TestServiceThatKeepsFailingIsGivenUp(t *testing.T) {
	t.Parallel()
	m := bootTestMachine(t, nil)
	writeUnit(t, m, "bad.service", "[Service]\nExecStart=/bin/false\nRestart=always\nRestartSec=1ms")
	mustSh(t, m, "systemctl start bad")
	eventually(t, "it is given up", func() bool { out, _ := sh(t, m, "systemctl show -P Result bad"); return out == "start-limit-hit" })
	require.Equal(t, "failed", mustSh(t, m, "systemctl is-failed bad"))
	_, code := sh(t, m, "systemctl start bad")
	require.Equal(t, 1, code)
	mustSh(t, m, "systemctl reset-failed bad && systemctl start bad")
}

func TestOneshot(t *testing.T) {
	t.Parallel()
	m := bootTestMachine(t, nil)
	writeUnit(t, m, "good.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'echo 1 > /var/tmp/o'\nExecStart=/bin/sh -c 'echo 2 >> /var/tmp/o'")
	mustSh(t, m, "systemctl start good && systemctl is-active good")
	require.Equal(t, "1\n2", mustSh(t, m, "cat /var/tmp/o"))
	writeUnit(t, m, "bad.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'exit 4'")
	out, code := sh(t, m, "systemctl start bad")
	require.Equal(t, 1, code)
	require.Contains(t, out, "Job for bad.service failed because the control process exited with error code.")
	require.Equal(t, "4", mustSh(t, m, "systemctl show -P ExecMainStatus bad"))
}

func TestServiceGetsWhatItsUnitSays(t *testing.T) {
	t.Parallel()
	m := bootTestMachine(t, nil)
	mustSh(t, m, `printf '# comment\nFROM_FILE="a b"\nWORD=file\n' > /etc/x.env`)
	user := "nobody"
	if rootless() {
		user = "root"
	}
	writeUnit(t, m, "env@.service", `[Service]
User=`+user+`
WorkingDirectory=/usr
Environment=WORD=unit ONE=1 \
  "TWO=2 2"
EnvironmentFile=/etc/x.env
EnvironmentFile=-/etc/none.env
OOMScoreAdjust=300
StandardOutput=append:/var/tmp/out
ExecStart=/bin/sh -c 'id -un; pwd; echo $WORD; echo ${ONE} "$TWO" $FROM_FILE %i; cat /proc/self/oom_score_adj; echo $PATH; exec sleep 1000'`)
	mustSh(t, m, "systemctl start env@inst")
	eventually(t, "it has printed", func() bool { out, _ := sh(t, m, "wc -l < /var/tmp/out"); return out == "6" })
	require.Equal(t, user+"\n/usr\nfile\n1 2 2 a b inst\n300\n"+defaultPath, mustSh(t, m, "cat /var/tmp/out"))
}

// TestSystemctlAnswers has the exit codes and words of systemctl(1).
func TestSystemctlAnswers(t *testing.T) {
	t.Parallel()
	m := bootTestMachine(t, nil)
	writeUnit(t, m, "one.service", loopUnit)
	writeUnit(t, m, "static.service", "[Service]\nExecStart=/bin/true")
	for _, test := range []struct {
		command string
		code    int
		out     string
	}{
		{"systemctl is-active one", 3, "inactive"},
		{"systemctl is-active none", 4, "inactive"},
		{"systemctl is-active -q one", 3, ""},
		{"systemctl is-enabled one", 1, "disabled"},
		{"systemctl is-enabled static", 0, "static"},
		{"systemctl is-enabled none", 1, "Failed to get unit file state for none.service: No such file or directory"},
		{"systemctl start none", 5, "Failed to start none.service: Unit none.service not found."},
		{"systemctl stop none", 5, "Failed to stop none.service: Unit none.service not loaded."},
		{"systemctl enable none", 1, "Failed to enable unit: Unit file none.service does not exist."},
		{"systemctl status none", 4, "Unit none.service could not be found."},
		{"systemctl enable one", 0, "Created symlink /etc/systemd/system/multi-user.target.wants/one.service → /etc/systemd/system/one.service."},
		{"systemctl enable one", 0, ""},
		{"systemctl start one", 0, ""},
		{"systemctl start one", 0, ""},
		{"systemctl --no-pager is-active one none", 0, "active\ninactive"},
		{"systemctl is-failed one", 1, "active"},
		{"systemctl show one -p LoadState,ActiveState --property=SubState", 0, "LoadState=loaded\nActiveState=active\nSubState=running"},
		{"systemctl show none -p LoadState --value", 0, "not-found"},
		{"systemctl try-restart static", 0, ""},
		{"systemctl is-active static", 3, "inactive"},
		{"systemctl reload one", 1, "Failed to reload one.service: job type reload is not applicable for unit one.service."},
		{"systemctl restart one", 0, ""},
		{"systemctl kill -s USR1 none", 5, "Failed to kill none.service: Unit none.service not found."},
		{"systemctl stop one", 0, ""},
		{"systemctl status one >/dev/null", 3, ""},
		{"systemctl disable one", 0, `Removed "/etc/systemd/system/multi-user.target.wants/one.service".`},
		{"systemctl mask absent", 0, "Unit absent.service does not exist, proceeding anyway.\nCreated symlink /etc/systemd/system/absent.service → /dev/null."},
		{"systemctl is-enabled absent", 1, "masked"},
		{"systemctl start absent", 1, "Failed to start absent.service: Unit absent.service is masked."},
		{"systemctl unmask absent", 0, `Removed "/etc/systemd/system/absent.service".`},
		{"systemctl frobnicate", 1, "Unknown command verb frobnicate, on a machine of Certlab's local lab."},
		{"systemctl start", 1, "Too few arguments."},
		{"systemctl is-system-running", 0, "running"},
		{"setpriv --reuid 65534 --clear-groups systemctl start one", 1, "Interactive authentication required."},
		{"setpriv --reuid 65534 --clear-groups systemctl is-active one", 3, "inactive"},
	} {
		if strings.HasPrefix(test.command, "setpriv") && rootless() {
			continue // there is no other user
		}
		out, code := sh(t, m, test.command)
		require.Equal(t, test.code, code, "%s\n%s", test.command, out)
		require.Equal(t, test.out, out, test.command)
	}
}

func TestStopTimesOutAndKills(t *testing.T) {
	t.Parallel()
	m := bootTestMachine(t, nil)
	writeUnit(t, m, "deaf.service", "[Service]\nTimeoutStopSec=50ms\nExecStart=/bin/sh -c 'trap \"\" TERM; echo up > /var/tmp/up; while :; do sleep 1; done'")
	mustSh(t, m, "systemctl start deaf")
	eventually(t, "it is deaf", func() bool { _, code := sh(t, m, "test -e /var/tmp/up"); return code == 0 })
	mustSh(t, m, "systemctl stop deaf")
	require.Equal(t, "timeout", mustSh(t, m, "systemctl show -P Result deaf"))
}

func TestOutputOfServiceIsKeptByTheLab(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	m := bootTestMachine(t, func(s *Spec) { s.Dir = dir })
	writeUnit(t, m, "say.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo out; echo err >&2'")
	mustSh(t, m, "systemctl start say")
	data, err := os.ReadFile(filepath.Join(dir, "log", "say.service.log"))
	require.NoError(t, err)
	require.Equal(t, "out\nerr\n", string(data))
}

// TestOrphansAreReaped leaves processes behind that only process 1 can collect.
func TestOrphansAreReaped(t *testing.T) {
	t.Parallel()
	m := bootTestMachine(t, nil)
	mustSh(t, m, "for i in 1 2 3 4 5 6 7 8; do (sleep 0.01 &) ; done")
	eventually(t, "no zombies", func() bool {
		out, _ := sh(t, m, "grep -l '^State:.Z' /proc/[0-9]*/status; pgrep -x sleep")
		return out == ""
	})
}

func TestServicesStartInOrder(t *testing.T) {
	t.Parallel()
	m := bootTestMachine(t, nil)
	unit := func(name, after string) {
		writeUnit(t, m, name+".service", "[Unit]\nAfter="+after+"\n[Service]\nType=oneshot\nExecStart=/bin/sh -c 'sleep 0.0"+
			map[string]string{"a": "1", "b": "3", "c": "5"}[name]+"; echo "+name+" >> /var/tmp/order'\n[Install]\nWantedBy=multi-user.target")
		mustSh(t, m, "systemctl enable "+name)
	}
	unit("a", "b.service")
	unit("b", "c.service network.target")
	unit("c", "")
	require.NoError(t, m.Reboot(testContext(t)))
	eventually(t, "all ran", func() bool { out, _ := sh(t, m, "cat /var/tmp/order"); return out == "c\nb\na" })
}
