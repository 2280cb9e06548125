// Command pack packs Certlab's charms and checks them and the bundles. It is for the Makefile; it is not shipped.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"

	"certlab/internal/pack"
	"certlab/internal/version"
)

type cli struct {
	Version kong.VersionFlag `help:"Print the version and exit."`

	Charm  charmCmd  `cmd:"" help:"Pack a charm from its directory, and verify what was packed."`
	Verify verifyCmd `cmd:"" help:"Verify packed charms."`
	Bundle bundleCmd `cmd:"" help:"Verify a bundle against the charms that it names."`
}

type charmCmd struct {
	Dir      string `arg:"" type:"existingdir" help:"Directory with charmcraft.yaml."`
	Platform string `required:"" help:"One of the charm's platforms."`
	Bin      string `required:"" type:"existingdir" help:"Directory with the programs for that platform."`
	Out      string `required:"" help:"Directory for the .charm file."`
}

func (c *charmCmd) Run(out io.Writer) error {
	path, err := pack.Write(pack.Options{Dir: c.Dir, Platform: c.Platform, Bin: c.Bin, Out: c.Out})
	if err != nil {
		return err
	}
	if err := pack.Verify(path); err != nil {
		return err
	}
	fmt.Fprintln(out, path)
	return nil
}

type verifyCmd struct {
	Files []string `arg:"" help:".charm files."`
}

func (c *verifyCmd) Run(out io.Writer) error {
	for _, path := range c.Files {
		if err := pack.Verify(path); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: good\n", path)
	}
	return nil
}

type bundleCmd struct {
	File   string `arg:"" help:"Bundle."`
	Charms string `help:"Directory with the packed charms (default: where the bundle says)."`
}

func (c *bundleCmd) Run(out io.Writer) error {
	if err := pack.VerifyBundle(c.File, c.Charms); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: good\n", c.File)
	return nil
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run returns the exit code: 0, 1 when something is wrong with what was given, 2 when the arguments are wrong.
func run(args []string, out, errors io.Writer) int {
	var c cli
	parser, err := kong.New(&c, kong.Name("pack"), kong.Description("Packs and verifies charms and bundles."),
		kong.Vars{"version": version.Version},
		kong.Writers(out, errors), kong.BindTo(out, (*io.Writer)(nil)))
	if err != nil {
		fmt.Fprintf(errors, "pack: %v\n", err)
		return 1
	}
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(errors, "pack: %v\n", err)
		return 2
	}
	if err := command.Run(); err != nil {
		fmt.Fprintf(errors, "pack: %v\n", err)
		return 1
	}
	return 0
}
