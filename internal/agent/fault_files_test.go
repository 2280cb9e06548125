package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/order"
)

// damages are what power cuts, disks and people do to files.
var damages = []struct {
	name string
	do   func([]byte) []byte
}{
	{"cut off", func(data []byte) []byte { return data[:len(data)/2] }},
	{"emptied", func([]byte) []byte { return nil }},
	{"zeroed", func(data []byte) []byte { return make([]byte, len(data)) }},
	{"overwritten", func([]byte) []byte { return []byte("\xff\x00not what it was}") }},
}

func damage(t *testing.T, path string, do func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, do(data), 0o600))
}

// TestFaultDamagedFile damages each file that an agent without a run in progress keeps: it starts all the same, says which file it was
// and what became of it, and loses no other run.
func TestFaultDamagedFile(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		file string
		log  []string // what the log says, besides the file's name
		then func(*testing.T, *Agent)
	}{
		{"key.pem", []string{"it holds no key of an agent", "key.pem.unreadable"}, func(t *testing.T, a *Agent) {
			require.Len(t, a.status().Problems, 1)
			require.Contains(t, a.status().Problems[0], "a new key was made, which the controller lets in once the charm has published it")
			var public order.AgentPublic
			require.NoError(t, readJSON(filepath.Join(a.opts.Dir, order.AgentPublicFile), &public))
			require.Equal(t, a.key.public, public.PublicKey)
		}},
		{order.AgentDesiredFile, []string{"cannot read the desired state in ", "the charm writes it again at its next hook"}, func(t *testing.T, a *Agent) {
			require.Contains(t, a.status().CheckboxProblem, "the charm writes it again at its next hook")
			require.Equal(t, "com.example::plan", a.desired.DefaultPlan, "the one before goes on")
		}},
		{appliedFile, nil, func(t *testing.T, a *Agent) {
			require.Empty(t, a.status().Problems)
			require.Equal(t, "com.example::plan", a.desired.DefaultPlan)
			desired, _, err := a.lastDesired()
			require.NoError(t, err, "it is made anew")
			require.Equal(t, a.desired, desired)
		}},
		{order.AgentPublicFile, nil, func(t *testing.T, a *Agent) {
			var public order.AgentPublic
			require.NoError(t, readJSON(filepath.Join(a.opts.Dir, order.AgentPublicFile), &public))
			require.Equal(t, a.key.public, public.PublicKey, "it is made anew")
		}},
		{"lock", nil, nil},
		{heldFile, nil, func(t *testing.T, a *Agent) {
			a.releaseSnaps()
			require.NoFileExists(t, filepath.Join(a.opts.Dir, heldFile))
		}},
		{epochFile, nil, func(t *testing.T, a *Agent) {
			told := 0
			controller := &remote{client: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				told++
				return response(200, "{}"), nil
			})}, urls: []string{"https://lab"}, now: time.Now}
			for range 2 {
				require.NoError(t, a.tellHeld(t.Context(), controller, "an epoch"))
			}
			require.Equal(t, 1, told)
		}},
		{"runs/r1/run.json", []string{"what there is of the run is delivered", "run=r1", "run.json.unreadable"}, func(t *testing.T, a *Agent) {
			r := a.runs["r1"]
			require.NoError(t, (&attempt{agent: a, run: r}).finish())
			f := finishOf(t, a, r)
			require.Equal(t, "com.example::plan", f.Spec.Plan, "what was asked for is known")
			require.Equal(t, order.Failed, f.State)
			require.Equal(t, order.FailAgent, f.Failure.Type)
			require.Contains(t, f.Failure.Message, "the run's record on the machine was lost: cannot read "+filepath.Join(a.runDir("r1"), "run.json"))
			require.Contains(t, f.Failure.Message, "run the plan again")
			require.Len(t, f.Files, 1, "its archive is delivered")
		}},
		{"runs/r1/asked.json", nil, func(t *testing.T, a *Agent) {
			require.Equal(t, order.Completed, finishOf(t, a, a.runs["r1"]).State)
		}},
		{"spool/r1/submission.tar.xz", nil, func(t *testing.T, a *Agent) {
			f := finishOf(t, a, a.runs["r1"])
			require.Equal(t, order.Failed, f.State)
			require.Equal(t, order.FailSpool, f.Failure.Type)
			require.Contains(t, f.Failure.Message, "cannot deliver "+filepath.Join(a.spoolDir("r1"), "submission.tar.xz")+": it was damaged on the machine's disk")
			require.Contains(t, f.Failure.Message, "run the plan again")
			require.Empty(t, f.Counts)
		}},
	} {
		for _, d := range damages {
			t.Run(test.file+" "+d.name, func(t *testing.T) {
				t.Parallel()
				var log bytes.Buffer
				opts := Options{Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(&log, nil))}
				opts.defaults()
				writeState(t, opts)
				path := filepath.Join(opts.Dir, test.file)
				damage(t, path, d.do)
				a, err := open(opts)
				require.NoError(t, err, "it starts")
				for _, text := range test.log {
					require.Contains(t, log.String(), text)
				}
				if test.log != nil {
					require.Contains(t, log.String(), filepath.Base(test.file))
				}
				if test.then != nil {
					test.then(t, a)
				}
				// The other run is as it was.
				require.Equal(t, order.Completed, finishOf(t, a, a.runs["r2"]).State)
				// The next start finds nothing wrong any more, but with what is the charm's to write.
				before := log.Len()
				_, err = open(opts)
				require.NoError(t, err)
				if test.file != order.AgentDesiredFile {
					require.NotContains(t, log.String()[before:], "level=ERROR")
				}
			})
		}
	}
}

