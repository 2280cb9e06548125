// Package api answers the controller's HTTP API: people's under /api/v1, agents' under /agent/v1. Each method of API is the handler
// of one route; the routes are in package server's table.
package api

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"time"

	"certlab/internal/blobs"
	"certlab/internal/cert"
	"certlab/internal/control"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// Store is what the API needs of the database.
type Store interface {
	Machines(context.Context, sqlite.MachineFilter, sqlite.Page) ([]cert.Machine, string, error)
	Machine(ctx context.Context, name string) (cert.Machine, error)
	AddMachine(context.Context, cert.Machine) error
	Runs(context.Context, sqlite.RunFilter, sqlite.Page) ([]cert.Run, string, error)
	Run(ctx context.Context, id string) (cert.Run, error)
	AddRun(context.Context, cert.Run) error
	UpdateRun(ctx context.Context, id string, absent func() (*cert.Run, error), change func(*cert.Run) (bool, error)) (cert.Run, error)
	RunCounts(context.Context) (map[string]int, error)
	AddFile(ctx context.Context, run string, f cert.File) (cert.File, error)
	AddUpload(context.Context, cert.Run, cert.File) (string, bool, error)
	Submissions(context.Context, sqlite.SubmissionFilter, sqlite.Page) ([]cert.Submission, string, error)
	Submission(ctx context.Context, id string) (cert.Submission, error)
	Reindex(ctx context.Context, submission string, onlyOlder int) (int, error)
	IndexCounts(context.Context) (map[string]int, error)
	Results(context.Context, sqlite.ResultFilter, sqlite.Page) ([]cert.Result, string, error)
	Result(ctx context.Context, submission string, index int) (cert.Result, error)
	Attachments(ctx context.Context, submission string, p sqlite.Page) ([]cert.Attachment, string, error)
	Attachment(ctx context.Context, submission string, index int) (cert.Attachment, error)
	AddToken(ctx context.Context, t cert.Token, codeHash string) error
	Redeem(ctx context.Context, codeHash, hash string, now time.Time) (cert.Token, error)
	Tokens(context.Context, sqlite.Page) ([]cert.Token, string, error)
	RevokeToken(ctx context.Context, name string, now time.Time) (cert.Token, error)
	Schema(context.Context) (int, error)
	Writable() error
	FleetStore
}

// Files is what it needs of the blob store.
type Files interface {
	Offset(blobs.Upload) (int64, error)
	Append(ctx context.Context, u blobs.Upload, at int64, r io.Reader, commit func() error) (int64, bool, error)
	Discard(blobs.Upload) error
}

// Lab is what it needs of the loops.
type Lab interface {
	Desired() order.ControllerDesired
	Refusals() []cert.Refusal
	Next(ctx context.Context, machine string, wait time.Duration, still func() error) (control.News, error)
	Held(ctx context.Context, machine string, held order.Held) (again []string, err error)
	FileIsBad(sha string) bool
	FileIsBack(ctx context.Context, sha string) error
	FileIsGone(ctx context.Context, run string, attempt int, sha, reason string) error
	OpenFile(ctx context.Context, sha string, size int64) (*blobs.Blob, error)
	StorageFull()
	Problems() []control.Problem
	Wake(machine string)
	Freed(ctx context.Context)
	Index()
	Refresh()
	Space() (free int64, low bool)
	RoomForRuns() error
	Agent(publicKey string) (machine string, err error)
	Backup(ctx context.Context, w io.Writer) error
	BackupTo(ctx context.Context, path string) (cert.Backup, error)
	Restore(ctx context.Context, path string) (cert.Restored, error)
	Repair(ctx context.Context, backup string) (cert.Repaired, error)
	CopyLog(ctx context.Context, w io.Writer, sha, job string) error
	CopyMember(ctx context.Context, w io.Writer, sha, member string) error
}

// Keys is what it needs of the certificate authority.
type Keys interface {
	CAs() []string
	Fingerprint() string
	Rotate() (int, error)
}

// Clocks knows what of a machine is known while the service runs.
type Clocks interface {
	Observe(*cert.Machine, []cert.Refusal)
}

// An API answers requests. All fields must be set.
type API struct {
	Store     Store
	Files     Files
	Lab       Lab
	Fleet     Fleet
	Keys      Keys
	Clocks    Clocks
	Campaigns Campaigns
	Review    Review
	Publish   func() error // after the list of CAs has changed
	Restart   func()       // ends the service, so that a restored copy is put in place when it is started again
	Health    func(context.Context) order.ControllerHealth
	Logger    *slog.Logger
	Now       func() time.Time

	Patience time.Duration // how long a body may stand still

	bundles bundles
}

// url returns a link for people.
func (a *API) url(parts ...string) string {
	d := a.Lab.Desired()
	return BaseURL(d) + "/" + strings.Join(parts, "/")
}

// BaseURL is where people reach the service, without a slash at the end.
func BaseURL(d order.ControllerDesired) string {
	if d.ExternalURL != "" {
		return strings.TrimRight(d.ExternalURL, "/")
	}
	host := "localhost"
	switch {
	case len(d.Addresses) > 0:
		host = d.Addresses[0]
	case d.BindAddress != "":
		host = d.BindAddress
	}
	return "https://" + hostPort(host, d.Port)
}
