package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/results"
	"certlab/internal/sqlite"
)

// ReaderVersion goes up whenever a submission is read differently. At start, submissions that an older reader has seen are indexed
// again, those that it could not read among them.
const ReaderVersion = 2

// A Reader makes an index of a submission. An *Unreadable error is for good, as far as this version of the reader goes; any other
// means that the bytes could not be had, and is tried again.
type Reader func(ctx context.Context, r io.Reader) (cert.Index, error)

// Unreadable says what is wrong with a submission.
type Unreadable struct{ Reason string }

func (e *Unreadable) Error() string { return e.Reason }

const (
	indexInterval = time.Minute      // how often to look without being asked
	indexTimeout  = 10 * time.Minute // for one submission
	indexRetry    = 10 * time.Second // after bytes could not be had
)

// Index asks for queued submissions to be indexed.
func (l *Lab) Index() { nudge(l.index) }

// indexLoop indexes queued submissions, oldest first, until ctx ends.
func (l *Lab) indexLoop(ctx context.Context) error {
	offered := false
	for {
		pause := indexInterval
		err := error(nil)
		if !offered {
			err = l.offer(ctx)
			offered = err == nil
		}
		if err == nil {
			err = l.IndexAll(ctx)
		}
		if err != nil && ctx.Err() == nil {
			l.Logger.Error("cannot index", "error", err)
			pause = indexRetry
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.index:
		case <-time.After(pause):
		}
	}
}

// offer puts the submissions that only an older reader has seen into the queue, once for each version of the reader.
func (l *Lab) offer(ctx context.Context) error {
	var seen int
	if _, err := l.DB.Meta(ctx, sqlite.MetaIndexer, &seen); err != nil || seen == ReaderVersion {
		return err
	}
	if err := l.DB.Writable(); err != nil {
		return err
	}
	n, err := l.DB.Reindex(ctx, "", ReaderVersion)
	if err != nil {
		return err
	}
	if n > 0 {
		l.Logger.Info("submissions wait to be indexed", "submissions", n)
	}
	return l.DB.SetMeta(ctx, sqlite.MetaIndexer, ReaderVersion)
}

// IndexAll indexes what is in the queue, but for submissions whose bytes are lost. It stops at the first that cannot be read or stored now.
func (l *Lab) IndexAll(ctx context.Context) error {
	if err := l.DB.Writable(); err != nil {
		return err
	}
	for {
		s, err := l.DB.NextPending(ctx)
		if err != nil || s == nil {
			return err
		}
		if err := l.indexOne(ctx, s); err != nil {
			return fmt.Errorf("cannot index submission %s: %w", s.ID, err)
		}
	}
}

func (l *Lab) indexOne(ctx context.Context, s *cert.Submission) error {
	ctx, cancel := context.WithTimeout(ctx, indexTimeout)
	defer cancel()
	started := l.Now()
	x, err := l.readBlob(ctx, s.SHA256)
	var unreadable *Unreadable
	if err != nil && l.altered(ctx, s.SHA256) {
		err = badBytes(s.SHA256, fileAltered)
	}
	if err != nil && l.isBad(s.SHA256) {
		l.Logger.Error("submission cannot be indexed until its file is back", "submission", s.ID, "error", err)
		return l.DB.MarkBad(ctx, s.SHA256, fileMissing, l.Now()) // so that it is passed over; a reason that was noted stays
	}
	switch {
	case errors.As(err, &unreadable):
		l.Logger.Warn("submission is unreadable", "submission", s.ID, "reason", unreadable.Reason)
		err = l.DB.SaveUnreadable(ctx, s.ID, ReaderVersion, unreadable.Reason)
	case err == nil:
		x.Version = ReaderVersion
		err = l.DB.SaveIndex(ctx, s.ID, x)
		if err == nil {
			l.Logger.Info("submission indexed", "submission", s.ID, "results", len(x.Results), "took", l.Now().Sub(started))
		}
	}
	if err == nil && l.Indexed != nil {
		l.Indexed()
	}
	if cert.CodeOf(err) == cert.NotFound {
		return nil // retention removed it meanwhile
	}
	return err
}

