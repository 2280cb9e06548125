package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"certlab/internal/agent/checkbox"
	"certlab/internal/durable"
	"certlab/internal/order"
)

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
	if err := t.writePlanned(); err != nil {
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

// plannedFile is what the plan has on this machine, as it is delivered.
const plannedFile = "planned-jobs.json"

func (t *attempt) writePlanned() error {
	planned := make([]order.PlannedJob, 0, len(t.jobs))
	for _, j := range t.jobs {
		planned = append(planned, order.PlannedJob{ID: j.ID, Plugin: j.Plugin})
	}
	return writeJSON(filepath.Join(t.dir(), plannedFile), planned, 0o600)
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
	rec := t.rec()
	run := rec.Run
	environment := maps.Clone(desired.Environment)
	if environment == nil {
		environment = make(map[string]string)
	}
	if desired.Unit != "" || desired.Deployment != "" {
		// The machine was put under test by its operator, or deployed for that: jobs that reboot may.
		environment["CERTLAB_ALLOW_REBOOT"] = "1"
	}
	// What was asked for goes before what the lab knows of the machine, and that before what holds for the unit.
	maps.Copy(environment, rec.SiteEnvironment)
	manifest := maps.Clone(desired.Manifest)
	if manifest == nil {
		manifest = make(map[string]string)
	}
	maps.Copy(manifest, rec.Manifest)
	a.touch(t.run, func(rec *record) { rec.Run.NoManifest = noManifest(manifest) })
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
		Environment: environment, Manifest: manifest, NormalUser: user,
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
		if desired.Reserved {
			if err := t.spareSessions(); err != nil {
				return err
			}
		}
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
	var err error
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
	if s.Sums, err = t.sums(); err != nil {
		return fail(order.FailSpool, "%v", err)
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
		rec.Run.Subject = testedIn(rec.Run.Subject, a.bootID)
	}); err != nil {
		return fail(order.FailSpool, "%v", err)
	}
	return nil
}

// sums are the SHA-256 of the files that Checkbox is told of.
func (t *attempt) sums() (map[string]string, error) {
	sums := make(map[string]string)
	for _, path := range []string{t.launcherPath(), t.secretPath()} {
		sum, _, err := hashFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		sums[filepath.Base(path)] = sum
	}
	return sums, nil
}

// unchanged fails if a file that Checkbox is told of is not what it was at the start in dir: a session must not go on with another.
func (t *attempt) unchanged(dir string) error {
	var s start
	if readJSON(filepath.Join(dir, startFile), &s) != nil || s.Sums == nil {
		return nil
	}
	now, err := t.sums()
	if err != nil {
		return fail(order.FailSpool, "%v", err)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Sums)) {
		if now[name] != s.Sums[name] {
			return fail(order.FailSpool, "%s was damaged on the machine's disk since the run began, so Checkbox cannot go on (look at the disk, and run the plan again)", filepath.Join(t.dir(), name))
		}
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
