package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"certlab/internal/locallab"
)

// labCmd is the local lab: machines made of namespaces under a model of Juju and a simulated MAAS, on this machine.
type labCmd struct {
	Up      labUpCmd      `cmd:"" help:"Start the lab, or take it up where it was, and deploy a bundle into it."`
	Down    labDownCmd    `cmd:"" help:"End the lab; what it keeps stays, unless --destroy is given."`
	Status  labStatusCmd  `cmd:"" help:"List the machines and the MAAS's nodes, and whether they are on."`
	URL     labURLCmd     `cmd:"" name:"url" help:"Print the controller's URL."`
	MAAS    labMAASCmd    `cmd:"" name:"maas" help:"Print the URL of the simulated MAAS, and a key to it."`
	Kill    labKillCmd    `cmd:"" help:"Cut a machine's power."`
	On      labOnCmd      `cmd:"" help:"Switch a machine on again."`
	Reboot  labRebootCmd  `cmd:"" help:"Reboot a machine, and wait until it is up."`
	Freeze  labFreezeCmd  `cmd:"" help:"Let a machine hang: it stays on, and nothing on it answers."`
	Thaw    labThawCmd    `cmd:"" help:"Let a machine that hangs go on."`
	Console labConsoleCmd `cmd:"" help:"Print what a machine's console has."`
	Fault   labFaultCmd   `cmd:"" help:"Switch faults of a node on, as its BMC or its MAAS has them."`
	Shell   labShellCmd   `cmd:"" help:"Open a root shell on a machine."`
	Exec    labExecCmd    `cmd:"" help:"Run a command as root on a machine."`
}

// labDir is the option that says which lab is meant.
type labDir struct {
	Dir string `help:"The lab's directory (default: $CERTLAB_LAB, else $XDG_STATE_HOME/certlab/lab, else ~/.local/state/certlab/lab)." type:"path" placeholder:"DIR"`
}

func (d labDir) client(std streams) (locallab.Client, error) {
	dir := d.Dir
	if dir == "" {
		var err error
		if dir, err = locallab.DefaultDir(os.Getenv); err != nil {
			return locallab.Client{}, err
		}
	}
	return locallab.Client{Dir: dir, In: std.in, Stdout: std.out, Stderr: std.err}, nil
}

// call asks the lab's process for something and turns its exit code into an error.
func (d labDir) call(ctx context.Context, std streams, call locallab.Call) error {
	client, err := d.client(std)
	if err != nil {
		return err
	}
	code, err := client.Call(ctx, call)
	if err == nil && code != 0 {
		return exitCode(code)
	}
	return err
}

type labUpCmd struct {
	labDir
	Bundle     string        `arg:"" optional:"" type:"existingfile" help:"Bundle to deploy, such as bundles/lab.yaml."`
	Overlay    []string      `type:"existingfile" sep:"none" placeholder:"FILE" help:"Bundle overlay; may be repeated."`
	Charms     string        `type:"existingdir" placeholder:"DIR" help:"Use the charm files in this directory instead of those of the same name."`
	Checkbox   string        `placeholder:"PATH" help:"The checkbox-cli that machines use (default: $$CERTLAB_CHECKBOX, else .venv/bin/checkbox-cli beside the bundle or above)."`
	Nodes      int           `default:"3" help:"Machines of the lab's simulated MAAS, node-1 and so on; 0 for none. A lab keeps those that it has."`
	Wait       time.Duration `default:"10m" help:"How long to wait until all units are active and idle; 0 for not at all."`
	Foreground bool          `help:"Run the lab in this process, until it is interrupted; the bundle is not deployed."`
}

