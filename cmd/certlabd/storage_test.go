package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// page reads a page as a person with that token.
func (l *lab) page(token, path string) string {
	req, err := http.NewRequestWithContext(l.t.Context(), "GET", l.url()+path, nil)
	require.NoError(l.t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	c := &agent{t: l.t}
	c.connect(l)
	resp, err := c.http.Do(req)
	require.NoError(l.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(l.t, err)
	return string(text)
}

// TestFaultDamagedDatabaseIsToldToEverybody goes from a database that is known to be damaged to one that the repair over the socket has made.
func TestFaultDamagedDatabaseIsToldToEverybody(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 0)
	l := newLab(t, a)
	viewer := l.token(cert.Viewer)
	ack := a.deliver(runID(), sample(t, "head-small.tar.xz"))
	l.stop()
	database := filepath.Join(l.desired.DataDir, "certlab.db")
	// As an earlier process has left it. A page that holds nothing that this test reads is bad, so that a closer look finds it too.
	require.NoError(t, os.WriteFile(database+sqlite.DamageName, []byte(`{"where":["table results: database disk image is malformed"]}`), 0o600))
	content, err := os.ReadFile(database)
	require.NoError(t, err)
	at := bytes.LastIndex(content, []byte("com.example.lab::")) / 4096 * 4096
	copy(content[at:at+16], bytes.Repeat([]byte{0xee}, 16))
	require.NoError(t, os.WriteFile(database, content, 0o600))

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s, err := newService(ctx, l.dir, &l.log)
	require.NoError(t, err)
	l.service, l.cancel, l.done, l.hup = s, cancel, make(chan error, 1), make(chan os.Signal)
	go func() {
		err := s.run(ctx, l.hup)
		s.close()
		l.done <- err
	}()
	require.Eventually(t, func() bool { return s.health(ctx).Applied != "" }, patience, 5*time.Millisecond)
	a.connect(l)
	const said = "the database is damaged ("
	h := s.health(ctx)
	require.False(t, h.Ready)
	require.Contains(t, h.Problem, said)
	require.Contains(t, h.Problem, "run the repair action, or certlabd repair --data "+l.desired.DataDir)
	var site cert.Site
	require.Equal(t, http.StatusOK, l.call(l.socket(), "GET", "http://local/api/v1/site", nil, &site))
	require.Contains(t, site.Problems[0], said)
	require.Contains(t, l.page(viewer, "/"), said)
	require.Eventually(t, func() bool { return strings.Contains(l.log.String(), "state of the storage") }, patience, 5*time.Millisecond)

	// Agents are told to come again, not that nobody knows them; what was delivered can be read.
	run := runID()
	var body struct {
		Error struct{ Code, Message string } `json:"error"`
	}
	require.Equal(t, http.StatusServiceUnavailable, l.call(a.http, "PUT", l.url()+"/agent/v1/runs/"+run, running(run, 1), &body))
	require.Contains(t, body.Error.Message, "the controller's database is damaged: nothing is written until an admin repairs it")
	var sub cert.Submission
	require.Equal(t, http.StatusOK, l.call(l.socket(), "GET", "http://local/api/v1/submissions/"+ack.Submission, nil, &sub))
	require.Equal(t, http.StatusConflict, l.call(l.socket(), "POST", "http://local/api/v1/admin/backup", cert.BackupRequest{Path: filepath.Join(t.TempDir(), "b.tar")}, &body))
	require.Contains(t, body.Error.Message, "keep the backups that you have")

	var done cert.Repaired
	require.Equal(t, http.StatusOK, l.call(l.socket(), "POST", "http://local/api/v1/admin/repair", cert.RepairRequest{}, &done))
	require.True(t, done.Database)
	require.Empty(t, done.Lost)
	require.ErrorIs(t, <-l.done, errRestart)
	l.cancel = nil
	l.start()
	a.connect(l)
	require.Empty(t, l.service.health(t.Context()).Problems)
	require.Equal(t, cert.IndexDone, indexed(t, l.person(cert.Engineer), ack.Submission).IndexState)
	a.deliver(run, sample(t, "head-small.tar.xz"))
	require.NotEmpty(t, a.poll(0).Epoch)
}

// TestFaultLostFileComesBackFromTheMachine goes the whole way over HTTP.
func TestFaultLostFileComesBackFromTheMachine(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 0)
	l := newLab(t, a)
	run, archive := runID(), sample(t, "head-small.tar.xz")
	a.deliver(run, archive)
	f := newFile(run, 1, order.SubmissionFile, "submission.tar.xz", archive)
	blob := filepath.Join(l.desired.DataDir, "blobs", f.SHA256[:2], f.SHA256)
	require.NoError(t, os.Remove(blob))
	polled := make(chan order.Poll, 1)
	go func() { polled <- a.poll(50) }()
	require.NoError(t, l.service.lab.LookAtFiles(t.Context()))
	p := <-polled
	require.Equal(t, []order.Resend{{Run: run, Attempt: 1, File: f.File}}, p.Resend)
	h := l.service.health(t.Context())
	require.True(t, h.Ready, "the rest of the service works")
	require.Contains(t, h.Problem, "submission.tar.xz of run "+run)
	require.Contains(t, h.Problem, "is missing on disk: the machine was asked to send it again")
	var body struct {
		Error struct{ Code, Message string } `json:"error"`
	}
	path := "/api/v1/runs/" + run + "/attempts/1/files/" + f.SHA256
	require.Equal(t, http.StatusServiceUnavailable, l.call(l.socket(), "GET", "http://local"+path, nil, &body))
	require.Contains(t, body.Error.Message, "it is missing on the controller's disk")

	// The machine may have no copy; then a person is told.
	require.Equal(t, http.StatusNoContent, l.call(a.http, "POST", l.url()+f.path()+"/gone", order.FileGone{Reason: "kept for 7 days only"}, nil))
	require.Contains(t, l.service.health(t.Context()).Problem, "the machine cannot send it again (kept for 7 days only): run certlabd repair")
	require.Empty(t, a.poll(0).Resend)

	offset, complete := a.offset(f)
	require.Equal(t, "0", offset)
	require.Equal(t, "false", complete)
	a.upload(f)
	require.Empty(t, l.service.health(t.Context()).Problems)
	stored, err := os.ReadFile(blob)
	require.NoError(t, err)
	require.True(t, bytes.Equal(archive, stored))
}

