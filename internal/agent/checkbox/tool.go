package checkbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// maxOutput bounds what a short command may print, in bytes. A plan of 800 jobs lists as about 60 kB.
const maxOutput = 16 << 20

// A Tool is one installed checkbox-cli.
type Tool struct {
	Path         string
	Version      Version
	Capabilities Capabilities
	Env          []string // complete environment that it is started with, providers and proxy settings included
	SessionsDir  string
	NormalUser   string // who runs unprivileged jobs; empty: whom Checkbox finds
	Limits       Limits
}

// Limits are how long commands of checkbox-cli that only ask it something may take. The zero value of each is the default.
type Limits struct {
	Version time.Duration // 1 min
	List    time.Duration // of plans: 2 min
	Jobs    time.Duration // of a plan, for which Checkbox runs its bootstrap jobs: 15 min
	Check   time.Duration // of a launcher: 2 min
}

func limit(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// errHangs means that a command of checkbox-cli did not end in time.
var errHangs = errors.New("it hangs (try it by hand on the machine)")

// Open asks the checkbox-cli at path for its version.
func Open(ctx context.Context, path string, env []string, limits Limits) (*Tool, error) {
	t := &Tool{Path: path, Env: env, SessionsDir: SessionsDir, Limits: limits}
	// The old parser takes --version only behind a command.
	out, err := t.output(ctx, limit(limits.Version, time.Minute), "launcher", "--version")
	if errors.Is(err, errHangs) {
		return nil, fmt.Errorf("cannot ask %s for its version: %w", path, err)
	}
	if err != nil {
		out2, err2 := t.output(ctx, limit(limits.Version, time.Minute), "--version")
		if err2 != nil {
			return nil, fmt.Errorf("cannot ask %s for its version: %w", path, err)
		}
		out = out2
	}
	v, err := ParseVersion(out)
	if err != nil {
		return nil, err
	}
	t.Version, t.Capabilities = v, CapabilitiesOf(v)
	return t, nil
}

// A ToolError is a checkbox-cli command that failed.
type ToolError struct {
	Args   []string
	Output string // the end of what it printed
	Err    error
}

func (e *ToolError) Unwrap() error { return e.Err }

func (e *ToolError) Error() string {
	last := ""
	for line := range strings.Lines(e.Output) {
		if text := strings.TrimSpace(line); text != "" && !strings.HasPrefix(text, "$PROVIDERPATH is defined") {
			last = text
		}
	}
	if last == "" {
		return fmt.Sprintf("checkbox-cli %s: %v", e.Args[0], e.Err)
	}
	return fmt.Sprintf("checkbox-cli %s: %v: %s", e.Args[0], e.Err, clip(last, 300))
}

// maxKills is how often a command that only asks something may be killed before that is its answer.
const maxKills = 3

// output runs a command of checkbox-cli that ends by itself and returns its standard output. The error is a *ToolError. What only asks
// can be asked again: a command that somebody kills, such as a kernel short of memory, is repeated.
func (t *Tool) output(ctx context.Context, limit time.Duration, args ...string) (string, error) {
	for kills := 1; ; kills++ {
		out, err := t.once(ctx, limit, args...)
		var exit *exec.ExitError
		if kills == maxKills || ctx.Err() != nil || !errors.As(err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() {
			return out, err
		}
	}
}

// once runs a command of checkbox-cli one time. What is ended from here has an error of its own, and none of the process.
func (t *Tool) once(ctx context.Context, limit time.Duration, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.Path, args...)
	cmd.Env = t.Env
	cmd.Dir = "/"
	stdout, stderr := capped{max: maxOutput, full: cancel}, capped{max: 64 << 10}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// It may have started others; all of them end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err := runUnprotected(cmd) // list-bootstrapped runs jobs
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it ended well; what it left behind holds its output open
	}
	if stdout.cut {
		err = fmt.Errorf("it printed more than %d bytes", maxOutput)
	} else if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("took longer than %v: %w", limit, errHangs)
	} else if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return "", &ToolError{Args: args, Output: stdout.String() + stderr.String(), Err: err}
	}
	return stdout.String(), nil
}

// capped keeps the first max bytes of what is written to it, and calls full when there is more. The buffer is not embedded: its ReadFrom
// would take in everything.
type capped struct {
	kept bytes.Buffer
	max  int
	cut  bool
	full func() // may be nil
}

