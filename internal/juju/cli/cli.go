// Package cli is Juju's command line, spoken to the model of Juju in the package above.
//
// A person who types `certlab juju …` at a local lab sees what `juju …` shows at a real controller: the same commands and
// options, the same text on the same stream, the same exit codes. The texts were measured on Juju 4.0.15; what is not matched
// is listed, with the reason, in the package's replay test and in docs/reference/juju-differences.md.
//
// [Main] runs inside the lab's daemon, for a client that sent its arguments, its directory and its streams. So nothing here
// ends the process, reads the process's own directory or environment, or keeps state between two calls.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"certlab/internal/juju"
)

// An Env is what one call of a command has around it.
type Env struct {
	Model *juju.Model
	// Dir is the caller's directory: relative paths of charms, bundles and value files begin there.
	Dir            string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Terminal says that stdout and stderr are a terminal: colours and prompts in colour.
	Terminal bool
	// Location is the zone that times are shown in; the system's when nil.
	Location *time.Location
}

// A call is one command being run.
type call struct {
	Env
	ctx     context.Context
	name    string
	quiet   bool
	verbose bool
	out     output
	model   string
	flags   *flagSet
}

// A command is one word after `juju`.
type command struct {
	name, args, purpose string
	aliases             []string
	// prepare declares the options on c.flags and returns what reads the arguments (its errors exit 2), which returns what does
	// the work (its errors exit 1).
	prepare func(c *call) func(args []string) (func() error, error)
	// wordsEndOptions: the first argument ends the options.
	wordsEndOptions bool
	noModel         bool
}

// silent ends a command with exit code 1 and no further text.
var errSilent = errors.New("silent")

// instead says what the lab has in the place of commands of Juju's that it has not.
var instead = map[string]string{
	"ssh": "In the local lab: certlab lab shell MACHINE|UNIT, or certlab lab exec MACHINE|UNIT -- COMMAND",
	"scp": "In the local lab: certlab lab exec MACHINE|UNIT -- cat FILE >COPY, or tee FILE <COPY to send one",
}

// Main runs one command line (without the leading "juju") and returns its exit code: 0, 1 when the command failed, 2 when it was
// not understood.
func Main(ctx context.Context, env Env, args []string) int {
	if env.Location == nil {
		env.Location = time.Local
	}
	c := &call{Env: env, ctx: ctx}
	top := newFlagSet()
	c.globals(top)
	rest, err := top.parse(args, false)
	switch {
	case errors.Is(err, errHelp), err == nil && len(rest) == 0:
		io.WriteString(c.Stdout, overview())
		return 0
	case err != nil:
		c.errorf("%v", err)
		return 2
	}
	if rest[0] == "help" {
		if len(rest) == 1 || rest[1] == "commands" {
			io.WriteString(c.Stdout, overview())
			return 0
		}
		rest = append([]string{rest[1]}, "--help")
	}
	cmd := lookup(rest[0])
	if cmd == nil {
		c.errorf("unrecognized command: juju %s", rest[0])
		if hint := instead[rest[0]]; hint != "" {
			fmt.Fprintln(c.Stderr, hint)
		}
		return 1
	}
	return c.run(cmd, rest[1:])
}

func lookup(name string) *command {
	for _, cmd := range commands() {
		if cmd.name == name {
			return &cmd
		}
		for _, alias := range cmd.aliases {
			if alias == name {
				return &cmd
			}
		}
	}
	return nil
}

func (c *call) globals(f *flagSet) {
	var ignored bool
	var ignoredText string
	f.boolean(&c.quiet, "quiet,q", "")
	f.boolean(&c.verbose, "verbose,v", "")
	f.boolean(&ignored, "debug", "")
	f.boolean(&ignored, "show-log", "")
	f.str(&ignoredText, "logging-config", "")
}

func (c *call) run(cmd *command, args []string) int {
	c.name = cmd.name
	c.flags = newFlagSet()
	c.globals(c.flags)
	var browser bool
	if !cmd.noModel {
		c.flags.str(&c.model, "m,model", "Model to operate in. Accepts [<controller name>:]<model name>|<model UUID>")
	}
	c.flags.boolean(&browser, "B,no-browser-login", "Do not use web browser for authentication")
	c.out.c = c
	read := cmd.prepare(c)
	rest, err := c.flags.parse(args, !cmd.wordsEndOptions)
	if errors.Is(err, errHelp) {
		io.WriteString(c.Stdout, cmd.help(c.flags))
		return 0
	}
	var work func() error
	if err == nil {
		work, err = read(rest)
	}
	if err != nil {
		c.errorf("%v", err)
		return 2
	}
	if err = c.checkModel(); err == nil {
		err = work()
	}
	if err == nil {
		return 0
	}
	if c.out.machine() && !c.out.written {
		io.WriteString(c.Stdout, "{}\n")
	}
	if !errors.Is(err, errSilent) {
		c.errorf("%v", err)
	}
	return 1
}

