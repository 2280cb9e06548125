package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"certlab/internal/results"
)

// submissionCmd groups the commands on submissions.
type submissionCmd struct {
	remoteSubmissionCmd

	Show submissionShowCmd `cmd:"" help:"Show a submission: an archive (.tar.xz), a submission.json, or JUnit XML."`
	Log  submissionLogCmd  `cmd:"" help:"Print what one job of a submission printed."`
	Get  submissionGetCmd  `cmd:"" help:"Print one file of a submission archive, such as attachment_files/NAME, or one value of its submission.json."`
}

// submissionShowCmd is certlab submission show.
type submissionShowCmd struct {
	File   string `arg:"" help:"Submission; - for standard input."`
	Format string `help:"How to show it: ${enum}." enum:"text,json,csv,junit" default:"text"`
	Logs   bool   `help:"Have the beginning of each job's log in the JSON."`
}

// keptLog is how much of a job's log show keeps.
const keptLog = 64 << 10

// Run reads the file and writes it in the chosen format.
func (c *submissionShowCmd) Run(std streams) error {
	opts := results.Options{}
	if c.Logs || c.Format == "text" || c.Format == "junit" {
		opts.KeepLog = keptLog
	}
	var sub *results.Submission
	err := withInput(c.File, std, func(r io.Reader) (err error) {
		sub, err = results.Read(r, opts)
		return err
	})
	if err != nil {
		return err
	}
	write := map[string]func(io.Writer, *results.Submission) error{
		"text": results.WriteText, "json": results.WriteJSON, "csv": results.WriteCSV, "junit": results.WriteJUnit,
	}[c.Format]
	if err := write(std.out, sub); err != nil {
		return fmt.Errorf("cannot write the submission as %s: %w", c.Format, err)
	}
	return nil
}

// submissionLogCmd is certlab submission log.
type submissionLogCmd struct {
	File string `arg:"" help:"Submission; - for standard input."`
	Job  string `arg:"" help:"Full id of the job."`
}

// Run copies the log to standard output.
func (c *submissionLogCmd) Run(std streams) error {
	return withInput(c.File, std, func(r io.Reader) error {
		return results.CopyLog(std.out, r, results.Limits{}, c.Job)
	})
}

// submissionGetCmd is certlab submission get.
type submissionGetCmd struct {
	File   string   `arg:"" help:"Submission; - for standard input."`
	Member string   `arg:"" optional:"" help:"Name of a file in the archive."`
	Value  []string `help:"Instead, keys of a value in submission.json, such as system_information,journalctl,outputs,payload." placeholder:"KEY,…"`
}

// Run copies the member or the value to standard output.
func (c *submissionGetCmd) Run(std streams) error {
	if (c.Member == "") == (len(c.Value) == 0) {
		fmt.Fprintln(std.err, "certlab: give either a member or --value")
		return exitCode(2)
	}
	return withInput(c.File, std, func(r io.Reader) error {
		if c.Member != "" {
			return results.CopyMember(std.out, r, results.Limits{}, c.Member)
		}
		return results.CopyValue(std.out, r, results.Limits{}, c.Value...)
	})
}

// withInput calls read with the file's contents and names the file in the error.
func withInput(name string, std streams, read func(io.Reader) error) error {
	if name == "-" {
		return read(std.in)
	}
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("cannot open submission %s: %w (give the .tar.xz, submission.json or JUnit report, or - for standard input)", name, plainCause(err))
	}
	defer f.Close()
	if err := read(f); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// plainCause is what the system said of a file, without the call and the name that Go puts before it.
func plainCause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