// writeState makes the directory of an agent that has two runs to deliver.
func writeState(t *testing.T, opts Options) {
	t.Helper()
	require.NoError(t, writeJSON(filepath.Join(opts.Dir, order.AgentDesiredFile), order.AgentDesired{Unit: "checkbox/0", DefaultPlan: "com.example::plan"}, 0o600))
	require.NoError(t, writeJSON(filepath.Join(opts.Dir, epochFile), epochRecord{"an epoch"}, 0o600))
	require.NoError(t, writeJSON(filepath.Join(opts.Dir, heldFile), []string{}, 0o600))
	lock, err := lockFile(filepath.Join(opts.Dir, "lock"))
	require.NoError(t, err)
	lock.release()
	a, err := open(opts)
	require.NoError(t, err)
	for _, id := range []string{"r1", "r2"} {
		r := a.ended(t, id)
		r.rec.Run.Spec.Plan = "com.example::plan"
		require.NoError(t, a.update(r, func(*record) {}))
		require.NoError(t, writeJSON(filepath.Join(a.runDir(id), askedFile), record{Step: stepQueued, Number: r.rec.Number,
			Run: order.Run{Report: order.Report{Run: id, Attempt: 1, Origin: order.FromAction, State: order.Queued, Spec: r.rec.Run.Spec}}}, 0o600))
	}
}

// finishOf delivers a run and returns how the controller hears that it ended.
func finishOf(t *testing.T, a *Agent, r *run) order.Finish {
	t.Helper()
	require.NotNil(t, r)
	var f order.Finish
	controller := &remote{client: &http.Client{Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
		if strings.HasSuffix(req.URL.Path, "/finish") {
			data, err := io.ReadAll(req.Body)
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(data, &f))
		}
		return obedient(req)
	})}, urls: []string{"https://lab"}, now: time.Now}
	require.NoError(t, a.deliver(t.Context(), controller, r))
	return f
}

// TestFaultDamagedFileOfARunInProgress damages a file of a run while nobody looks: the run ends as it would have.
func TestFaultDamagedFileOfARunInProgress(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ file, log string }{
		{"jobs.json", "a file of the run was damaged; the run goes on without it"},
		{"launcher.conf", ""}, // Checkbox has read it
		{"console", ""},
		{"start-1/start.json", "a file of the run was damaged; the run goes on without it"},
		{"start-1/keep.json", ""},
		{"start-1/exit.json", ""},
	} {
		t.Run(test.file, func(t *testing.T) {
			t.Parallel()
			s := small
			s.Wait = filepath.Join(t.TempDir(), "archive")
			g, _ := scriptedRig(t, s)
			g.start()
			id := g.run(order.Spec{Plan: small.Plan})
			attempt := filepath.Join(g.dir, "runs", id, "attempt-1")
			g.until("Checkbox has begun", 60*time.Second, func() bool {
				info, err := os.Stat(filepath.Join(attempt, "console"))
				return err == nil && info.Size() > 0
			})
			g.kill()
			if test.file == "start-1/exit.json" {
				require.NoError(t, os.WriteFile(s.Wait, nil, 0o600))
				g.until("Checkbox has ended", 60*time.Second, func() bool { return exists(filepath.Join(attempt, test.file)) })
			}
			damage(t, filepath.Join(attempt, test.file), damages[2].do)
			g.start()
			require.NoError(t, os.WriteFile(s.Wait, nil, 0o600))
			r := g.wait(id)
			require.Nil(t, r.Failure)
			require.Equal(t, order.Completed, r.State)
			require.Empty(t, r.Interruptions)
			require.Contains(t, kinds(r), order.SubmissionFile)
			if test.log != "" {
				g.logs(test.log, filepath.Base(test.file))
			}
		})
	}
}