func (c *labUpCmd) Run(ctx context.Context, std streams) error {
	client, err := c.client(std)
	if err != nil {
		return err
	}
	near, err := os.Getwd()
	if err != nil {
		return err
	}
	if c.Bundle != "" {
		near = filepath.Dir(c.Bundle)
	}
	checkbox, err := locallab.FindCheckbox(c.Checkbox, os.Getenv, near)
	if err != nil {
		return err
	}
	if c.Foreground {
		return client.RunHere(ctx, locallab.Options{Checkbox: checkbox, Nodes: c.Nodes})
	}
	if err := c.checkPorts(ctx, client); err != nil {
		return err
	}
	started, err := client.Start(ctx, locallab.Options{Checkbox: checkbox, Nodes: c.Nodes})
	if err != nil {
		return err
	}
	if started {
		fmt.Fprintf(std.out, "The lab in %s is up.\n", client.Dir)
	} else {
		fmt.Fprintf(std.out, "The lab in %s is up already.\n", client.Dir)
	}
	if c.Bundle != "" {
		if err := c.deploy(ctx, std, client, checkbox); err != nil {
			return err
		}
	}
	if c.Wait <= 0 {
		return nil
	}
	if code, err := client.Call(ctx, locallab.Call{Op: "settle", Timeout: c.Wait}); err != nil || code != 0 {
		fmt.Fprintln(std.out)
		_, _ = client.Call(ctx, locallab.Call{Op: "juju", Args: []string{"status"}})
		if err == nil {
			err = exitCode(code)
		}
		return err
	}
	if c.Bundle == "" {
		return nil
	}
	fmt.Fprintln(std.out)
	if _, err := client.Call(ctx, locallab.Call{Op: "juju", Args: []string{"status"}}); err != nil {
		return err
	}
	var url strings.Builder
	quiet := locallab.Client{Dir: client.Dir, Stdout: &url}
	if _, err := quiet.Call(ctx, locallab.Call{Op: "url"}); err == nil { // a bundle without a controller has none
		fmt.Fprintf(std.out, "\nThe controller: %s", url.String())
	}
	return nil
}

// checkPorts refuses, before anything is started, a lab whose controller could not serve. One that runs has its ports.
func (c *labUpCmd) checkPorts(ctx context.Context, client locallab.Client) error {
	if c.Bundle == "" {
		return nil
	}
	if _, err := client.Call(ctx, locallab.Call{Op: "ping"}); err == nil {
		return nil
	}
	plan, err := locallab.PlanBundle(c.Bundle, c.Overlay, c.Charms, "", "")
	if err != nil {
		return err
	}
	return locallab.CheckPorts(plan.Ports)
}

// deploy deploys the bundle, unless all of its applications are there.
func (c *labUpCmd) deploy(ctx context.Context, std streams, client locallab.Client, checkbox string) error {
	site, err := c.sitePrograms(client)
	if err != nil {
		return err
	}
	plan, err := locallab.PlanBundle(c.Bundle, c.Overlay, c.Charms, checkbox, site)
	if err != nil {
		return err
	}
	code, err := client.Call(ctx, locallab.Call{Op: "has", Args: plan.Applications})
	if err != nil {
		return err
	}
	if code == 0 {
		fmt.Fprintf(std.out, "%s is deployed already.\n", c.Bundle)
		return nil
	}
	args := []string{"deploy", c.Bundle, "--trust"} // whoever starts a lab means it to use its own MAAS
	if len(plan.Overlay) > 0 {
		overlay, err := os.CreateTemp(client.Dir, "overlay-*.yaml")
		if err != nil {
			return err
		}
		defer os.Remove(overlay.Name())
		defer overlay.Close()
		if _, err := overlay.Write(plan.Overlay); err != nil {
			return err
		}
		args = append(args, "--overlay", overlay.Name())
	}
	for _, path := range c.Overlay {
		args = append(args, "--overlay", path)
	}
	code, err = client.Call(ctx, locallab.Call{Op: "juju", Args: args, Dir: "/"})
	if err == nil && code != 0 {
		err = exitCode(code)
	}
	return err
}

// sitePrograms writes the lab's own programs to a file in its directory; a lab without a MAAS has none.
func (c *labUpCmd) sitePrograms(client locallab.Client) (string, error) {
	if c.Nodes == 0 {
		return "", nil
	}
	data, err := locallab.SitePrograms()
	if err != nil {
		return "", err
	}
	path := filepath.Join(client.Dir, "site-programs.tar.gz")
	return path, os.WriteFile(path, data, 0o600)
}

type labDownCmd struct {
	labDir
	Destroy bool `help:"Remove the lab's directory with all that it kept."`
}