// TestFaultFullDiskOverHTTP fills the disk while an agent uploads, and makes room again.
func TestFaultFullDiskOverHTTP(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 0)
	l := newLab(t, a)
	l.stop()
	dir := l.desired.DataDir
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=6m"); err != nil {
		t.Skipf("a full disk needs a mount, which is not allowed here: %v", err)
	}
	t.Cleanup(func() {
		l.stop()
		require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH))
	})
	l.start()
	a.connect(l)
	run := runID()
	_, status := a.report(running(run, 1))
	require.Equal(t, http.StatusOK, status)
	var fs unix.Statfs_t
	require.NoError(t, unix.Statfs(dir, &fs))
	filler, err := os.Create(filepath.Join(dir, "fill"))
	require.NoError(t, err)
	require.NoError(t, unix.Fallocate(int(filler.Fd()), 0, 0, int64(fs.Bavail)*fs.Bsize-200<<10))
	require.NoError(t, filler.Close())

	f := newFile(run, 1, order.ConsoleFile, "console.log", bytes.Repeat([]byte("x"), 1<<20))
	req, err := http.NewRequestWithContext(t.Context(), "PATCH", l.url()+f.path(), bytes.NewReader(f.bytes))
	require.NoError(t, err)
	for name, value := range map[string]string{"Upload-Offset": "0", "Upload-Length": fmt.Sprint(f.Size), "Certlab-File-Kind": string(f.Kind), "Certlab-File-Name": f.Name} {
		req.Header.Set(name, value)
	}
	resp, err := a.http.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusInsufficientStorage, resp.StatusCode)
	require.Contains(t, string(text), "cannot store the file: the controller's disk is full; it will be taken when there is room")
	require.NotEmpty(t, resp.Header.Get("Retry-After"))
	h := l.service.health(t.Context())
	require.False(t, h.Ready)
	require.Contains(t, h.Problem, "the disk of "+dir+" is full: nothing can be stored and agents keep their results; make room or extend the storage")

	require.NoError(t, os.Remove(filepath.Join(dir, "fill")))
	var at int
	offset, complete := a.offset(f)
	require.Equal(t, "false", complete)
	require.Equal(t, resp.Header.Get("Upload-Offset"), offset, "what fitted need not be sent again")
	_, err = fmt.Sscan(offset, &at)
	require.NoError(t, err)
	status, _, _, err = a.patch(f, at, bytes.NewReader(f.bytes[at:]), f.Size-int64(at))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	require.Eventually(t, func() bool { return l.service.health(t.Context()).Ready }, 2*patience, 20*time.Millisecond, "it is over by itself")
}
