package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"certlab/internal/agent/checkbox"
	"certlab/internal/durable"
	"certlab/internal/order"
)

// Defaults for limits that the desired state leaves out.
const (
	defaultTimeout  = 24 * time.Hour
	defaultMaxBoots = 20
)

// errLeaving means that the agent ends while an attempt goes on; nothing is decided.
var errLeaving = errors.New("the agent is ending")

// A failure is why an attempt has no valid submission.
type failure struct{ order.Failure }

func (f *failure) Error() string { return f.Type + ": " + f.Message }

func fail(kind, format string, args ...any) error {
	return &failure{order.Failure{Type: kind, Message: fmt.Sprintf(format, args...)}}
}

// errCancelled means that the run was ended on request.
var errCancelled = errors.New("the run was cancelled")

// work executes the runs, one at a time, oldest first.
func (a *Agent) work(ctx context.Context) {
	var trouble complaint
	for ctx.Err() == nil {
		a.mu.Lock()
		a.prune()
		changed := a.changed
		var next *run
		for _, id := range a.order {
			r := a.runs[id]
			if r.rec.Step == stepEnded || next != nil && r.rec.Step == stepQueued {
				continue
			}
			// What was begun comes before what waits; there is at most one.
			if next == nil || next.rec.Step == stepQueued {
				next = r
			}
		}
		a.mu.Unlock()
		if next == nil {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		err := a.execute(ctx, next)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			// Nothing can be written down: the disk is full or broken. The run stays where it is until that is better.
			id := next.rec.Run.Run
			trouble.say(a.opts.Log.Error, "cannot go on with a run", "run", id, "error", err)
			a.trouble("write", fmt.Sprintf("cannot go on with run %s: %v (make room on the machine's disk; the run then goes on by itself)", id, plainly(err)))
			a.shed()
			sleep(ctx, a.opts.WriteRetry)
			continue
		}
		trouble.over(a.opts.Log.Info, "runs go on")
		a.trouble("write", "")
	}
}

// execute takes a run from where it is to its end. An error means that the end could not be written down.
func (a *Agent) execute(ctx context.Context, r *run) error {
	runCtx, stop := context.WithCancel(ctx)
	defer stop()
	a.mu.Lock()
	r.stop = stop
	at, cancelled := r.rec.Step, r.rec.Cancel
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		r.stop = nil
		a.mu.Unlock()
	}()
	t := &attempt{agent: a, run: r}
	var err error
	var failed *failure
	switch {
	case at == stepEnding:
		t.quiet()
		return t.finish()
	case cancelled && at != stepTesting:
		err = errCancelled
	default:
		if at != stepTesting {
			if err = t.prepare(runCtx); err != nil && !errors.As(err, &failed) && !errors.Is(err, errCancelled) && runCtx.Err() == nil {
				return err
			}
		}
		if err == nil {
			// Not runCtx: a cancelled attempt has to be seen to its end too.
			err = t.attend(ctx)
		}
	}
	if ctx.Err() != nil {
		return errLeaving
	}
	a.mu.Lock()
	if r.rec.Cancel && err != nil {
		err = errCancelled
	}
	a.mu.Unlock()
	return t.end(err)
}

// An attempt is one try at a run.
type attempt struct {
	agent *Agent
	run   *run
	tool  *checkbox.Tool
	jobs  []checkbox.Job
}

func (t *attempt) rec() record {
	t.agent.mu.Lock()
	defer t.agent.mu.Unlock()
	return t.run.rec
}

func (t *attempt) dir() string {
	rec := t.rec()
	return t.agent.attemptDir(&rec)
}

// description names the attempt in Checkbox's session and in the submission.
func (t *attempt) description() string {
	rec := t.rec()
	return fmt.Sprintf("certlab run %s attempt %d", rec.Run.Run, rec.Run.Attempt)
}

func (t *attempt) archivePath() string  { return filepath.Join(t.dir(), "submission.tar.xz") }
func (t *attempt) consolePath() string  { return filepath.Join(t.dir(), "console") }
func (t *attempt) launcherPath() string { return filepath.Join(t.dir(), "launcher.conf") }
func (t *attempt) secretPath() string   { return filepath.Join(t.dir(), "secret.conf") }
func (t *attempt) jobsPath() string     { return filepath.Join(t.dir(), "jobs.json") }

