package locallab

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A testLab is a lab with a process of its own, as a person has it.
type testLab struct {
	t   *testing.T
	dir string
}

// newTestLab starts an empty lab. At the end it is ended, and nothing of it may be left.
func newTestLab(t *testing.T) *testLab { return newTestLabWith(t, Options{}) }

func newTestLabWith(t *testing.T, options Options) *testLab {
	newTestRack(t).Close() // or skip
	l := &testLab{t: t, dir: filepath.Join(tempDir(t), "lab")}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(labLog(l.dir))
			t.Logf("the lab's log:\n%s", log)
			out, _ := l.juju("status")
			t.Logf("status:\n%s", out)
		}
		_, err := l.client(nil, nil).Down(context.Background())
		require.NoError(t, err)
		require.Empty(t, l.leftovers())
		require.NoError(t, l.client(nil, nil).Destroy())
		require.NoDirExists(t, l.dir)
	})
	l.upWith(options)
	return l
}

func (l *testLab) client(out, errs *bytes.Buffer) Client {
	c := Client{Dir: l.dir}
	if out != nil {
		c.Stdout, c.Stderr = out, errs
	}
	return c
}

func (l *testLab) up() { l.upWith(Options{}) }

func (l *testLab) upWith(options Options) {
	started, err := l.client(nil, nil).Start(testContext(l.t), options)
	require.NoError(l.t, err)
	require.True(l.t, started)
}

func (l *testLab) call(call Call) (string, int) {
	l.t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	code, err := l.client(&out, &errs).Call(ctx, call)
	if err != nil {
		fmt.Fprintln(&errs, err)
	}
	return strings.TrimSpace(out.String() + errs.String()), code
}

func (l *testLab) must(call Call) string {
	l.t.Helper()
	out, code := l.call(call)
	require.Zero(l.t, code, "%v\n%s", call, out)
	return out
}

func (l *testLab) juju(args ...string) (string, int) {
	return l.call(Call{Op: "juju", Args: args, Dir: "/"})
}

func (l *testLab) mustJuju(args ...string) string {
	l.t.Helper()
	return l.must(Call{Op: "juju", Args: args, Dir: "/"})
}

func (l *testLab) settle() { l.t.Helper(); l.must(Call{Op: "settle", Timeout: testTimeout}) }

func (l *testLab) on(machine, script string) string {
	l.t.Helper()
	return l.must(Call{Op: "exec", Target: machine, Args: []string{"/bin/sh", "-c", script}})
}

