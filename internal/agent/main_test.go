package agent

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/order"
)

// TestMain lets the test binary be the programs that the tests start: the agent, its keepers, and a scripted checkbox-cli.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		var err error
		switch os.Args[1] {
		case "keep":
			err = Keep(context.Background(), os.Args[2])
		case "agent":
			err = agentMain(os.Args[2])
		case "interactive":
			_, err = Interactive(context.Background(), os.Args[2], order.RunRequest{Spec: order.Spec{Plan: os.Args[3]}}, func(string) {})
		case "scripted-checkbox":
			os.Exit(scriptedMain(os.Args[2], os.Args[3:]))
		default:
			os.Exit(testMain(m))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(testMain(m))
}

// testMain runs the tests. Most of them wait most of the time, so more of them run at once than there are processors.
func testMain(m *testing.M) int {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		if err := flag.Set("test.parallel", strconv.Itoa(max(6, runtime.GOMAXPROCS(0)))); err != nil {
			panic(err)
		}
	}
	answers, err := os.MkdirTemp("", "certlab-answers-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(answers)
	if err := os.Setenv(answersVariable, answers); err != nil {
		panic(err)
	}
	return m.Run()
}

// answersVariable names the directory with what the real Checkbox has answered in this run of the tests.
const answersVariable = "CERTLAB_TEST_ANSWERS"

// agentMain runs an agent with the options in a file.
func agentMain(path string) error {
	var opts Options
	if err := readJSON(path, &opts); err != nil {
		return err
	}
	opts.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	opts.Now = func() time.Time { return time.Now().Add(clockOffset(opts.Dir)) }
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return Run(ctx, opts)
}

// clockOffset is how far the clock of the machine in dir is ahead.
func clockOffset(dir string) time.Duration {
	text, err := os.ReadFile(dir + ".clock")
	if err != nil {
		return 0
	}
	offset, err := time.ParseDuration(string(text))
	if err != nil {
		panic(err)
	}
	return offset
}

// clock sets the clock of the rig's machine, which its agent sees at once.
func (g *rig) clock(ahead time.Duration) {
	require.NoError(g.t, os.WriteFile(g.dir+".new", []byte(ahead.String()), 0o600))
	require.NoError(g.t, os.Rename(g.dir+".new", g.dir+".clock"))
}

// realCheckbox returns the pinned checkbox-cli: $CERTLAB_CHECKBOX, or the one in a .venv up the tree, where `make` puts it.
func realCheckbox(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("CERTLAB_CHECKBOX"); path != "" {
		return path
	}
	dir, err := os.Getwd()
	require.NoError(t, err)
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if path := filepath.Join(dir, ".venv", "bin", "checkbox-cli"); executable(path) {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("there is no Checkbox: CERTLAB_CHECKBOX is not set, and no .venv/bin/checkbox-cli exists")
	}
	t.Skip("there is no Checkbox: set CERTLAB_CHECKBOX, or run `make test`, which installs one")
	return ""
}

// knownCheckbox is the real Checkbox, but for its version and the jobs of a plan, which do not change while the tests run: it is asked
// for each once, and not for every agent that starts. Each answer takes it seconds.
func knownCheckbox(t *testing.T) string {
	t.Helper()
	return program(t, `case "$*" in
"launcher --version" | "list-bootstrapped "*) ;;
*) exec "$real" "$@" ;;
esac
answer="$answers/$(printf %s "$PROVIDERPATH $CERTLAB_ALLOW_REBOOT $*" | md5sum | cut -d ' ' -f 1)"
exec 9>"$answer.lock"
flock 9
if [ ! -f "$answer" ]; then
	"$real" "$@" >"$answer.new" 9>&- || { code=$?; cat "$answer.new"; exit $code; }
	mv "$answer.new" "$answer"
fi
cat "$answer"
`, "real="+realCheckbox(t), "answers="+os.Getenv(answersVariable))
}