func (l *Lab) readBlob(ctx context.Context, sha string) (cert.Index, error) {
	b, err := l.OpenFile(ctx, sha, anySize)
	if err != nil {
		return cert.Index{}, err
	}
	defer b.Close()
	return l.Reader(ctx, b)
}

// ReadSubmission is the Reader of what Checkbox writes.
func ReadSubmission(ctx context.Context, r io.Reader) (cert.Index, error) {
	var logs logWatches
	sub, err := results.Read(contextReader{ctx, r}, results.Options{Log: logs.watch})
	var bad *results.Error
	if errors.As(err, &bad) && bad.Kind != results.ReadFailed {
		return cert.Index{}, &Unreadable{Reason: bad.Error()}
	}
	if err != nil {
		return cert.Index{}, err
	}
	x := cert.Index{Plan: sub.Plan, Title: sub.Title, CheckboxVersion: sub.CheckboxVersion(), Counts: sub.Counts(),
		Kernel: sub.System.Kernel, Series: sub.System.Distribution["codename"]}
	logs.close()
	if x.System, err = json.Marshal(systemOf(sub)); err != nil {
		return cert.Index{}, &Unreadable{Reason: "cannot keep its system information: " + err.Error()}
	}
	jobs := make(map[string]string) // member → job
	for section, res := range sub.Records() {
		if res.LogSize > 0 || res.Outcome.Class() != results.Skipped {
			if f := failureOf(len(x.Results), section, res, logs.take(res.ID)); f != nil {
				x.Failures = append(x.Failures, *f)
			}
		}
		x.Results = append(x.Results, cert.Result{
			Index: len(x.Results), Section: string(section), ID: res.ID, Name: res.Name, Outcome: string(res.Outcome),
			CertificationStatus: res.CertificationStatus, Category: res.Category, Plugin: res.Plugin, TemplateID: res.TemplateID,
			DurationSeconds: res.Duration, Comments: res.Comments, SkipReason: skipText(res), LogSize: res.LogSize,
		})
		for _, member := range []string{res.Stdout, res.Stderr} {
			if member != "" && !res.SharedOutput {
				jobs[member] = res.ID
			}
		}
	}
	for _, m := range sub.Members {
		if m.Attachment() {
			x.Attachments = append(x.Attachments, cert.Attachment{Index: len(x.Attachments), ID: jobs[m.Name], Name: m.Name, Size: m.Size})
		}
	}
	return x, nil
}

// skipText says in words what was not met.
func skipText(r *results.Result) string {
	skip, ok := r.Skip()
	if !ok {
		return ""
	}
	var parts []string
	for _, p := range []struct {
		name string
		ids  []string
	}{{"dependencies", skip.Dependencies}, {"resources", skip.Resources}, {"manifests", skip.Manifests}} {
		if len(p.ids) > 0 {
			parts = append(parts, p.name+": "+strings.Join(p.ids, ", "))
		}
	}
	return strings.Join(parts, "; ")
}

// system is the part of a submission's system information that is kept in the database. The rest stays in the archive.
type system struct {
	Kernel        string              `json:"kernel"`
	KernelCmdline string              `json:"kernel_cmdline"`
	Architecture  string              `json:"architecture"`
	Distribution  map[string]string   `json:"distribution"`
	Processor     map[string]string   `json:"processor"`
	Memory        *results.Memory     `json:"memory"`
	Packages      []results.Package   `json:"packages"`
	Snaps         []map[string]string `json:"snaps"`
}

func systemOf(sub *results.Submission) system {
	s := sub.System
	return system{s.Kernel, s.KernelCmdline, s.Architecture, s.Distribution, s.Processor, s.Memory, s.Packages, s.Snaps}
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