// prepare checks that the plan can be run, and writes down all that starting Checkbox takes. Until its last line nothing has happened
// that could not happen again.
func (t *attempt) prepare(ctx context.Context) error {
	a := t.agent
	if err := a.update(t.run, func(rec *record) {
		rec.Step = stepPreparing
		rec.Run.State, rec.Run.Progress = order.Running, order.Progress{Phase: order.Preparing}
		if rec.Run.Started.IsZero() {
			rec.Run.Started = a.now()
		}
		rec.Run.BootID = a.bootID
	}); err != nil {
		return err // nothing could be written down: it is tried again
	}
	a.shed()
	if free, err := freeBytes(a.opts.Dir); err == nil && free < a.opts.MinFree {
		return fail(order.FailSpool, "cannot begin the run: only %d MiB are free in %s (make room on the machine's disk, and run the plan again)", free>>20, a.opts.Dir)
	}
	dir := t.dir()
	if err := os.RemoveAll(dir); err != nil {
		return fail(order.FailSpool, "cannot begin the run: %v", err)
	}
	if err := makeDir(dir); err != nil {
		return fail(order.FailSpool, "%v", err)
	}
	tool, err := a.waitTool(ctx)
	if err != nil {
		return err
	}
	if tool, err = a.steadyTool(ctx, tool, t.timeout(a.desiredNow())+time.Hour); err != nil {
		return fail(order.FailNoCheckbox, "%v", err)
	}
	own := *tool
	own.NormalUser = a.desiredNow().NormalUser
	tool = &own
	t.tool = tool
	a.touch(t.run, func(rec *record) { rec.Run.CheckboxVersion = tool.Version.String() })
	spec := t.rec().Run.Spec
	jobs, err := tool.Jobs(ctx, spec.Plan)
	var unknown *checkbox.UnknownPlan
	switch {
	case ctx.Err() != nil:
		return errCancelled
	case errors.As(err, &unknown):
		return fail(order.FailPlanUnknown, "%v", err)
	case err != nil:
		return fail(order.FailCheckbox, "%v", err)
	}
	t.jobs = jobs
	if err := writeJSON(t.jobsPath(), jobs, 0o600); err != nil {
		return fail(order.FailSpool, "%v", err)
	}
	if err := t.checkJobs(spec); err != nil {
		return err
	}
	if err := t.writeLauncher(spec); err != nil {
		return err
	}
	if err := tool.CheckConfig(ctx, t.launcherPath()); err != nil {
		return fail(order.FailCheckbox, "%v", err)
	}
	if ctx.Err() != nil {
		return errCancelled
	}
	return t.begin(tool.Start(t.launcherPath()))
}

// checkJobs refuses a plan that leaves nothing to run, or that asks a person who is not there.
func (t *attempt) checkJobs(spec order.Spec) error {
	attended := t.rec().Run.Origin == order.FromInteractive
	selected := 0
	var asking []string
	for _, j := range t.jobs {
		if !checkbox.Selected(j.ID, spec.Exclude, spec.Match) {
			continue
		}
		selected++
		if j.Interactive() {
			asking = append(asking, j.ID)
		}
	}
	if selected == 0 {
		if len(t.jobs) == 0 {
			return fail(order.FailCheckbox, "plan %s has no jobs on this machine", spec.Plan)
		}
		return fail(order.FailCheckbox, "exclude and match leave none of the %d jobs of %s", len(t.jobs), spec.Plan)
	}
	if len(asking) > 0 && !attended {
		more := ""
		if len(asking) > 3 {
			more = fmt.Sprintf(" and %d more", len(asking)-3)
		}
		return fail(order.FailInteractive, "plan %s asks a person: %s%s (exclude them, choose an automated plan, or run it with `certlab-agent run --interactive %s` on the machine)",
			spec.Plan, strings.Join(asking[:min(3, len(asking))], ", "), more, spec.Plan)
	}
	return nil
}