// program writes a shell script with variables of its own and returns its path.
func program(t *testing.T, script string, variables ...string) string {
	t.Helper()
	var head strings.Builder
	head.WriteString("#!/bin/sh\n")
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		fmt.Fprintf(&head, "%s='%s'\n", name, value)
	}
	path := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(path, []byte(head.String()+script), 0o755))
	return path
}

// A rig is a directory with an agent in it, which runs as a process of its own, so that it can be killed.
type rig struct {
	t       *testing.T
	dir     string
	opts    Options
	desired order.AgentDesired
	client  *Client
	cmd     *exec.Cmd
	log     string
}

// newRig prepares an agent that uses the checkbox-cli at path.
func newRig(t *testing.T, path string) *rig {
	t.Helper()
	// Not t.TempDir: a socket's path must be short.
	dir, err := os.MkdirTemp("", "certlab-agent-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	provider, err := filepath.Abs("../../charms/checkbox/provider")
	require.NoError(t, err)
	g := &rig{t: t, dir: filepath.Join(dir, "agent"), log: filepath.Join(dir, "log")}
	g.opts = Options{Dir: g.dir, BootIDFile: filepath.Join(dir, "boot_id"), Binary: program(t, quickly+`"$@"`, "self="+testBinary(t)),
		Grace: 2 * time.Second, RebootGrace: 200 * time.Millisecond, RestartGrace: 200 * time.Millisecond, Interval: 50 * time.Millisecond,
		JournalCommand: []string{"/bin/false"}, PstoreDirs: []string{filepath.Join(dir, "pstore")},
		ReportEvery: 20 * time.Millisecond, RetryLimit: 100 * time.Millisecond, PollWait: time.Second}
	g.boot("boot-1")
	require.NoError(t, os.MkdirAll(g.dir, 0o700))
	g.opts.TempDir = filepath.Join(dir, "tmp") // so that a test whose run goes on to its end leaves nothing
	require.NoError(t, os.Mkdir(g.opts.TempDir, 0o700))
	g.desired = order.AgentDesired{
		Checkbox:       order.CheckboxSource{Source: "path", Path: path},
		ProviderPaths:  []string{provider},
		TimeoutSeconds: 120, SilenceSeconds: 60, MaxBoots: 5,
	}
	g.client = NewClient(g.dir)
	return g
}

// quickly begins the command of a script that becomes the test binary: with the race detector, that otherwise sleeps for a second before
// it ends.
const quickly = `GORACE=atexit_sleep_ms=0 exec "$self" `

func testBinary(t *testing.T) string {
	path, err := os.Executable()
	require.NoError(t, err)
	return path
}

// boot makes it another boot.
func (g *rig) boot(id string) {
	require.NoError(g.t, os.WriteFile(g.opts.BootIDFile, []byte(id+"\n"), 0o644))
}

// write writes the desired state.
func (g *rig) write() {
	require.NoError(g.t, writeJSON(filepath.Join(g.dir, order.AgentDesiredFile), g.desired, 0o600))
}

// start starts the agent and waits until it answers.
func (g *rig) start() {
	g.t.Helper()
	g.write()
	require.NoError(g.t, writeJSON(g.dir+".options", g.opts, 0o600))
	g.launch()
}

// launch starts the agent once more, as it was, and writes nothing before.
func (g *rig) launch() {
	g.t.Helper()
	g.begin()
	g.until("the agent answers", 30*time.Second, func() bool {
		_, err := g.client.Status(context.Background())
		return err == nil
	})
}

// begin is launch without waiting for an answer.
func (g *rig) begin() {
	g.t.Helper()
	log, err := os.OpenFile(g.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(g.t, err)
	defer log.Close()
	g.cmd = exec.Command(g.opts.Binary, "agent", g.dir+".options")
	g.cmd.Stderr = log
	require.NoError(g.t, g.cmd.Start())
	cmd := g.cmd
	g.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
		for _, lock := range g.starts() { // whatever a failed test left behind
			var k kept
			if readJSON(filepath.Join(lock, keepFile), &k) == nil {
				k.Keeper.signal(syscall.SIGKILL)
			}
			endAll(func() []process { return marked(lock) }, 0)
		}
		text, _ := os.ReadFile(g.log)
		if strings.Contains(string(text), "DATA RACE") || strings.Contains(string(text), "panic:") {
			g.t.Errorf("the agent went wrong")
		}
		if g.t.Failed() {
			g.t.Logf("the agent's log:\n%s", text)
		}
	})
}

