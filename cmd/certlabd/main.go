// Command certlabd is the controller's service: API, pages, loops and database.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"certlab/internal/blobs"
	"certlab/internal/cert"
	"certlab/internal/control"
	"certlab/internal/sqlite"
	"certlab/internal/version"
)

type cli struct {
	Version kong.VersionFlag `help:"Print the version and exit."`

	Run     runCmd     `cmd:"" help:"Run the service."`
	Backup  backupCmd  `cmd:"" help:"Write a backup of all data, the lab's private keys among it. The service may be running."`
	Restore restoreCmd `cmd:"" help:"Put a backup in place. The service must not be running."`
	Check   checkCmd   `cmd:"" help:"Read all data and look for damage. The service may be running."`
	Repair  repairCmd  `cmd:"" help:"Make damaged data whole again, as far as possible, and say what is lost. The service must not be running: use the repair action when it is."`
	Reindex reindexCmd `cmd:"" help:"Have all submissions read again when the service starts. The service must not be running: use POST /api/v1/admin/reindex when it is."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run parses args, runs the command and returns the exit code: 0 for success, 1 when the command failed, 2 when the arguments are wrong.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	var c cli
	parser, err := kong.New(&c, kong.Name("certlabd"), kong.Description("The service of a Certlab controller."),
		kong.Vars{"version": version.Version}, kong.Writers(out, errs), kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(output{out, errs}))
	if err != nil {
		fmt.Fprintf(errs, "certlabd: %v\n", err)
		return 1
	}
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(errs, "certlabd: %v (see certlabd --help)\n", err)
		return 2
	}
	if err := command.Run(); err != nil {
		fmt.Fprintf(errs, "certlabd: %v\n", err)
		return 1
	}
	return 0
}

type output struct{ out, errs io.Writer }

type dataFlag struct {
	Data string `required:"" type:"path" help:"The data directory (the charm's storage)." placeholder:"DIR"`
}

func (f dataFlag) data() control.Data { return control.Data{Dir: f.Data} }

type backupCmd struct {
	dataFlag `embed:""`
	To       string `required:"" type:"path" help:"File to write; it must not exist." placeholder:"FILE"`
}

func (c *backupCmd) Run(ctx context.Context, std output) error {
	data := c.data()
	if _, err := os.Stat(data.Database()); err != nil {
		return fmt.Errorf("cannot back up: %w", err)
	}
	db, err := sqlite.Open(ctx, data.Database()) // brings the schema up to date: a copy of an older one has no list of bad files
	if err != nil {
		return err
	}
	defer db.Close()
	store, err := blobs.Open(data.Blobs())
	if err != nil {
		return err
	}
	made, err := control.BackupTo(ctx, data, db, store, time.Now(), c.To)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%s  %s  %d bytes\n", made.SHA256, made.Path, made.Size)
	if len(made.Missing) > 0 {
		fmt.Fprintf(std.out, "%d files are not in it, because they are missing or altered on disk (certlabd check names them)\n", len(made.Missing))
	}
	return nil
}

type restoreCmd struct {
	dataFlag `embed:""`
	From     string `required:"" type:"existingfile" help:"Backup to restore." placeholder:"FILE"`
	SetAside bool   `help:"Move data that is in the directory to before-restore-TIME in it, instead of refusing."`
}

func (c *restoreCmd) Run(ctx context.Context, std output) error {
	data := c.data()
	release, err := data.Lock()
	if err != nil {
		return fmt.Errorf("%w (stop the service first)", err)
	}
	defer release()
	if _, err := control.PutInPlace(data); err != nil {
		return err
	}
	if _, err := os.Stat(data.Database()); err == nil && !c.SetAside {
		return fmt.Errorf("cannot restore: %s holds data (with --set-aside it is moved to before-restore-TIME in there)", c.Data)
	}
	done, err := control.Stage(ctx, data, c.From, time.Now())
	if err != nil {
		return err
	}
	aside, err := control.PutInPlace(data)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "restored the backup of %s: schema %d, %d files, %d bytes\n", done.BackupCreated.Format(time.RFC3339), done.Schema, done.Blobs, done.Bytes)
	if aside != "" {
		fmt.Fprintf(std.out, "what was there before is in %s\n", aside)
	}
	return nil
}

type reindexCmd struct {
	dataFlag   `embed:""`
	Submission string `help:"Only this submission." placeholder:"ID"`
}

func (c *reindexCmd) Run(ctx context.Context, std output) error {
	data := c.data()
	release, err := data.Lock()
	if err != nil {
		return err
	}
	defer release()
	if _, err := os.Stat(data.Database()); err != nil {
		return fmt.Errorf("cannot reindex: %w", err)
	}
	db, err := sqlite.Open(ctx, data.Database())
	if err != nil {
		return err
	}
	defer db.Close()
	n, err := db.Reindex(ctx, c.Submission, 0)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%d submissions will be read again\n", n)
	return nil
}

type runCmd struct {
	Dir string `required:"" type:"path" help:"The run directory, with desired.json." placeholder:"DIR"`
}

func (c *runCmd) Run(ctx context.Context, std output) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	s, err := newService(ctx, c.Dir, std.errs)
	if err != nil {
		return err
	}
	defer s.close()
	err = s.run(ctx, hup)
	var known *cert.Error
	if errors.Is(err, errRestart) || (errors.As(err, &known) && ctx.Err() != nil) {
		return nil
	}
	return err
}
