// Command certlab is a person's tool for Certlab: a client of the controller's API, a reader of submissions, and the local lab.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"certlab/internal/locallab"
	"certlab/internal/version"
)

// cli is the command line; each group of commands has a file of its own.
type cli struct {
	Version kong.VersionFlag `help:"Print the version and exit."`

	Login       loginCmd       `cmd:"" help:"Log in to a controller."`
	Site        siteCmd        `cmd:"" help:"Show what the lab is and how it is."`
	Machine     machineCmd     `cmd:"" help:"Machines under test."`
	Reservation reservationCmd `cmd:"" help:"Who holds which machine (certlab machine reserve asks for one)."`
	Run         runCmd         `cmd:"" help:"Runs of test plans on machines."`
	Campaign    campaignCmd    `cmd:"" help:"Campaigns: a subject on many machines, up to a verdict."`
	Finding     findingCmd     `cmd:"" help:"What campaigns have found."`
	Issue       issueCmd       `cmd:"" help:"Known issues: rules that recognise results."`
	Decision    decisionCmd    `cmd:"" help:"Approve, reject and waive, and the log of who did."`
	Policy      policyCmd      `cmd:"" help:"What campaigns demand."`
	Kernel      kernelCmd      `cmd:"" help:"Kernels that the kernel team wants tested."`
	Submission  submissionCmd  `cmd:"" help:"Read submissions, and add them to the controller."`
	Result      resultCmd      `cmd:"" help:"Results of jobs."`
	Token       tokenCmd       `cmd:"" help:"Who may use the controller."`
	Lab         labCmd         `cmd:"" help:"The local lab: machines on this host, with no Juju and no MAAS."`
	Juju        jujuCmd        `cmd:"" help:"Juju's command line, spoken to the local lab."`
}

// An exitCode ends the program with that code and no further message.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// streams are what a command reads from and writes to.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

func main() {
	if code, ok := locallab.Applet(os.Args); ok {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// run parses args, runs the command and returns the exit code: 0 for success, 1 when the command failed, 2 when the arguments
// are wrong, or what the command asked for. Commands about campaigns have exit statuses of their own: see failStatus.
func run(ctx context.Context, args []string, std streams) int {
	parser, err := newParser(ctx, std)
	if err != nil {
		fmt.Fprintf(std.err, "certlab: %v\n", err)
		return 1
	}
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(std.err, "certlab: %v (see %s --help)\n", err, commandOf(err))
		if isScripted(args) {
			return int(exitUsage)
		}
		return 2
	}
	err = command.Run()
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	default:
		fmt.Fprintf(std.err, "certlab: %s\n", plain(err.Error()))
		if isScripted(args) {
			return int(failStatus(err))
		}
		return 1
	}
}

// commandOf is the command whose help tells what was wrong with the arguments.
func commandOf(err error) string {
	var wrong *kong.ParseError
	if errors.As(err, &wrong) && wrong.Context != nil {
		if node := wrong.Context.Selected(); node != nil {
			return node.FullPath()
		}
	}
	return "certlab"
}

func newParser(ctx context.Context, std streams) (*kong.Kong, error) {
	return kong.New(&cli{}, kong.Name("certlab"),
		kong.Description("Certlab: a hardware certification lab on Juju and MAAS."),
		kong.Vars{"version": version.Version},
		kong.Writers(std.out, std.err),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(std),
		kong.UsageOnError(),
	)
}