// writeLauncher writes the launcher, and what must not be in it into a file of its own.
func (t *attempt) writeLauncher(spec order.Spec) error {
	a := t.agent
	desired := a.desiredNow()
	run := t.rec().Run
	environment := maps.Clone(desired.Environment)
	if environment == nil {
		environment = make(map[string]string)
	}
	if desired.Unit != "" {
		// The machine was put under test by its operator: jobs that reboot may.
		environment["CERTLAB_ALLOW_REBOOT"] = "1"
	}
	maps.Copy(environment, spec.Environment)
	secrets, err := readSecretEnvironment(desired.SecretEnvFile)
	if err != nil {
		return fail(order.FailCheckbox, "%v", err)
	}
	if secrets == nil {
		secrets = make(map[string]string)
	}
	// Proxies may carry a password. Jobs that do not run as root get them only from here.
	p := desired.Proxy
	for _, pair := range checkbox.ProxyEnv(p.HTTP, p.HTTPS, p.FTP, p.No) {
		name, value, _ := strings.Cut(pair, "=")
		if _, ok := secrets[name]; !ok && environment[name] == "" {
			secrets[name] = value
		}
	}
	user := desired.NormalUser
	if checkbox.NeedsDesktop(spec.Plan) {
		if desktop, ok := checkbox.FindDesktop("/proc", user); ok {
			maps.Copy(environment, desktop.Environment)
			if user == "" {
				user = desktop.User
			}
		} else {
			a.opts.Log.Warn("the plan is for a desktop, but nobody is logged in at one", "run", run.Run, "plan", spec.Plan)
		}
	}
	if user == "" && t.tool.Capabilities.NeedsUser {
		if user = checkbox.NormalUser("/etc/passwd"); user == "" {
			return fail(order.FailCheckbox, "cannot run jobs without root's rights: set the normal-user option (Checkbox %s wants one, and there is neither ubuntu nor a user with id 1000)", t.tool.Version)
		}
	}
	if user != "" && !checkbox.UserExists("/etc/passwd", user) {
		return fail(order.FailCheckbox, "set the normal-user option to a user of this machine: there is no %q", user)
	}
	launcher := checkbox.Launcher{
		Plan: spec.Plan, Title: spec.Title, Description: t.description(), Exclude: spec.Exclude, Match: spec.Match,
		Environment: environment, Manifest: desired.Manifest, NormalUser: user,
		Archive: t.archivePath(), Interactive: run.Origin == order.FromInteractive,
	}
	if len(launcher.Match) > 0 && !t.tool.Capabilities.Match {
		exclusions, err := checkbox.MatchExclusions(launcher.Match, t.jobs)
		if err != nil {
			return fail(order.FailCheckbox, "%v", err)
		}
		launcher.Match, launcher.Exclude = nil, slices.Concat(launcher.Exclude, exclusions)
	}
	if len(secrets) > 0 {
		text, err := checkbox.SecretText(secrets)
		if err != nil {
			return fail(order.FailCheckbox, "cannot use the secret environment: %v", err)
		}
		if err := durable.WriteFile(t.secretPath(), []byte(text), 0o600); err != nil {
			return fail(order.FailSpool, "%v", err)
		}
		launcher.SecretFile = t.secretPath()
	}
	text, err := launcher.Text(t.tool.Capabilities)
	if err != nil {
		return fail(order.FailCheckbox, "%v", err)
	}
	if err := durable.WriteFile(t.launcherPath(), []byte(text), 0o600); err != nil {
		return fail(order.FailSpool, "%v", err)
	}
	// What is in the process's environment wins over [environment], and root's jobs see all of it: so what was asked for is in both,
	// and what is secret in neither but its file.
	t.tool = withEnv(t.tool, environment, secrets)
	return nil
}