func (c *capped) String() string { return c.kept.String() }

func (c *capped) Write(p []byte) (int, error) {
	if room := c.max - c.kept.Len(); len(p) > room {
		c.kept.Write(p[:room])
		if !c.cut && c.full != nil {
			c.full()
		}
		c.cut = true
	} else {
		c.kept.Write(p)
	}
	return len(p), nil
}

// A Plan is a test plan that a Tool knows.
type Plan struct{ ID, Name string }

var (
	planLine  = regexp.MustCompile(`^\s*test plan ['"](.+)['"]\s*$`)
	planAttrs = regexp.MustCompile(`^\s+(name|tr_name)\s*: (['"])(.*)['"]\s*$`)
)

// Plans lists the test plans, sorted by id.
func (t *Tool) Plans(ctx context.Context) ([]Plan, error) {
	out, err := t.output(ctx, limit(t.Limits.List, 2*time.Minute), "list", "test plan", "-a")
	if err != nil {
		return nil, fmt.Errorf("cannot list test plans: %w", err)
	}
	return parsePlans(out), nil
}

// parsePlans reads what `checkbox-cli list "test plan" -a` prints.
func parsePlans(out string) []Plan {
	var plans []Plan
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		if m := planLine.FindStringSubmatch(line); m != nil {
			plans = append(plans, Plan{ID: m[1]})
		} else if m := planAttrs.FindStringSubmatch(line); m != nil && len(plans) > 0 {
			plans[len(plans)-1].Name = strings.ReplaceAll(m[3], `\`+m[2], m[2])
		}
	}
	slices.SortFunc(plans, func(a, b Plan) int { return strings.Compare(a.ID, b.ID) })
	return plans
}

// A Job is one job of a plan, as far as running the plan depends on it.
type Job struct {
	ID     string   `json:"id"` // full id
	Plugin string   `json:"plugin"`
	Flags  []string `json:"flags,omitempty"`
}

// NoReturn reports whether the job ends Checkbox on purpose, such as by a reboot.
func (j Job) NoReturn() bool { return slices.Contains(j.Flags, "noreturn") }

// Interactive reports whether the job needs a person.
func (j Job) Interactive() bool {
	switch j.Plugin {
	case "manual", "user-interact", "user-verify", "user-interact-verify":
		return true
	}
	return false
}

// UnknownPlan is the error for a plan that no installed provider has.
type UnknownPlan struct {
	Plan    string
	Nearest []string
}

func (e *UnknownPlan) Error() string {
	if len(e.Nearest) == 0 {
		return fmt.Sprintf("Checkbox knows no test plan %q (list-suites shows those it knows)", clip(e.Plan, 200))
	}
	return fmt.Sprintf("Checkbox knows no test plan %q (did you mean %s?)", clip(e.Plan, 200), clip(strings.Join(e.Nearest, ", "), 500))
}

// Jobs lists the jobs of a plan as they are on this machine. It runs the plan's bootstrap jobs, which can take minutes. For a plan
// that is not known the error is an *UnknownPlan.
func (t *Tool) Jobs(ctx context.Context, plan string) ([]Job, error) {
	defer RemoveListings(t.SessionsDir)
	args := []string{"list-bootstrapped", plan, "-f", `{full_id}\t{plugin}\t{flags}\n`}
	useJSON := t.Capabilities.ListJSON && t.Version.AtLeast(7, 4)
	if useJSON { // the text format is known to work up to 7.3
		args = []string{"list-bootstrapped", plan, "-f", "json"}
	}
	patience := limit(t.Limits.Jobs, 15*time.Minute)
	out, err := t.output(ctx, patience, args...)
	if errors.Is(err, errHangs) {
		return nil, fmt.Errorf("cannot list the jobs of %s: %w", plan, err)
	}
	if err != nil && !planNotFound(err) && t.NormalUser != "" && t.Capabilities.NeedsUser {
		// It gives up where it finds no user by itself. Which versions take one is not known of all.
		if again, err2 := t.output(ctx, patience, append(slices.Clone(args), "--normal-user", t.NormalUser)...); err2 == nil {
			out, err = again, nil
		}
	}
	if err != nil {
		plans, listErr := t.Plans(ctx)
		if listErr == nil && !slices.ContainsFunc(plans, func(p Plan) bool { return p.ID == plan }) {
			return nil, &UnknownPlan{Plan: plan, Nearest: Nearest(plan, plans)}
		}
		return nil, fmt.Errorf("cannot list the jobs of %s: %w", plan, err)
	}
	if useJSON {
		return parseJobsJSON(out)
	}
	return parseJobs(out)
}

// planNotFound reports whether list-bootstrapped failed because it does not know the plan, in the words of all versions.
func planNotFound(err error) bool {
	var failed *ToolError
	return errors.As(err, &failed) && strings.Contains(failed.Output, "Test plan not found")
}

// parseJobs reads one job per line: id, plugin and flags between tabs. What a job does not have is `<missing flags>`.
func parseJobs(out string) ([]Job, error) {
	var jobs []Job
	for line := range strings.Lines(out) {
		fields := strings.SplitN(strings.TrimRight(line, "\n"), "\t", 3)
		if len(fields) != 3 {
			// Flags may be spread over lines.
			if len(jobs) > 0 && strings.TrimSpace(line) != "" {
				jobs[len(jobs)-1].Flags = append(jobs[len(jobs)-1].Flags, splitFlags(line)...)
			}
			continue
		}
		jobs = append(jobs, Job{ID: strings.TrimSpace(fields[0]), Plugin: strings.TrimSpace(fields[1]), Flags: splitFlags(fields[2])})
	}
	return jobs, nil
}

// parseJobsJSON reads what -f json prints; flags are text or a list of texts.
func parseJobsJSON(out string) ([]Job, error) {
	start := strings.IndexByte(out, '[')
	if start < 0 {
		return nil, errors.New("cannot read the list of jobs: it is not JSON")
	}
	var raw []struct {
		ID     string          `json:"full_id"`
		Plugin string          `json:"plugin"`
		Flags  json.RawMessage `json:"flags"`
	}
	if err := json.NewDecoder(strings.NewReader(out[start:])).Decode(&raw); err != nil {
		return nil, fmt.Errorf("cannot read the list of jobs: %s", clip(err.Error(), 300))
	}
	jobs := make([]Job, len(raw))
	for i, r := range raw {
		jobs[i] = Job{ID: r.ID, Plugin: r.Plugin}
		var text string
		if len(r.Flags) == 0 {
			continue
		} else if json.Unmarshal(r.Flags, &jobs[i].Flags) == nil {
			continue
		} else if json.Unmarshal(r.Flags, &text) == nil {
			jobs[i].Flags = splitFlags(text)
		}
	}
	return jobs, nil
}

// splitFlags splits flags as written in a unit, or as Python prints a list of them.
func splitFlags(text string) []string {
	if strings.Contains(text, "<missing") {
		return nil
	}
	return strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\r\n,[]'\"{}", r) })
}

// MatchExclusions turns match into exclusions, for a Checkbox that has none: it excludes each job but those that match, and but
// resource jobs, which only gather facts. Patterns match from the beginning of the full id, as in Checkbox.
func MatchExclusions(match []string, jobs []Job) ([]string, error) {
	var patterns []*regexp.Regexp
	for _, m := range match {
		p, err := regexp.Compile(`^(?:` + m + `)`)
		if err != nil {
			return nil, fmt.Errorf("cannot use match %q with this version of Checkbox: %s", clip(m, 200), clip(err.Error(), 300))
		}
		patterns = append(patterns, p)
	}
	var exclude []string
	for _, j := range jobs {
		if j.Plugin == "resource" || slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(j.ID) }) {
			continue
		}
		exclude = append(exclude, ExactPattern(j.ID))
	}
	return exclude, nil
}

// ExactPattern returns the regular expression that only matches the full id.
func ExactPattern(id string) string { return "^" + pythonQuote(id) + "$" }

// pythonQuote escapes what has a meaning in a regular expression, in a way that Python and Go both read.
func pythonQuote(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune(`\.+*?()|[]{}^$`, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Selected reports whether job id runs under exclude and match.
func Selected(id string, exclude, match []string) bool {
	matches := func(list []string) bool {
		return slices.ContainsFunc(list, func(text string) bool {
			p, err := regexp.Compile(`^(?:` + text + `)`)
			return err == nil && p.MatchString(id)
		})
	}
	return !matches(exclude) && (len(match) == 0 || matches(match))
}

// CheckConfig asks Checkbox whether it understands the launcher at path; nil where it cannot be asked. It errs on the side of going
// on: only problems that Checkbox lists itself are an error.
func (t *Tool) CheckConfig(ctx context.Context, path string) error {
	if !t.Capabilities.CheckConfig {
		return nil
	}
	_, err := t.output(ctx, limit(t.Limits.Check, 2*time.Minute), "check-config", path)
	var failed *ToolError
	if errors.Is(err, errHangs) {
		return fmt.Errorf("cannot check the launcher: %w", err)
	}
	if err == nil || !errors.As(err, &failed) {
		return err
	}
	return problemsIn(failed.Output)
}

// problemsIn reads what check-config says of a launcher; nil if it lists no problems.
func problemsIn(output string) error {
	_, problems, found := strings.Cut(output, "\nProblems:\n")
	if !found {
		return nil
	}
	var lines []string
	for line := range strings.Lines(problems) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "-"); ok {
			lines = append(lines, strings.TrimSpace(text))
		}
	}
	return fmt.Errorf("cannot use the launcher: Checkbox says: %s", clip(strings.Join(lines, "; "), 500))
}

// A Command is how Checkbox is started for one attempt, or one go of it.
type Command struct {
	Args  []string // with the program
	Env   []string // complete
	Stdin string   // what it may read; then the end
}

// Start returns the command that starts a fresh session.
func (t *Tool) Start(launcher string) Command {
	return Command{Args: []string{t.Path, "launcher", launcher}, Env: t.Env}
}

// Resume returns the command that goes on with session s after its job interrupted was cut off, and does beforehand what this
// version needs for the job not to become a pass unless noreturn says that it was meant to be cut off. cause is a few words for the
// job's comment.
func (t *Tool) Resume(launcher string, s Session, noreturn bool, cause string) (Command, error) {
	cmd := t.Start(launcher)
	switch t.Capabilities.Resume {
	case ResumeByLauncher:
		if t.Capabilities.CommentPrompt && s.Interrupted() != "" && !noreturn {
			// Only asked for a blocker job; a plan does not say beforehand which those are on this machine.
			cmd.Stdin = resultMark + cause + "\n"
		}
	case ResumeByID:
		if err := s.ForgetResult(); err != nil {
			return Command{}, err
		}
		switch {
		case s.Running == "":
		case s.RunningEnd != "":
			// Checkbox would overwrite the outcome that the job has.
			comments := s.Comments
			if comments == "" {
				comments = "ended before the interruption"
			}
			if s.RunningEnd == "crash" {
				comments = "crashed; " + comments
			}
			if err := s.PresetResult(s.RunningEnd, comments); err != nil {
				return Command{}, err
			}
		case !noreturn:
			if err := s.PresetResult("fail", cause); err != nil {
				return Command{}, err
			}
		}
		cmd.Args = append(cmd.Args, "--resume", s.ID)
		if _, err := os.Stat("/etc/xdg/autostart"); err != nil && t.Capabilities.LooseRestart && os.Getenv("SNAP") == "" {
			// Without a desktop it finds no way to restart itself and refuses to resume; this names one that does nothing here.
			cmd.Env = append(slices.Clone(cmd.Env), "REMOTE_RESTART_DEBUG=1")
		}
	}
	return cmd, nil
}

// Nearest returns up to three ids of plans that resemble id, most alike first.
func Nearest(id string, plans []Plan) []string {
	type scored struct {
		id       string
		distance int
	}
	short := func(s string) string {
		if i := strings.LastIndex(s, "::"); i >= 0 {
			return s[i+2:]
		}
		return s
	}
	var all []scored
	for _, p := range plans {
		d := distance(short(id), short(p.ID))
		if strings.Contains(p.ID, short(id)) && short(id) != "" {
			d = min(d, 1)
		}
		if d <= max(2, len(short(id))/3) {
			all = append(all, scored{p.ID, d})
		}
	}
	slices.SortStableFunc(all, func(a, b scored) int { return a.distance - b.distance })
	var ids []string
	for _, s := range all[:min(3, len(all))] {
		ids = append(ids, s.id)
	}
	return ids
}

// distance is the number of bytes to insert, delete or change to get from a to b.
func distance(a, b string) int {
	a, b = a[:min(len(a), 200)], b[:min(len(b), 200)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// FindArchive returns the path of the archive if Checkbox wrote one that is not empty.
func FindArchive(path string) (string, bool) {
	info, err := os.Stat(filepath.Clean(path))
	return path, err == nil && info.Mode().IsRegular() && info.Size() > 0
}
