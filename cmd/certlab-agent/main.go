// Command certlab-agent runs Checkbox on a machine under test, for the checkbox charm, for the controller, and for a person there.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"certlab/internal/agent"
	"certlab/internal/order"
	"certlab/internal/version"
)

// cli is the command line.
type cli struct {
	Version kong.VersionFlag `help:"Print the version and exit."`

	Run      runCmd      `cmd:"" help:"Run the service, or a plan at this terminal."`
	Status   statusCmd   `cmd:"" help:"Show what the agent does."`
	Clean    cleanCmd    `cmd:"" help:"Say that a dirty machine was put right by hand, so that it takes runs again."`
	Identity identityCmd `cmd:"" help:"Make the agent's key if there is none, and write public.json."`
	Enrol    enrolCmd    `cmd:"" help:"Make a deployed machine's agent known to the controller."`
	Keep     keepCmd     `cmd:"" hidden:"" help:"Keep one start of Checkbox."`
}

// streams are what a command reads from and writes to.
type streams struct {
	out io.Writer
	err io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// run parses args, runs the command and returns the exit code: 0 for success, 1 when the command failed, 2 when the arguments are
// wrong, 3 when the controller refuses an enrolment for good.
func run(ctx context.Context, args []string, std streams) int {
	var c cli
	parser, err := kong.New(&c, kong.Name("certlab-agent"),
		kong.Description("Certlab's agent on a machine under test."),
		kong.Vars{"version": version.Version},
		kong.Writers(std.out, std.err),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(std),
	)
	if err != nil {
		fmt.Fprintf(std.err, "certlab-agent: %v\n", err)
		return 1
	}
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(std.err, "certlab-agent: %v\n", err)
		return 2
	}
	if err := command.Run(); err != nil {
		fmt.Fprintf(std.err, "certlab-agent: %v\n", err)
		if errors.Is(err, agent.ErrRefused) {
			return exitRefused
		}
		return 1
	}
	return 0
}

// exitRefused is the exit code of an enrolment that there is no use in repeating.
const exitRefused = 3

// runCmd is both the service (with --dir) and what a person types (with --interactive and a plan).
type runCmd struct {
	Dir         string            `help:"Directory of the agent. For --interactive, found by itself where the machine has one agent." placeholder:"DIR"`
	Interactive bool              `help:"Run PLAN at this terminal; its results are stored like those of any run."`
	ID          string            `help:"Go on with this interactive run after a reboot." placeholder:"RUN"`
	Title       string            `help:"Title of the session."`
	Exclude     []string          `help:"Regular expression of job ids to leave out; may be repeated." sep:"none"`
	Match       []string          `help:"Regular expression of job ids to run only; may be repeated." sep:"none"`
	Env         map[string]string `help:"NAME=VALUE for the jobs; may be repeated." mapsep:"none"`
	Plan        string            `arg:"" optional:"" help:"Full id of a test plan."`
}

func (c *runCmd) Run(ctx context.Context, std streams) error {
	if !c.Interactive {
		if c.Dir == "" || c.Plan != "" {
			return errors.New("use `run --dir DIR` for the service, or `run --interactive PLAN` at a terminal")
		}
		log := slog.New(slog.NewTextHandler(std.err, nil))
		return agent.Run(ctx, agent.Options{Dir: c.Dir, Log: log})
	}
	if c.Plan == "" && c.ID == "" {
		return errors.New("name a test plan, such as com.canonical.certlab::preflight")
	}
	dir, err := findDir(c.Dir)
	if err != nil {
		return err
	}
	r, err := agent.Interactive(ctx, dir, order.RunRequest{ID: c.ID, Spec: order.Spec{
		Plan: c.Plan, Title: c.Title, Exclude: c.Exclude, Match: c.Match, Environment: c.Env,
	}}, func(text string) { fmt.Fprintln(std.out, text) })
	if err != nil {
		return err
	}
	return showRun(std.out, r)
}

// cleanCmd ends that a machine is dirty.
type cleanCmd struct {
	Dir string `help:"Directory of the agent; found by itself where the machine has one agent." placeholder:"DIR"`
}

func (c *cleanCmd) Run(ctx context.Context, std streams) error {
	dir, err := findDir(c.Dir)
	if err != nil {
		return err
	}
	if err := agent.NewClient(dir).Clean(ctx); err != nil {
		return err
	}
	fmt.Fprintln(std.out, "the machine counts as clean and takes runs")
	return nil
}