func (c *labDownCmd) Run(ctx context.Context, std streams) error {
	client, err := c.client(std)
	if err != nil {
		return err
	}
	was, err := client.Down(ctx)
	if err != nil {
		return err
	}
	if was {
		fmt.Fprintf(std.out, "The lab in %s is down.\n", client.Dir)
	} else {
		fmt.Fprintf(std.out, "No lab was running in %s.\n", client.Dir)
	}
	if !c.Destroy {
		return nil
	}
	return client.Destroy()
}

type labStatusCmd struct{ labDir }

func (c *labStatusCmd) Run(ctx context.Context, std streams) error {
	return c.call(ctx, std, locallab.Call{Op: "status"})
}

type labURLCmd struct{ labDir }

func (c *labURLCmd) Run(ctx context.Context, std streams) error {
	return c.call(ctx, std, locallab.Call{Op: "url"})
}

// labMachine is a command that acts on one machine.
type labMachine struct {
	labDir
	Machine string `arg:"" name:"machine|unit" help:"Machine number, a unit on it, such as checkbox/0, or a node of the MAAS, such as node-1."`
}

type labKillCmd struct{ labMachine }

func (c *labKillCmd) Run(ctx context.Context, std streams) error {
	return c.call(ctx, std, locallab.Call{Op: "kill", Target: c.Machine})
}

type labOnCmd struct{ labMachine }

func (c *labOnCmd) Run(ctx context.Context, std streams) error {
	return c.call(ctx, std, locallab.Call{Op: "on", Target: c.Machine})
}

type labRebootCmd struct{ labMachine }

func (c *labRebootCmd) Run(ctx context.Context, std streams) error {
	return c.call(ctx, std, locallab.Call{Op: "reboot", Target: c.Machine})
}

type labMAASCmd struct{ labDir }

func (c *labMAASCmd) Run(ctx context.Context, std streams) error {
	return c.call(ctx, std, locallab.Call{Op: "maas"})
}

type labFreezeCmd struct{ labMachine }

func (c *labFreezeCmd) Run(ctx context.Context, std streams) error {
	return c.call(ctx, std, locallab.Call{Op: "freeze", Target: c.Machine})
}

type labThawCmd struct{ labMachine }

func (c *labThawCmd) Run(ctx context.Context, std streams) error {
	return c.call(ctx, std, locallab.Call{Op: "thaw", Target: c.Machine})
}

type labConsoleCmd struct{ labMachine }

func (c *labConsoleCmd) Run(ctx context.Context, std streams) error {
	return c.call(ctx, std, locallab.Call{Op: "console", Target: c.Machine})
}

type labFaultCmd struct {
	labDir
	Node  string   `arg:"" help:"Node, such as node-1."`
	Fault []string `arg:"" help:"Faults to switch on; the word none switches all of the node's off."`
}

// Help lists the faults.
func (c *labFaultCmd) Help() string {
	var text strings.Builder
	text.WriteString("Faults:\n\n")
	for _, f := range locallab.NodeFaults() {
		fmt.Fprintf(&text, "  %-25s %s\n", f.Name, f.Text)
	}
	return text.String()
}

func (c *labFaultCmd) Run(ctx context.Context, std streams) error {
	return c.call(ctx, std, locallab.Call{Op: "fault", Target: c.Node, Args: c.Fault})
}

type labShellCmd struct{ labMachine }

func (c *labShellCmd) Run(ctx context.Context, std streams) error {
	client, err := c.client(std)
	if err != nil {
		return err
	}
	code, err := client.Shell(ctx, c.Machine, os.Getenv("TERM"))
	if err == nil && code != 0 {
		return exitCode(code)
	}
	return err
}

type labExecCmd struct {
	labMachine
	Command []string `arg:"" passthrough:"" help:"The command and its arguments, after --."`
}

func (c *labExecCmd) Run(ctx context.Context, std streams) error {
	args := c.Command
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return fmt.Errorf("cannot run nothing: name a command after --")
	}
	return c.call(ctx, std, locallab.Call{Op: "exec", Target: c.Machine, Args: args})
}