func TestFaultDamagedRecordOfARunInProgress(t *testing.T) {
	t.Parallel()
	s := small
	s.Running = example + "pass" // hangs
	g, _ := scriptedRig(t, s)
	g.start()
	id, queued := g.run(order.Spec{Plan: small.Plan}), g.run(order.Spec{Plan: example + "other"})
	g.in(id, s.Running, "")
	start := g.starts()[0]
	g.kill()
	damage(t, filepath.Join(g.dir, "runs", id, "run.json"), damages[2].do)
	damage(t, filepath.Join(g.dir, "runs", queued, "run.json"), damages[2].do)
	g.start()
	r := g.wait(id)
	require.Equal(t, order.FailAgent, r.Failure.Type)
	require.Contains(t, r.Failure.Message, "the run's record on the machine was lost: cannot read ")
	require.Equal(t, small.Plan, r.Spec.Plan)
	require.Contains(t, kinds(r), order.ConsoleFile, "what there is of it is kept")
	require.Empty(t, marked(start), "its Checkbox does not go on behind the back of the next run")
	require.Equal(t, order.FailPlanUnknown, g.wait(queued).Failure.Type, "a run that had not begun is begun")
}

func TestFaultDamagedLauncherIsNotResumed(t *testing.T) {
	t.Parallel()
	s := small
	s.Running = example + "pass" // hangs
	g, _ := scriptedRig(t, s)
	g.start()
	id := g.run(order.Spec{Plan: small.Plan})
	g.in(id, s.Running, "")
	g.killAll()
	launcher := filepath.Join(g.dir, "runs", id, "attempt-1", "launcher.conf")
	damage(t, launcher, damages[2].do)
	g.boot("boot-2")
	g.start()
	r := g.wait(id)
	require.Equal(t, order.FailSpool, r.Failure.Type)
	require.Contains(t, r.Failure.Message, launcher+" was damaged on the machine's disk since the run began")
	require.Len(t, r.Interruptions, 1)
	require.Equal(t, "not resumed", r.Interruptions[0].Note)
	require.Contains(t, kinds(r), order.SessionFile, "what was measured until then is kept")
}

// TestFilesAreKeptForAControllerThatCannotBeUsed has more runs to deliver than an agent on its own keeps the files of.
func TestFilesAreKeptForAControllerThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	opts := Options{Dir: t.TempDir()}
	opts.defaults()
	a := newAgent(opts)
	a.wanted, a.desired.ControllerURLs = 1, []string{"https://controller"} // which has published no authority: there is no remote
	for n := range maxAlone + 3 {
		id := fmt.Sprint("r", n)
		a.runs[id] = &run{rec: record{Step: stepEnded, Run: order.Run{Report: order.Report{Run: id, State: order.Completed}, Files: []order.File{{Name: "console"}}}}}
		a.order = append(a.order, id)
		require.NoError(t, os.MkdirAll(a.spoolDir(id), 0o700))
		require.NoError(t, os.MkdirAll(a.runDir(id), 0o700))
	}
	left := func() int {
		entries, err := os.ReadDir(filepath.Join(opts.Dir, "spool"))
		require.NoError(t, err)
		return len(entries)
	}
	a.prune()
	require.Equal(t, maxAlone+3, left())
	a.desired.ControllerURLs = nil
	a.prune()
	require.Equal(t, maxAlone, left())
}
