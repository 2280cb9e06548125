package main

import (
	"context"
	"os"

	"golang.org/x/sys/unix"

	"certlab/internal/locallab"
)

// jujuCmd is Juju's own command line, spoken to the local lab.
type jujuCmd struct {
	Args []string `arg:"" optional:"" passthrough:"all" help:"Juju's command and its arguments; try: certlab juju help."`
}

func (c *jujuCmd) Run(ctx context.Context, std streams) error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	call := locallab.Call{Op: "juju", Args: c.Args, Dir: dir, Terminal: isTerminal(std.out) && isTerminal(std.err), Zone: os.Getenv("TZ")}
	return labDir{}.call(ctx, std, call)
}

func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}