// kill ends the agent as a power cut would, and only it.
func (g *rig) kill() {
	require.NoError(g.t, g.cmd.Process.Kill())
	g.cmd.Wait()
}

// starts returns the directories of all starts, oldest first.
func (g *rig) starts() []string {
	dirs, err := filepath.Glob(filepath.Join(g.dir, "runs", "*", "attempt-*", "start-*"))
	require.NoError(g.t, err)
	return dirs
}

// killAll ends agent, keepers, and with them Checkbox, as a power cut would.
func (g *rig) killAll() {
	g.kill()
	for _, dir := range g.starts() {
		var k kept
		if readJSON(filepath.Join(dir, keepFile), &k) == nil {
			k.Keeper.signal(syscall.SIGKILL)
		}
		require.True(g.t, endAll(func() []process { return marked(dir) }, 0))
		require.True(g.t, waitFor(10*time.Second, func() bool { return !locked(filepath.Join(dir, startLock)) }))
	}
}

// until polls until something holds, ever less often: what asks costs what is asked.
func (g *rig) until(what string, limit time.Duration, done func() bool) {
	g.t.Helper()
	deadline := time.Now().Add(limit)
	for pause := 10 * time.Millisecond; !done(); pause = min(pause*5/4, 200*time.Millisecond) {
		if time.Now().After(deadline) {
			require.FailNow(g.t, "it took too long until "+what)
		}
		time.Sleep(pause)
	}
}

// run starts a run and returns its id.
func (g *rig) run(spec order.Spec) string {
	g.t.Helper()
	r, err := g.client.Start(context.Background(), order.RunRequest{Spec: spec})
	require.NoError(g.t, err)
	return r.Run
}

// wait waits for a run to end.
func (g *rig) wait(id string) order.Run {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	r, err := g.client.Run(ctx, id, 2*time.Minute)
	require.NoError(g.t, err)
	require.True(g.t, r.State.Final(), "the run is still %s in %+v", r.State, r.Progress)
	return r
}

// in waits until a run is in a job, and has printed text in it.
func (g *rig) in(id, job, text string) {
	g.t.Helper()
	g.until("job "+job+" runs", 2*time.Minute, func() bool {
		r, err := g.client.Run(context.Background(), id, 0)
		require.NoError(g.t, err)
		require.False(g.t, r.State.Final(), "the run is over: %+v", r.Failure)
		if r.Progress.CurrentJob != job {
			return false
		}
		console, err := os.ReadFile(filepath.Join(g.dir, "runs", id, "attempt-1", "console"))
		require.NoError(g.t, err)
		_, after, found := strings.Cut(string(console), "ID: "+job+"\n")
		return found && strings.Contains(after, text)
	})
}

// logs waits until one line of the agent's log contains all of the texts.
func (g *rig) logs(texts ...string) {
	g.t.Helper()
	g.until(fmt.Sprintf("the log says %q", texts), 30*time.Second, func() bool {
		text, err := os.ReadFile(g.log)
		require.NoError(g.t, err)
		for line := range strings.Lines(string(text)) {
			if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
				return true
			}
		}
		return false
	})
}

const hangupSignal = syscall.SIGHUP

// hangup writes the desired state and has the agent apply it.
func (g *rig) hangup() {
	g.t.Helper()
	g.write()
	_, sum, err := readDesired(g.dir, order.AgentDesiredFile)
	require.NoError(g.t, err)
	require.NoError(g.t, g.cmd.Process.Signal(hangupSignal))
	g.until("the desired state is in force", 10*time.Second, func() bool {
		s, err := g.client.Status(context.Background())
		return err == nil && s.Applied == sum && !s.Installing && s.CheckboxProblem == ""
	})
}