// withEnv returns the tool with more in its environment, and without what has a secret value.
func withEnv(tool *checkbox.Tool, add, secrets map[string]string) *checkbox.Tool {
	copied := *tool
	copied.Env = nil
	for _, pair := range tool.Env {
		name, _, _ := strings.Cut(pair, "=")
		if _, secret := secrets[name]; secret {
			continue
		}
		if _, replaced := add[name]; !replaced {
			copied.Env = append(copied.Env, pair)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(add)) {
		if _, secret := secrets[name]; !secret {
			copied.Env = append(copied.Env, name+"="+add[name])
		}
	}
	return &copied
}

// waitTool waits for Checkbox to be installed, and fails with why it cannot be.
func (a *Agent) waitTool(ctx context.Context) (*checkbox.Tool, error) {
	for {
		a.mu.Lock()
		tool, problem, changed, applied, broken := a.tool, a.problem, a.changed, a.applied, a.stateError
		a.mu.Unlock()
		switch {
		case tool != nil:
			return tool, nil
		case problem != "":
			return nil, fail(order.FailNoCheckbox, "%s", problem)
		case applied == "" && broken != "":
			return nil, fail(order.FailNoCheckbox, "%s", broken)
		case applied == "":
			return nil, fail(order.FailNoCheckbox, "nothing says where Checkbox comes from: %s is missing (set checkbox-source)", order.AgentDesiredFile)
		}
		select {
		case <-ctx.Done():
			return nil, errCancelled
		case <-changed:
		}
	}
}

// begin writes down the next start of Checkbox and starts it.
func (t *attempt) begin(cmd checkbox.Command) error {
	a := t.agent
	desired := a.desiredNow()
	rec := t.rec()
	if t.tool.Capabilities.Resume == checkbox.ResumeByLauncher || rec.Run.Origin == order.FromInteractive {
		// It would go on with whatever incomplete session is newest, or ask the person about each.
		ids, err := checkbox.SetAside(a.opts.SessionsDir, t.description())
		if err != nil {
			return fail(order.FailCheckbox, "%v", err)
		}
		if len(ids) > 0 {
			a.opts.Log.Warn("unfinished Checkbox sessions of others were set aside", "run", rec.Run.Run, "sessions", ids)
		}
	}
	if err := os.RemoveAll(t.archivePath()); err != nil {
		return fail(order.FailSpool, "%v", err)
	}
	timeout := t.timeout(desired)
	left := timeout - t.spent(rec)
	if left <= 0 {
		return fail(order.FailTimeout, "the attempt took longer than %v, reboots included", timeout)
	}
	console, _ := os.Stat(t.consolePath())
	s := start{
		Number: rec.Start + 1, BootID: a.bootID, Created: a.now(), Args: cmd.Args, Stdin: cmd.Stdin,
		Env:     t.withTempDir(append(slices.Clone(cmd.Env), "CERTLAB_RUN="+rec.Run.Run)),
		Console: t.consolePath(), ConsoleMax: desired.ConsoleMaxBytes, SessionsDir: a.opts.SessionsDir, Description: t.description(),
		SessionMax: desired.SessionMaxBytes, Timeout: left.Milliseconds(), Silence: desired.SilenceSeconds * 1000,
		Grace: a.opts.Grace.Milliseconds(), BootIDFile: a.opts.BootIDFile,
		Terminal: rec.Run.Origin == order.FromInteractive, Oom: os.Geteuid() == 0, VMStatFile: a.opts.VMStatFile,
	}
	if s.Terminal {
		s.Timeout = 0
	}
	if console != nil {
		s.Offset = console.Size()
	}
	dir := a.startDir(&rec, s.Number)
	if err := os.RemoveAll(dir); err != nil {
		return fail(order.FailSpool, "%v", err)
	}
	if err := makeDir(dir); err != nil {
		return fail(order.FailSpool, "%v", err)
	}
	if err := writeJSON(filepath.Join(dir, startFile), s, 0o600); err != nil {
		return fail(order.FailSpool, "%v", err)
	}
	if err := a.update(t.run, func(rec *record) {
		rec.Step, rec.Start = stepTesting, s.Number
		rec.Run.Progress.Phase = order.Testing
		rec.Run.BootID = a.bootID
	}); err != nil {
		return fail(order.FailSpool, "%v", err)
	}
	return nil
}

func (t *attempt) timeout(desired order.AgentDesired) time.Duration {
	if s := t.rec().Run.Spec.TimeoutSeconds; s > 0 {
		return time.Duration(s) * time.Second
	}
	if desired.TimeoutSeconds > 0 {
		return time.Duration(desired.TimeoutSeconds) * time.Second
	}
	return defaultTimeout
}

// attend sees the attempt through: it starts what was written down, adopts what lives, resumes what was interrupted. It returns nil
// once Checkbox has written a valid submission.
func (t *attempt) attend(ctx context.Context) error {
	a := t.agent
	if t.jobs == nil {
		if err := readJSON(t.jobsPath(), &t.jobs); err != nil {
			// Then no job counts as one that is meant to be cut off.
			a.opts.Log.Error("a file of the run was damaged; the run goes on without it", "run", t.rec().Run.Run, "error", err)
		}
	}
	for {
		rec := t.rec()
		dir := a.startDir(&rec, rec.Start)
		end, err := t.watchStart(ctx, dir)
		if err != nil {
			return err
		}
		again, err := t.judge(ctx, dir, end)
		if err != nil || !again {
			return err
		}
	}
}

// watchStart waits for the start in dir to end, and follows what it prints meanwhile. It returns nil if the keeper is gone without
// having said how Checkbox ended.
func (t *attempt) watchStart(ctx context.Context, dir string) (*exited, error) {
	a := t.agent
	var s start
	lock := filepath.Join(dir, startLock)
	if err := readJSON(filepath.Join(dir, startFile), &s); err != nil {
		if !locked(lock) && !exists(filepath.Join(dir, keepFile)) {
			return nil, fail(order.FailAgent, "%v (it was damaged, as by a power cut; run the plan again)", err)
		}
		// It has been read by who needs it.
		a.opts.Log.Error("a file of the run was damaged; the run goes on without it", "run", t.rec().Run.Run, "error", err)
		rec := t.rec()
		s = start{Number: rec.Start, Console: t.consolePath(), Terminal: rec.Run.Origin == order.FromInteractive}
	}
	if !exists(filepath.Join(dir, keepFile)) && !locked(lock) {
		if t.rec().Cancel {
			return nil, errCancelled
		}
		if s.Terminal {
			// Who sits there starts it; see Interactive.
			if !t.waitTerminal(ctx, dir) {
				if ctx.Err() != nil {
					return nil, errLeaving
				}
				return nil, fail(order.FailInterrupted, "the person at the terminal did not come (back) within %v", terminalPatience)
			}
		} else if err := spawnKeeper(a.opts.Binary, dir, []string{"PATH=" + a.opts.Path, "LANG=C.UTF-8"}); err != nil {
			return nil, fail(order.FailAgent, "%v", err)
		}
		a.opts.Log.Info("Checkbox started", "run", t.rec().Run.Run, "start", s.Number)
	} else if locked(lock) {
		a.opts.Log.Info("a running Checkbox was found", "run", t.rec().Run.Run, "start", s.Number)
	}
	follow := &follower{path: s.Console, offset: s.Offset}
	defer follow.close()
	tick := time.NewTicker(a.opts.Interval)
	defer tick.Stop()
	told := false
	for {
		// In this order: a keeper writes how it ended before it lets go of its lock.
		living := locked(lock)
		if !s.Terminal {
			follow.read()
			t.progress(&follow.console)
		}
		var end exited
		if err := readJSON(filepath.Join(dir, exitFile), &end); err == nil {
			return &end, nil
		}
		if !living && exists(filepath.Join(dir, keepFile)) {
			return nil, nil
		}
		if t.rec().Cancel && !told {
			told = true
			t.stopKeeper(dir)
		}
		select {
		case <-ctx.Done():
			return nil, errLeaving
		case <-t.run.wake:
		case <-tick.C:
		}
	}
}

// stopKeeper has the keeper end Checkbox.
func (t *attempt) stopKeeper(dir string) {
	// Without a temporary file: there may be no room for another.
	f, err := os.OpenFile(filepath.Join(dir, cancelFile), os.O_WRONLY|os.O_CREATE, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.agent.opts.Log.Error("cannot tell a keeper to end Checkbox; it is ended in its place", "error", err)
		endAll(func() []process { return marked(dir) }, t.agent.opts.Grace)
		return
	}
	var k kept
	if readJSON(filepath.Join(dir, keepFile), &k) == nil && k.Keeper.alive() {
		k.Keeper.signal(syscall.SIGTERM)
		return
	}
	// Who keeps it cannot be told, but what it keeps can be ended, and then it ends too.
	endAll(func() []process { return marked(dir) }, t.agent.opts.Grace)
}

// progress publishes how far Checkbox says it is. After a resume it counts only what was left; what was done before is added.
func (t *attempt) progress(c *checkbox.Console) {
	rec := t.rec()
	p := rec.Run.Progress
	planned := max(rec.Planned, c.Planned)
	p.JobsPlanned, p.CurrentJob = planned, c.Job
	if c.Planned > 0 {
		p.JobsDone = min(planned, planned-c.Planned+c.Done)
	}
	if c.Planned > 0 && c.Done == c.Planned && c.Job == "" {
		p.Phase = order.Exporting
	} else {
		p.Phase = order.Testing
	}
	if p == rec.Run.Progress && planned == rec.Planned {
		return
	}
	if planned != rec.Planned {
		t.agent.update(t.run, func(rec *record) { rec.Planned, rec.Run.Progress = planned, p })
		return
	}
	t.agent.touch(t.run, func(rec *record) { rec.Run.Progress = p })
}

// judge decides what comes after a start has ended: true means that another was written down.
func (t *attempt) judge(ctx context.Context, dir string, end *exited) (again bool, err error) {
	a := t.agent
	desired := a.desiredNow()
	rec := t.rec()
	if end != nil && end.Left {
		a.opts.Log.Error("processes of Checkbox cannot be ended", "run", rec.Run.Run)
	}
	if end != nil && len(end.Orphans) > 0 {
		a.opts.Log.Warn("Checkbox left processes behind, which were ended", "run", rec.Run.Run, "processes", end.Orphans)
	}
	if end != nil && end.Error != "" && end.Reason == "" {
		a.opts.Log.Warn("not all that Checkbox printed was kept", "run", rec.Run.Run, "error", end.Error)
	}
	if end == nil {
		// The keeper is gone, with it Checkbox, but perhaps not what Checkbox had started.
		if !endAll(func() []process { return marked(dir) }, a.opts.Grace) {
			a.opts.Log.Error("processes of Checkbox cannot be ended", "run", rec.Run.Run)
		}
	}
	if rec.Cancel {
		return false, errCancelled
	}
	if end != nil {
		switch end.Reason {
		case "":
		case reasonCancelled:
			return false, errCancelled
		case order.FailTimeout:
			return false, fail(order.FailTimeout, "the attempt took longer than %v (set timeout if the plan takes that long)%s", t.timeout(desired), t.where())
		case order.FailSilence:
			return false, fail(order.FailSilence, "Checkbox printed nothing for %v (set silence-timeout if a job is that quiet)%s", time.Duration(desired.SilenceSeconds)*time.Second, t.where())
		case order.FailConsoleSize:
			return false, fail(order.FailConsoleSize, "Checkbox printed more than %d bytes%s", desired.ConsoleMaxBytes, t.where())
		case order.FailSessionSize:
			return false, fail(order.FailSessionSize, "Checkbox's session grew beyond %d bytes%s", desired.SessionMaxBytes, t.where())
		default:
			return false, fail(end.Reason, "%s", end.Error)
		}
	}
	if sub, err := t.examine(ctx); err == nil {
		return false, t.accept(sub)
	} else if errors.Is(err, errLeaving) {
		return false, err
	} else if end != nil && !interruptedBy(end) {
		// It ended by itself and there is nothing to go on with.
		return false, t.orFull(t.explain(end, err))
	}
	return true, t.resume(ctx, dir, end)
}

// interruptedBy reports whether Checkbox was ended by a signal that it did not send itself. Python does not survive TERM and HUP;
// wrappers such as a snap's say 128 and the signal's number.
func interruptedBy(end *exited) bool {
	if end.Signal != "" {
		return true
	}
	switch end.Code - 128 {
	case int(syscall.SIGHUP), int(syscall.SIGINT), int(syscall.SIGKILL), int(syscall.SIGTERM):
		return true
	}
	return false
}

// where says which job was running, for a failure's message.
func (t *attempt) where() string {
	if job := t.rec().Run.Progress.CurrentJob; job != "" {
		return ", in job " + job
	}
	return ""
}

// explain is the failure of a Checkbox that ended by itself without a valid archive.
func (t *attempt) explain(end *exited, archive error) error {
	if _, written := checkbox.FindArchive(t.archivePath()); written {
		return archive
	}
	var console checkbox.Console
	rec := t.rec()
	var s start
	if readJSON(filepath.Join(t.agent.startDir(&rec, rec.Start), startFile), &s) == nil {
		f := &follower{path: s.Console, offset: s.Offset, console: console}
		f.read()
		f.close()
		console = f.console
	}
	said := console.Error
	if said == "" {
		said = "the console is among the run's files"
	}
	if console.Traceback || end.Code != 0 && console.Planned == 0 {
		return fail(order.FailCheckbox, "Checkbox ended with exit code %d and without a submission: %s", end.Code, said)
	}
	return fail(order.FailNoArchive, "Checkbox ended with exit code %d but wrote no submission: %s", end.Code, said)
}

// orFull is err, or, where the disk is full and may be why, that.
func (t *attempt) orFull(err error) error {
	var f *failure
	if !errors.As(err, &f) {
		return err
	}
	for _, dir := range []string{t.agent.opts.Dir, t.agent.opts.SessionsDir, t.agent.opts.TempDir} {
		free, statErr := freeBytes(dir)
		if statErr == nil && free < t.agent.opts.MinFree {
			return fail(order.FailSpool, "the machine's disk is full, only %d MiB are free in %s (make room, and run the plan again): %s", free>>20, dir, f.Message)
		}
	}
	if strings.Contains(f.Message, "No space left on device") {
		return fail(order.FailSpool, "the machine's disk was full (make room, and run the plan again): %s", f.Message)
	}
	return err
}

// plainly is the end of err's text that an operator understands.
func plainly(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// resume records the interruption and writes down how Checkbox goes on.
func (t *attempt) resume(ctx context.Context, dir string, end *exited) error {
	a := t.agent
	desired := a.desiredNow()
	rec := t.rec()
	session, found, err := checkbox.FindSession(a.opts.SessionsDir, t.description())
	if err != nil {
		return fail(order.FailInterrupted, "%v", err)
	}
	job := session.Interrupted()
	expected := false
	for _, j := range t.jobs {
		if j.ID == job {
			expected = j.NoReturn()
		}
	}
	before := rec.Run.BootID
	var k kept
	if readJSON(filepath.Join(dir, keepFile), &k) == nil {
		before = k.BootID
	}
	cause := "killed"
	if before != a.bootID {
		cause = "reboot"
	} else {
		// The machine may be on its way down: Checkbox must not be started into that.
		grace := a.opts.RestartGrace
		if expected {
			grace = a.opts.RebootGrace
		}
		a.touch(t.run, func(rec *record) { rec.Run.Progress.Phase = order.Rebooting })
		if !t.settle(ctx, grace) {
			if ctx.Err() != nil {
				return errLeaving
			}
			return errCancelled
		}
	}
	interruption := order.Interruption{Job: job, Cause: cause, Expected: expected, BootBefore: before, BootAfter: a.bootID, At: a.now()}
	maxBoots := desired.MaxBoots
	if maxBoots <= 0 {
		maxBoots = defaultMaxBoots
	}
	var cmd checkbox.Command
	var failed error
	switch {
	case rec.Start > maxBoots:
		interruption.Note = "not resumed: too many interruptions"
		failed = fail(order.FailInterrupted, "Checkbox was interrupted %d times, more often than max-boots allows; the last time %s", rec.Start, describe(interruption))
	case !found || !session.Resumable():
		interruption.Note = "no job had been started: begun afresh"
		if found {
			session.Remove()
		}
	default:
		interruption.Note = resumed
	}
	if end != nil && end.Killed != "" {
		interruption.Note += "; ended by " + end.Killed
	}
	if t.tool == nil && failed == nil {
		if t.tool, failed = t.reopen(ctx, dir); errors.Is(failed, errLeaving) {
			return failed
		}
	}
	if failed == nil {
		if strings.HasPrefix(interruption.Note, resumed) {
			cmd, err = t.tool.Resume(t.launcherPath(), session, expected, "machine lost: "+describe(interruption))
			if err != nil {
				failed = fail(order.FailInterrupted, "%v", err)
			}
		} else {
			cmd = t.tool.Start(t.launcherPath())
		}
	}
	if err := a.update(t.run, func(rec *record) {
		list := rec.Run.Interruptions
		// A power cut between this and the next start makes it happen twice.
		if n := len(list); n == 0 || n < rec.Start {
			rec.Run.Interruptions = append(slices.Clone(list), interruption)
		}
	}); err != nil {
		return fail(order.FailSpool, "%v", err)
	}
	a.opts.Log.Warn("Checkbox was interrupted", "run", rec.Run.Run, "job", job, "cause", cause, "expected", expected, "note", interruption.Note)
	if failed != nil {
		return failed
	}
	return t.begin(cmd)
}

// reopenPatience is how long Checkbox may be missing after a boot: snaps are mounted late.
const reopenPatience = 5 * time.Minute

// reopen returns the tool with the environment that the attempt began with, after the agent itself was restarted.
func (t *attempt) reopen(ctx context.Context, dir string) (*checkbox.Tool, error) {
	deadline := time.Now().Add(reopenPatience)
	tool, err := t.agent.waitTool(ctx)
	for err != nil && time.Now().Before(deadline) && sleep(ctx, time.Second) {
		tool, err = t.agent.waitTool(ctx)
	}
	if ctx.Err() != nil {
		return nil, errLeaving
	}
	if err != nil {
		return nil, err
	}
	var s start
	if err := readJSON(filepath.Join(dir, startFile), &s); err != nil {
		return nil, fail(order.FailAgent, "%v", err)
	}
	copied := *tool
	copied.Env = slices.DeleteFunc(s.Env, func(pair string) bool {
		return strings.HasPrefix(pair, "CERTLAB_RUN=") || strings.HasPrefix(pair, "REMOTE_RESTART_DEBUG=") || pair == tempVariable+t.tempDir()
	})
	return &copied, nil
}

// resumed begins the note of an interruption after which the session went on.
const resumed = "resumed"

func describe(i order.Interruption) string {
	job := "no job"
	if i.Job != "" {
		job = i.Job
	}
	switch i.Cause {
	case "reboot":
		return fmt.Sprintf("the machine rebooted or lost power in %s", job)
	default:
		return fmt.Sprintf("Checkbox was killed in %s", job)
	}
}

// settle waits for grace, in which a machine that is going down would be down, or longer if it says that it is. False if the run was
// cancelled or the agent is ending.
func (t *attempt) settle(ctx context.Context, grace time.Duration) bool {
	deadline := time.Now().Add(grace)
	for time.Now().Before(deadline) || stopping(ctx) {
		if t.rec().Cancel {
			return false
		}
		if !sleep(ctx, min(time.Second, max(10*time.Millisecond, time.Until(deadline)))) {
			return false
		}
	}
	return true
}

// stopping reports whether systemd says that the machine is going down.
func stopping(ctx context.Context) bool {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, "systemctl", "is-system-running").Output()
	return strings.TrimSpace(string(out)) == "stopping"
}

// freeBytes is what root may still write to the file system of dir.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// A follower reads what is appended to a console.
type follower struct {
	path    string
	offset  int64
	file    *os.File
	console checkbox.Console
}

// maxFollow bounds what is read in one go, so that a flood does not keep the agent from looking at anything else.
const maxFollow = 16 << 20

func (f *follower) read() {
	if f.file == nil {
		file, err := os.Open(f.path)
		if err != nil {
			return // not there yet
		}
		if _, err := file.Seek(f.offset, io.SeekStart); err != nil {
			file.Close()
			return
		}
		f.file = file
	}
	io.Copy(&f.console, io.LimitReader(f.file, maxFollow))
}

func (f *follower) close() {
	if f.file != nil {
		f.file.Close()
	}
}
