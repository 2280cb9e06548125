package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"

	"certlab/internal/cert"
	"certlab/internal/client"
	"certlab/internal/results"
)

// remoteSubmissionCmd groups the commands on the controller's submissions.
type remoteSubmissionCmd struct {
	Add      submissionAddCmd      `cmd:"" help:"Add a submission that was made by hand to the controller."`
	List     submissionListCmd     `cmd:"" help:"List the controller's submissions, the newest first."`
	Download submissionDownloadCmd `cmd:"" help:"Get a submission from the controller, byte for byte."`
}

type submissionAddCmd struct {
	File       string `arg:"" type:"existingfile" help:"The archive (.tar.xz), submission.json or JUnit XML."`
	Machine    string `required:"" help:"The machine that it is of: id, system_id or hostname (certlab machine add, if it has no agent)." placeholder:"MACHINE"`
	formatFlag `embed:""`
}

func (c *submissionAddCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	f, err := os.Open(c.File)
	if err != nil {
		return fmt.Errorf("cannot add the submission: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("cannot add the submission: %s is no file", c.File)
	}
	_, unreadable := results.Read(f, results.Options{}) // it is kept all the same, but who hands it in should know
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("cannot add the submission: %w", err)
	}
	s, err := api.AddSubmission(ctx, c.Machine, filepath.Base(c.File), f)
	if err != nil || c.json() {
		return c.write(std, s, err)
	}
	if unreadable != nil {
		fmt.Fprintf(std.err, "certlab: it was added, but has no results: %v\n", unreadable)
	}
	return table(std.out, nil, [][]string{{"Submission", s.ID}, {"Machine", s.Hostname}, {"Handed in by", s.AddedBy}, {"Run", s.Run}, {"SHA-256", s.SHA256}, {"URL", s.URL}})
}

type submissionListCmd struct {
	Machine    string `help:"Only of this machine: id, system_id or hostname." placeholder:"MACHINE"`
	RunID      string `name:"run" help:"Only of this run." placeholder:"ID"`
	Plan       string `help:"Only of this plan." placeholder:"ID"`
	limitFlag  `embed:""`
	formatFlag `embed:""`
}

func (c *submissionListCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	list, err := api.Submissions(ctx, url.Values{"machine": {c.Machine}, "run": {c.RunID}, "plan": {c.Plan}}, c.Limit)
	if err != nil || c.json() {
		return c.write(std, struct {
			Submissions []cert.Submission `json:"submissions"`
		}{list}, err)
	}
	var rows [][]string
	for _, s := range list {
		shown := countsText(s.Counts)
		if s.IndexState != cert.IndexDone {
			shown = s.IndexState + " " + s.IndexError
		}
		rows = append(rows, []string{s.ID, s.Hostname, s.Plan, shown, timeText(&s.Received), s.AddedBy})
	}
	return table(std.out, []string{"SUBMISSION", "MACHINE", "PLAN", "RESULTS", "RECEIVED", "HANDED IN BY"}, rows)
}

type submissionDownloadCmd struct {
	ID     string `arg:"" help:"Id of the submission."`
	Output string `short:"o" help:"File to write, or - for standard output; submission-ID.tar.xz if not given." placeholder:"FILE"`
}

func (c *submissionDownloadCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	if c.Output == "-" {
		return api.Download(ctx, c.ID, std.out)
	}
	path := c.Output
	if path == "" {
		path = "submission-" + filepath.Base(c.ID) + ".tar.xz"
	}
	if err := download(ctx, api, c.ID, path); err != nil {
		return err
	}
	fmt.Fprintln(std.out, path)
	return nil
}

// download writes the archive to path, which is there whole or not at all.
func download(ctx context.Context, api *client.Client, id, path string) error {
	return writeWhole(path, func(w io.Writer) error { return api.Download(ctx, id, w) })
}

// writeWhole writes a file that is there whole or not at all.
func writeWhole(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".download-*")
	if err != nil {
		return writeError(path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // what failed matters more
		}
	}()
	if err = write(f); err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return writeError(path, err)
}

// writeError says what could not be written, in the name that the file would have had.
func writeError(path string, err error) error {
	var where *fs.PathError
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("cannot write %s: the disk is full (nothing is left of it; make room, or name another place with --output)", path)
	case errors.As(err, &where):
		return fmt.Errorf("cannot write %s: %w", path, where.Err)
	}
	return err
}

// resultCmd groups the commands on results.
type resultCmd struct {
	List resultListCmd `cmd:"" help:"List results: those of the newest submission first."`
}

type resultListCmd struct {
	Machine    string `help:"Only of this machine: id, system_id or hostname." placeholder:"MACHINE"`
	RunID      string `name:"run" help:"Only of this run." placeholder:"ID"`
	Submission string `help:"Only of this submission." placeholder:"ID"`
	Job        string `help:"Only jobs whose full id begins with this." placeholder:"PREFIX"`
	Outcome    string `help:"Only with this outcome, such as fail." placeholder:"OUTCOME"`
	Status     string `help:"Only with this certification status, such as blocker." placeholder:"STATUS"`
	Plan       string `help:"Only of this plan." placeholder:"ID"`
	limitFlag  `embed:""`
	formatFlag `embed:""`
}

func (c *resultListCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	list, err := api.Results(ctx, url.Values{"machine": {c.Machine}, "run": {c.RunID}, "submission": {c.Submission}, "job": {c.Job}, "outcome": {c.Outcome},
		"certification_status": {c.Status}, "plan": {c.Plan}}, c.Limit)
	if err != nil || c.json() {
		return c.write(std, struct {
			Results []cert.Result `json:"results"`
		}{list}, err)
	}
	var rows [][]string
	for _, r := range list {
		outcome := r.Outcome
		if r.NoManifest {
			outcome += " (no manifest)"
		}
		if r.MachineLost {
			outcome += " (machine lost)"
		}
		rows = append(rows, []string{r.ID, r.Hostname, outcome, r.CertificationStatus, fmt.Sprintf("%.1fs", r.DurationSeconds), fmt.Sprintf("%s/%d", r.Submission, r.Index)})
	}
	return table(std.out, []string{"JOB", "MACHINE", "OUTCOME", "STATUS", "TIME", "SUBMISSION/INDEX"}, rows)
}