// checkModel refuses to work on any model but the lab's one.
func (c *call) checkModel() error {
	if c.model == "" {
		return nil
	}
	info := c.Env.Model.Snapshot().Model
	for _, name := range []string{info.Name, "admin/" + info.Name, info.Controller + ":" + info.Name, info.Controller + ":admin/" + info.Name, info.UUID} {
		if c.model == name {
			return nil
		}
	}
	name := c.model
	if !strings.Contains(name, ":") {
		name = info.Controller + ":" + name
	}
	return fmt.Errorf("model %s not found", name)
}

// infof writes what --quiet leaves out.
func (c *call) infof(format string, args ...any) {
	if !c.quiet {
		fmt.Fprintf(c.Stderr, format+"\n", args...)
	}
}

func (c *call) errorf(format string, args ...any) {
	fmt.Fprintf(c.Stderr, "%s %s\n", c.tag("ERROR", "91"), fmt.Sprintf(format, args...))
}

func (c *call) warnf(format string, args ...any) {
	fmt.Fprintf(c.Stderr, "%s %s\n", c.tag("WARNING", "33"), fmt.Sprintf(format, args...))
}

func (c *call) tag(word, colour string) string {
	if c.Terminal {
		return "\x1b[" + colour + "m" + word + "\x1b[0m"
	}
	return word
}

// after is a context that ends with the call, or when d is over by the model's clock.
func (c *call) after(d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(c.ctx)
	go func() {
		select {
		case <-c.Env.Model.Clock().After(d):
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// path is a file that the caller named.
func (c *call) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.Dir, name)
}

// confirm asks whether to go on. what names the thing that is aborted when the answer is not yes.
func (c *call) confirm(what string) error {
	io.WriteString(c.Stderr, "\nContinue [y/N]? ")
	answer, err := readLine(c.Stdin)
	if err == nil || errors.Is(err, io.EOF) {
		switch strings.ToLower(strings.TrimSpace(answer)) {
		case "y", "yes":
			return nil
		}
	}
	return fmt.Errorf("%s: aborted", what)
}

// readLine reads up to the first newline and not a byte further; an answer of more than 1024 bytes is none.
func readLine(r io.Reader) (string, error) {
	if r == nil {
		return "", io.EOF
	}
	var line []byte
	one := make([]byte, 1)
	for len(line) < 1024 {
		n, err := r.Read(one)
		if n == 1 {
			if one[0] == '\n' {
				return string(line), nil
			}
			line = append(line, one[0])
		}
		if err != nil {
			return string(line), err
		}
	}
	return "", errors.New("answer too long")
}

func (cmd *command) help(f *flagSet) string {
	var out strings.Builder
	fmt.Fprintf(&out, "Usage: juju %s [options] %s\n\nSummary:\n%s\n", cmd.name, cmd.args, cmd.purpose)
	if options := f.help(); options != "" {
		fmt.Fprintf(&out, "\nCommand Options:\n%s", options)
	}
	fmt.Fprintf(&out, "\nDetails:\nThis is the local lab's answer to Juju's command, with Juju's output; the options are those listed here.\n")
	if len(cmd.aliases) > 0 {
		fmt.Fprintf(&out, "\nAliases: %s\n", strings.Join(cmd.aliases, ", "))
	}
	return out.String()
}

// overview says which of Juju's commands there are here.
func overview() string {
	var out strings.Builder
	out.WriteString("The local lab answers these of Juju's commands, each with Juju's options and output:\n\n")
	all := commands()
	sort.Slice(all, func(i, j int) bool { return all[i].name < all[j].name })
	t := table{}
	for _, cmd := range all {
		t.add(text("  "+cmd.name), text(cmd.purpose))
	}
	out.WriteString(t.render(false))
	out.WriteString("\nUse \"juju help <command>\" for a command's options.\n")
	return out.String()
}