// processes are those of the lab's machines and of the lab itself: all that see something mounted from its directory, or were started
// with its name.
func (l *testLab) processes() []int {
	entries, err := os.ReadDir("/proc")
	require.NoError(l.t, err)
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		mounts, _ := os.ReadFile(filepath.Join("/proc", entry.Name(), "mountinfo"))
		cmdline, _ := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if bytes.Contains(mounts, []byte(l.dir)) || bytes.Contains(cmdline, []byte(l.dir)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// leftovers are the processes and mounts that the lab has outside of its directory.
func (l *testLab) leftovers() []string {
	var left []string
	for _, pid := range l.processes() {
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		left = append(left, fmt.Sprintf("process %d %q", pid, cmdline))
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(l.t, err)
	for line := range strings.SplitSeq(string(mounts), "\n") {
		if strings.Contains(line, l.dir) {
			left = append(left, line)
		}
	}
	return left
}

// killProcess ends the lab's process as kill -9 does.
func (l *testLab) killProcess() {
	for _, pid := range l.processes() {
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if bytes.HasPrefix(cmdline, []byte(appletDaemon)) {
			require.NoError(l.t, syscall.Kill(pid, syscall.SIGKILL))
			return
		}
	}
	l.t.Fatal("the lab has no process")
}

// testCharm is a charm that writes down what it is told of, and has a service that its unit file keeps running.
var testCharm = map[string]string{
	"metadata.yaml": "name: probe\nsummary: s\ndescription: d\nstorage:\n  data: {type: filesystem, location: /srv/data, minimum-size: 1M}\n" +
		"peers:\n  friends: {interface: probe}\nresources:\n  tool: {type: file, filename: tool.txt}\n",
	"manifest.yaml": "bases: [{name: ubuntu, channel: \"24.04\", architectures: [amd64, arm64]}]\n",
	"config.yaml":   "options:\n  word: {type: string, default: none, description: d}\n",
	"actions.yaml":  "hello:\n  description: d\n  additionalProperties: false\n  params:\n    sleep: {type: integer, default: 0, description: d}\n",
	"dispatch": `#!/bin/sh
set -e
echo "${JUJU_HOOK_NAME:-$JUJU_ACTION_NAME} $(cat /proc/sys/kernel/random/boot_id | head -c 8)" >> /var/tmp/told
case $JUJU_DISPATCH_PATH in
hooks/install)
	printf '[Service]\nExecStart=/bin/sleep 100000\nRestart=always\nKillMode=process\n[Install]\nWantedBy=multi-user.target\n' > /etc/systemd/system/probe.service
	systemctl daemon-reload
	systemctl enable --now probe.service ;;
hooks/start) status-set active "$(config-get word) on $(uname -n)" ;;
hooks/config-changed) status-set active "$(config-get word) on $(uname -n)" ;;
hooks/upgrade-charm) application-version-set 2 ;;
actions/hello)
	action-log "hello from $JUJU_UNIT_NAME"
	sleep "$(action-get sleep)"
	action-set greeting="hello, $(config-get word)" address="$(unit-get private-address 2>/dev/null || network-get friends --bind-address)" ;;
esac
`,
}

// writeCharm packs the test's charm.
func writeCharm(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "probe.charm")
	file, err := os.Create(path)
	require.NoError(t, err)
	defer file.Close()
	archive := zip.NewWriter(file)
	for name, text := range testCharm {
		header := &zip.FileHeader{Name: name, Method: zip.Deflate}
		header.SetMode(0o644)
		if name == "dispatch" {
			header.SetMode(0o755)
		}
		w, err := archive.CreateHeader(header)
		require.NoError(t, err)
		_, err = w.Write([]byte(text))
		require.NoError(t, err)
	}
	require.NoError(t, archive.Close())
	return path
}

func TestLabRunsCharms(t *testing.T) {
	t.Parallel()
	l := newTestLab(t)
	charm := writeCharm(t)
	l.mustJuju("deploy", charm, "--num-units", "2", "--storage", "data=rootfs,1,10M")
	l.settle()
	require.NoError(t, os.Remove(charm)) // the lab has its own copy
	out := l.mustJuju("status")
	require.Contains(t, out, "none on machine-0")
	require.Contains(t, out, "none on machine-1")
	require.Contains(t, l.on("probe/0", "cat /var/tmp/told"), "data-storage-attached")
	require.Equal(t, "active", l.on("probe/0", "systemctl is-active probe"))
	l.on("probe/0", "echo kept > /srv/data/file")

	l.mustJuju("config", "probe", "word=word")
	l.settle()
	require.Contains(t, l.mustJuju("status"), "word on machine-1")
	out = l.mustJuju("run", "probe/1", "hello")
	require.Contains(t, out, "greeting: hello, word")
	require.Contains(t, out, "hello from probe/1")
	require.Contains(t, out, "address: 127.77.")
	require.Equal(t, "machine-0", l.mustJuju("exec", "--unit", "probe/0", "uname -n"))
	require.Equal(t, "machine-1\nroot", l.mustJuju("exec", "--machine", "1", "uname -n; id -un"))
	require.Contains(t, l.on("probe/0", "juju-exec probe/0 'echo $JUJU_UNIT_NAME; is-leader'"), "probe/0\n")

	l.mustJuju("add-unit", "probe")
	l.settle()
	require.Contains(t, l.mustJuju("status"), "word on machine-2")
	l.mustJuju("remove-unit", "--no-prompt", "probe/2")
	eventually(t, "the machine is gone with its unit", func() bool {
		_, err := os.Stat(filepath.Join(l.dir, "machines", "2"))
		return os.IsNotExist(err) && !strings.Contains(l.mustJuju("status"), "probe/2")
	})
}

func TestLabRebootsAndCutsPower(t *testing.T) {
	t.Parallel()
	l := newTestLab(t)
	l.mustJuju("deploy", writeCharm(t))
	l.settle()
	l.on("0", "echo kept > /srv/data/file; rm /var/tmp/told")

	l.must(Call{Op: "reboot", Target: "probe/0"})
	l.settle()
	told := strings.Fields(l.on("0", "cat /var/tmp/told"))
	require.Equal(t, "start", told[0])
	require.Len(t, told, 2, "a reboot is a start and nothing else: %v", told)
	require.Equal(t, "kept", l.on("0", "cat /srv/data/file"))
	require.Equal(t, "active", l.on("0", "systemctl is-active probe"))

	l.must(Call{Op: "kill", Target: "probe/0"})
	eventually(t, "the agent is lost", func() bool { return strings.Contains(l.mustJuju("status"), "agent lost") })
	require.Contains(t, l.must(Call{Op: "status"}), "off")
	_, code := l.call(Call{Op: "exec", Target: "0", Args: []string{"true"}})
	require.NotZero(t, code)
	l.must(Call{Op: "on", Target: "probe/0"})
	l.settle()
	require.Equal(t, "kept", l.on("0", "cat /srv/data/file"))
	require.Contains(t, l.mustJuju("run", "probe/0", "hello"), "greeting")
}

// TestLabIsTakenUp has the lab ended in good order, and then killed in the middle of an action.
func TestLabIsTakenUp(t *testing.T) {
	t.Parallel()
	l := newTestLab(t)
	l.mustJuju("deploy", writeCharm(t))
	l.settle()
	l.on("0", "echo kept > /etc/kept")

	_, err := l.client(nil, nil).Down(testContext(t))
	require.NoError(t, err)
	require.Empty(t, l.leftovers())
	l.up()
	l.settle()
	require.Equal(t, "kept", l.on("0", "cat /etc/kept"))

	l.mustJuju("run", "--background", "probe/0", "hello", "sleep=1000")
	eventually(t, "the action runs", func() bool {
		out, _ := l.call(Call{Op: "exec", Target: "0", Args: []string{"pgrep", "-f", "sleep 1000$"}})
		return out != ""
	})
	l.killProcess()
	eventually(t, "nothing is left", func() bool { return len(l.leftovers()) == 0 })
	_, err = l.client(nil, nil).Call(testContext(t), Call{Op: "ping"})
	require.ErrorContains(t, err, "no lab is running in "+l.dir)
	l.up()
	l.settle()
	require.Equal(t, "kept", l.on("0", "cat /etc/kept"))
	require.Contains(t, l.mustJuju("run", "probe/0", "hello"), "greeting")

	again, err := l.client(nil, nil).Start(testContext(t), Options{})
	require.NoError(t, err)
	require.False(t, again, "it runs already")
}

func TestTwoLabsAtOnce(t *testing.T) {
	t.Parallel()
	charm := writeCharm(t)
	one, two := newTestLab(t), newTestLab(t)
	for _, l := range []*testLab{one, two} {
		l.mustJuju("deploy", charm)
	}
	var addresses []string
	for _, l := range []*testLab{one, two} {
		l.settle()
		addresses = append(addresses, strings.Fields(strings.Split(l.must(Call{Op: "status"}), "\n")[1])[2])
	}
	require.NotEqual(t, addresses[0], addresses[1])
	one.killProcess()
	require.Contains(t, two.mustJuju("run", "probe/0", "hello"), "greeting")
}

// TestCallerGoesAway has a person interrupt what they asked for.
func TestCallerGoesAway(t *testing.T) {
	t.Parallel()
	l := newTestLab(t)
	l.mustJuju("add-machine")
	eventually(t, "the machine is on", func() bool { return strings.Contains(l.must(Call{Op: "status"}), " on ") })
	ctx, cancel := context.WithCancel(testContext(t))
	done := make(chan int, 1)
	go func() {
		code, _ := l.client(nil, nil).Call(ctx, Call{Op: "exec", Target: "0", Args: []string{"sleep", "1000"}})
		done <- code
	}()
	running := func() bool {
		return l.must(Call{Op: "exec", Target: "0", Args: []string{"sh", "-c", "pgrep -x sleep; true"}}) != ""
	}
	eventually(t, "it runs", running)
	cancel()
	require.Equal(t, 130, <-done)
	eventually(t, "it was ended", func() bool { return !running() })
}

func TestInputReachesTheMachine(t *testing.T) {
	t.Parallel()
	l := newTestLab(t)
	l.mustJuju("add-machine")
	eventually(t, "the machine is on", func() bool { return strings.Contains(l.must(Call{Op: "status"}), " on ") })
	var out bytes.Buffer
	client := Client{Dir: l.dir, In: strings.NewReader("some input"), Stdout: &out}
	code, err := client.Call(testContext(t), Call{Op: "exec", Target: "0", Args: []string{"sh", "-c", "cat; exit 5"}})
	require.NoError(t, err)
	require.Equal(t, 5, code)
	require.Equal(t, "some input", out.String())
}

func TestNoLab(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "none")
	client := Client{Dir: dir}
	_, err := client.Call(testContext(t), Call{Op: "status"})
	require.EqualError(t, err, "no lab is running in "+dir+" (certlab lab up)")
	was, err := client.Down(testContext(t))
	require.NoError(t, err)
	require.False(t, was)
	require.NoError(t, client.Destroy())

	other := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(other, "precious"), nil, 0o600))
	require.ErrorContains(t, Client{Dir: other}.Destroy(), "it is not a lab's directory")
	require.FileExists(t, filepath.Join(other, "precious"))
}

// TestAppletsAreOnlyForTheLab starts the program by the names that only the lab uses.
func TestAppletsAreOnlyForTheLab(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	require.NoError(t, err)
	for _, name := range []string{appletBoot, appletInit, appletDaemon} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, exe)
		cmd.Args = []string{name}
		out, err := cmd.CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), "a part of the local lab")
	}
	_, ok := Applet([]string{"/usr/bin/certlab", "lab", "up"})
	require.False(t, ok)
}