// findDir returns the directory of the machine's agent.
func findDir(dir string) (string, error) {
	if dir != "" {
		return dir, nil
	}
	found, err := filepath.Glob("/var/lib/certlab/*/agent/" + order.AgentSocket)
	switch {
	case err != nil:
		return "", err
	case len(found) == 0:
		return "", errors.New("cannot find an agent on this machine (name its directory with --dir; only root sees it)")
	case len(found) > 1:
		return "", fmt.Errorf("cannot tell which agent is meant (name its directory with --dir): %s", strings.Join(found, ", "))
	}
	return filepath.Dir(found[0]), nil
}

// showRun prints what became of a run; it fails if no valid submission came of it.
func showRun(w io.Writer, r order.Run) error {
	fmt.Fprintf(w, "run:   %s\nplan:  %s\nstate: %s\n", r.Run, r.Spec.Plan, r.State)
	for _, outcome := range slices.Sorted(maps.Keys(r.Counts)) {
		fmt.Fprintf(w, "  %-20s %d\n", outcome, r.Counts[outcome])
	}
	for _, id := range r.BlockersFailed {
		fmt.Fprintf(w, "blocker failed: %s\n", id)
	}
	if r.SubmissionPath != "" {
		fmt.Fprintf(w, "submission: %s\n", r.SubmissionPath)
	}
	if r.URL != "" {
		fmt.Fprintf(w, "see: %s\n", r.URL)
	}
	if r.Failure != nil {
		return fmt.Errorf("%s: %s", r.Failure.Type, r.Failure.Message)
	}
	return nil
}

type statusCmd struct {
	Dir    string `help:"Directory of the agent; found by itself where the machine has one." placeholder:"DIR"`
	Format string `help:"text or json." enum:"text,json" default:"text"`
}

func (c *statusCmd) Run(ctx context.Context, std streams) error {
	dir, err := findDir(c.Dir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	s, err := agent.NewClient(dir).Status(ctx)
	if err != nil {
		return err
	}
	if c.Format == "json" {
		e := json.NewEncoder(std.out)
		e.SetIndent("", "  ")
		return e.Encode(s)
	}
	checkbox := s.CheckboxVersion
	switch {
	case s.Installing:
		checkbox = "being installed"
	case s.CheckboxProblem != "":
		checkbox = s.CheckboxProblem
	}
	controller := s.Controller
	if controller == "" {
		controller = "none"
	}
	if !s.ControllerSince.IsZero() && s.Controller != "" {
		controller += ", since " + s.ControllerSince.Format(time.RFC3339)
	}
	fmt.Fprintf(std.out, "agent:       %s, since %s\ncheckbox:    %s\ncontroller:  %s\n", s.Version, s.Since.Format(time.RFC3339), checkbox, controller)
	if s.ControllerError != "" {
		fmt.Fprintf(std.out, "             %s\n", s.ControllerError)
	}
	if r := s.Current; r != nil {
		fmt.Fprintf(std.out, "running:     %s %s, %s, %d of %d jobs", r.Run, r.Spec.Plan, r.Progress.Phase, r.Progress.JobsDone, r.Progress.JobsPlanned)
		if r.Progress.CurrentJob != "" {
			fmt.Fprintf(std.out, ", now %s", r.Progress.CurrentJob)
		}
		fmt.Fprintln(std.out)
	}
	if s.Restoring != "" {
		fmt.Fprintf(std.out, "restoring:   what run %s has changed on this machine is being put back\n", s.Restoring)
	}
	fmt.Fprintf(std.out, "queued:      %d\nundelivered: %d\n", s.Queued, s.Undelivered)
	for _, text := range s.Problems {
		fmt.Fprintf(std.out, "problem:     %s\n", text)
	}
	return nil
}

type identityCmd struct {
	Dir string `help:"Directory of the agent." required:"" placeholder:"DIR"`
}

func (c *identityCmd) Run() error { return agent.Identify(c.Dir) }

type enrolCmd struct {
	Dir    string `help:"Directory of the agent." required:"" placeholder:"DIR"`
	Config string `help:"File that says where and with which token; - is standard input." required:"" placeholder:"FILE"`
}

func (c *enrolCmd) Run(ctx context.Context) error {
	config := io.Reader(os.Stdin)
	if c.Config != "-" {
		f, err := os.Open(c.Config)
		if err != nil {
			return err
		}
		defer f.Close()
		config = f
	}
	return agent.Enrol(ctx, config, agent.Options{Dir: c.Dir})
}

type keepCmd struct {
	Dir string `arg:"" help:"Directory of the start."`
}

func (c *keepCmd) Run(ctx context.Context) error {
	// The keeper hears signals itself: most of them mean that the machine is going down, which is not the keeper's to act on.
	return agent.Keep(context.WithoutCancel(ctx), c.Dir)
}
