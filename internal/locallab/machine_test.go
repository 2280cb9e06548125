package locallab

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if code, ok := Applet(os.Args); ok {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// testTimeout bounds each wait of these tests; what is waited for takes milliseconds.
const testTimeout = 2 * time.Minute

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

// tempDir is a directory in which machines can be kept: the kernel leaves directories there that only root may enter.
func tempDir(t *testing.T) string {
	dir := t.TempDir()
	t.Cleanup(func() { require.NoError(t, openUp(dir)) })
	return dir
}

// rootless reports whether machines have one user only.
func rootless() bool { return os.Geteuid() != 0 }

// newTestRack skips the test, with the reason, where the kernel does not let this process make machines.
func newTestRack(t *testing.T) *Rack {
	rack := NewRack(slog.New(slog.DiscardHandler))
	t.Cleanup(rack.Close)
	if err := Probe(rack); err != nil {
		t.Skipf("no machines here: %v", err)
	}
	return rack
}

func newTestMachine(t *testing.T, change func(*Spec)) *Machine {
	rack := newTestRack(t)
	spec := Spec{ID: "0", Dir: tempDir(t), Hostname: "lab-0", InstanceID: "lab:0", Address: "127.77.1.11"}
	if change != nil {
		change(&spec)
	}
	m, err := rack.NewMachine(spec, nil)
	require.NoError(t, err)
	t.Cleanup(m.Kill)
	t.Cleanup(func() {
		if t.Failed() {
			console, _ := os.ReadFile(filepath.Join(spec.Dir, "log", "console.log"))
			t.Logf("console:\n%s", console)
		}
	})
	return m
}

func bootTestMachine(t *testing.T, change func(*Spec)) *Machine {
	m := newTestMachine(t, change)
	require.NoError(t, m.Boot(testContext(t)))
	return m
}

// sh runs a script on the machine and returns what it printed, without white space around it, and its code.
func sh(t *testing.T, m *Machine, script string) (string, int) {
	var out bytes.Buffer
	status, err := m.Exec(testContext(t), ExecSpec{Argv: []string{"/bin/sh", "-c", script}, Stdout: &out, Stderr: &out})
	require.NoError(t, err, script)
	return strings.TrimSpace(out.String()), status.Code
}

func mustSh(t *testing.T, m *Machine, script string) string {
	out, code := sh(t, m, script)
	require.Equal(t, 0, code, "%s\n%s", script, out)
	return out
}

func TestMachineIsItsOwn(t *testing.T) {
	t.Parallel()
	m := bootTestMachine(t, nil)
	host, err := os.Hostname()
	require.NoError(t, err)
	require.Equal(t, "lab-0", mustSh(t, m, "uname -n"))
	require.NotEqual(t, host, "lab-0")
	require.Equal(t, "lab:0", mustSh(t, m, "cat /var/lib/cloud/data/instance-id"))
	require.Contains(t, mustSh(t, m, "cat /etc/hosts"), "127.77.1.11 lab-0")
	_, id := m.State()
	require.Equal(t, id, mustSh(t, m, "cat /proc/sys/kernel/random/boot_id"))
	require.Equal(t, "certlab", mustSh(t, m, "cat /proc/1/comm"))
	require.NotContains(t, mustSh(t, m, "ls /dev"), "sda")
	_, code := sh(t, m, "echo 1 > /proc/sys/vm/drop_caches")
	require.NotEqual(t, 0, code, "the host's settings can be written")

	mustSh(t, m, "echo changed > /etc/motd; mkdir /opt/new; touch /opt/new/file")
	_, err = os.Stat("/opt/new")
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestExecStreamsAndTellsHowItEnded(t *testing.T) {
	t.Parallel()
	m := bootTestMachine(t, nil)
	ctx := testContext(t)
	var stdout, stderr bytes.Buffer
	status, err := m.Exec(ctx, ExecSpec{
		Argv: []string{"/bin/sh", "-c", "cat; pwd; echo $WORD >&2; exit 7"}, Env: []string{"WORD=w"}, Dir: "/usr",
		Stdin: strings.NewReader("in\n"), Stdout: &stdout, Stderr: &stderr,
	})
	require.NoError(t, err)
	require.Equal(t, ExitStatus{Code: 7}, status)
	require.Equal(t, "in\n/usr\n", stdout.String())
	require.Equal(t, "w\n", stderr.String())

	status, err = m.Exec(ctx, ExecSpec{Argv: []string{"/bin/sh", "-c", "kill -TERM $$"}})
	require.NoError(t, err)
	require.Equal(t, ExitStatus{Code: -1, Signal: syscall.SIGTERM}, status)

	_, err = m.Exec(ctx, ExecSpec{Argv: []string{"/no/such/program"}})
	require.ErrorContains(t, err, "/no/such/program")

	short, cancel := context.WithCancel(ctx)
	time.AfterFunc(20*time.Millisecond, cancel)
	status, err = m.Exec(short, ExecSpec{Argv: []string{"/bin/sh", "-c", "sleep 100 & sleep 100"}})
	require.NoError(t, err)
	require.Equal(t, syscall.SIGKILL, status.Signal)

	_, err = m.Exec(ctx, ExecSpec{Argv: []string{"/bin/true"}, Env: []string{"X=" + strings.Repeat("x", maxMessage)}})
	require.ErrorContains(t, err, "more than")
}

func TestRebootKeepsFilesAndChangesBootID(t *testing.T) {
	t.Parallel()
	m := bootTestMachine(t, nil)
	_, first := m.State()
	machineID := mustSh(t, m, "cat /etc/machine-id")
	mustSh(t, m, "echo kept > /var/tmp/kept; echo lost > /tmp/lost; echo lost > /run/lost; rm /etc/motd; mkdir -p /opt/dir")
	require.NoError(t, m.Reboot(testContext(t)))
	_, second := m.State()
	require.NotEqual(t, first, second)
	require.Equal(t, second, mustSh(t, m, "cat /proc/sys/kernel/random/boot_id"))
	require.Equal(t, machineID, mustSh(t, m, "cat /etc/machine-id"))
	require.Equal(t, "kept", mustSh(t, m, "cat /var/tmp/kept; ls /tmp; ls /run/lost 2>/dev/null; ls /etc/motd 2>/dev/null; test -d /opt/dir"))
}

// TestRebootFromInside has the machine rebooted in each of the ways that programs use.
func TestRebootFromInside(t *testing.T) {
	t.Parallel()
	m := bootTestMachine(t, nil)
	for _, command := range []string{"systemctl reboot", "reboot", "shutdown -r now", "/sbin/reboot -f", "kill -INT 1"} {
		_, before := m.State()
		// The program may be ended before it ends, and the machine before it is seen to end.
		_, err := m.Exec(testContext(t), ExecSpec{Argv: []string{"/bin/sh", "-c", command}})
		if err != nil {
			require.ErrorIs(t, err, errDown)
		}
		require.Eventually(t, func() bool {
			state, now := m.State()
			return state == On && now != before
		}, testTimeout, 5*time.Millisecond, command)
	}
	if _, err := m.Exec(testContext(t), ExecSpec{Argv: []string{"systemctl", "poweroff"}}); err != nil {
		require.ErrorIs(t, err, errDown)
	}
	require.Eventually(t, func() bool { state, _ := m.State(); return state == Off }, testTimeout, 5*time.Millisecond)
	require.NoError(t, m.Boot(testContext(t)))
	require.Equal(t, "ok", mustSh(t, m, "echo ok"))
}

func TestKillIsAPowerCut(t *testing.T) {
	t.Parallel()
	m := bootTestMachine(t, nil)
	mustSh(t, m, "echo kept > /var/tmp/kept; (trap '' TERM; sleep 1000) >/dev/null 2>&1 &")
	lost := make(chan error, 1)
	go func() {
		_, err := m.Exec(context.WithoutCancel(t.Context()), ExecSpec{Argv: []string{"/bin/sleep", "1000"}})
		lost <- err
	}()
	require.Eventually(t, func() bool { out, _ := sh(t, m, "pgrep -c -x sleep"); return out == "2" }, testTimeout, 5*time.Millisecond)
	pid := m.PID()
	m.Kill()
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
	require.ErrorIs(t, <-lost, errDown)
	state, _ := m.State()
	require.Equal(t, Off, state)
	_, err := m.Exec(testContext(t), ExecSpec{Argv: []string{"/bin/true"}})
	require.ErrorIs(t, err, errDown)

	require.NoError(t, m.Boot(testContext(t)))
	require.Equal(t, "kept", mustSh(t, m, "cat /var/tmp/kept; pgrep -x sleep; true"))
}

func TestMachineIsFoundAgainByItsDirectory(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	m := bootTestMachine(t, func(s *Spec) { s.Dir = dir })
	uuid := mustSh(t, m, "echo kept > /etc/kept; cat /etc/machine-id")
	require.NoError(t, m.PowerOff(testContext(t)))
	again := bootTestMachine(t, func(s *Spec) { s.Dir = dir })
	require.Equal(t, "kept\n"+uuid, mustSh(t, again, "cat /etc/kept /etc/machine-id"))
}

func TestMachineSeesWhatItMustAndNotTheLab(t *testing.T) {
	t.Parallel()
	hidden, shown, storage := t.TempDir(), t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(hidden, "secret"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(shown, "tool"), []byte("#!/bin/sh\necho works\n"), 0o755))
	m := bootTestMachine(t, func(s *Spec) { s.Hide, s.Share, s.Storage = []string{hidden}, []string{shown}, storage })
	_, code := sh(t, m, "ls "+filepath.Join(hidden, "secret"))
	require.NotEqual(t, 0, code)
	require.Equal(t, "works", mustSh(t, m, filepath.Join(shown, "tool")))
	_, code = sh(t, m, "touch "+filepath.Join(shown, "new"))
	require.NotEqual(t, 0, code)
	require.NoError(t, m.Mount(testContext(t), storageDir+"/data/0", "/srv/certlab"))
	require.NoError(t, m.Mount(testContext(t), storageDir+"/data/0", "/srv/certlab"))
	mustSh(t, m, "echo data > /srv/certlab/file")
	data, err := os.ReadFile(filepath.Join(storage, "data/0/file"))
	require.NoError(t, err)
	require.Equal(t, "data\n", string(data))
	require.NoError(t, m.Unmount(testContext(t), "/srv/certlab"))
	require.NoError(t, m.Unmount(testContext(t), "/srv/certlab"))
	require.Empty(t, mustSh(t, m, "ls /srv/certlab"))
}

func TestListenIsReachedFromInside(t *testing.T) {
	t.Parallel()
	m := bootTestMachine(t, nil)
	const path = "/var/lib/juju/agents/unit-x-0/agent.socket"
	for range 2 { // the second time in place of the first
		listener, err := m.Listen(testContext(t), path)
		require.NoError(t, err)
		got := make(chan string, 1)
		go func() {
			conn, err := listener.Accept()
			if err != nil {
				got <- err.Error()
				return
			}
			defer conn.Close()
			data := make([]byte, 5)
			n, _ := conn.Read(data)
			got <- string(data[:n])
		}()
		mustSh(t, m, `python3 -c 'import socket; s=socket.socket(socket.AF_UNIX); s.connect("`+path+`"); s.send(b"hello")'`)
		require.Equal(t, "hello", <-got)
		require.NoError(t, listener.Close())
	}
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	m := bootTestMachine(t, nil)
	terminal, wait, err := m.Terminal(testContext(t), ExecSpec{Argv: []string{"/bin/sh", "-c", "tty; read x; echo got $x; exit 3"}})
	require.NoError(t, err)
	defer terminal.Close()
	_, err = terminal.WriteString("word\n")
	require.NoError(t, err)
	status, err := wait()
	require.NoError(t, err)
	require.Equal(t, 3, status.Code)
	data := make([]byte, 4096)
	n, err := terminal.Read(data)
	require.NoError(t, err)
	require.Contains(t, string(data[:n]), "/dev/pts/")
}

func TestTwoMachinesAtOnce(t *testing.T) {
	t.Parallel()
	rack := newTestRack(t)
	var machines []*Machine
	for _, id := range []string{"0", "1"} {
		m, err := rack.NewMachine(Spec{ID: id, Dir: tempDir(t), Hostname: "m" + id, Address: "127.77.1.1" + id}, nil)
		require.NoError(t, err)
		t.Cleanup(m.Kill)
		require.NoError(t, m.Boot(testContext(t)))
		machines = append(machines, m)
	}
	mustSh(t, machines[0], "echo 0 > /etc/which")
	_, code := sh(t, machines[1], "cat /etc/which")
	require.NotEqual(t, 0, code)
	machines[0].Kill()
	require.Equal(t, "m1", mustSh(t, machines[1], "uname -n"))
}
