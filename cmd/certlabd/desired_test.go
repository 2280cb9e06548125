package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"database/sql"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/client"
	"certlab/internal/order"
)

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestTheDesiredStateIsAppliedWhileItRuns(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 0)
	l := newLab(t, a)
	for name, mode := range map[string]os.FileMode{order.ControllerSocket: 0o600, "desired.json": 0o600} {
		info, err := os.Stat(filepath.Join(l.dir, name))
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode().Perm(), name)
	}
	for _, path := range []string{"keys/ca-0001.key", "keys/server.pem", "certlab.db"} {
		info, err := os.Stat(filepath.Join(l.desired.DataDir, path))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), path)
	}

	// Another port and another name.
	port := freePort(t)
	l.apply(func(d *order.ControllerDesired) { d.Port, d.Addresses = port, []string{"lab.example", "127.0.0.1"} })
	require.Equal(t, fmt.Sprintf("https://127.0.0.1:%d", port), l.url())
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{RootCAs: l.roots(), ServerName: "lab.example"})
	require.NoError(t, err)
	require.True(t, conn.ConnectionState().PeerCertificates[0].NotBefore.Before(time.Now().Add(-23*time.Hour)), "for machines with a wrong clock")
	conn.Close()
	a.poll(0)

	// One that is taken: the service goes on where it was, says what is wrong, and goes there once it is free.
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l.desired.Port = taken.Addr().(*net.TCPAddr).Port
	l.write()
	l.hup <- nil
	require.Eventually(t, func() bool { return strings.Contains(l.service.health(t.Context()).Problem, "cannot serve on") }, patience, 10*time.Millisecond)
	require.False(t, l.service.health(t.Context()).Ready)
	a.poll(0)
	taken.Close()
	require.Eventually(t, func() bool { return l.service.health(t.Context()).Ready }, patience, 10*time.Millisecond)
	require.Equal(t, fmt.Sprintf("https://127.0.0.1:%d", l.desired.Port), l.url())

	// Nonsense changes nothing.
	was := l.service.health(t.Context()).Applied
	require.NoError(t, os.WriteFile(filepath.Join(l.dir, "desired.json"), []byte("{"), 0o600))
	require.Eventually(t, func() bool { return strings.Contains(l.service.health(t.Context()).Problem, "desired state") }, patience, 10*time.Millisecond, "also without a signal")
	require.Equal(t, was, l.service.health(t.Context()).Applied)
	a.poll(0)
	l.write()
	require.Eventually(t, func() bool { return l.service.health(t.Context()).Ready }, patience, 10*time.Millisecond)

	// Another data directory ends the service, so that it starts on that.
	l.desired.DataDir = filepath.Join(t.TempDir(), "other")
	l.write()
	l.hup <- nil
	require.ErrorIs(t, <-l.done, errRestart)
	l.cancel = nil
}

func TestTheServiceEndsAlthoughAgentsWaitForOrders(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 0)
	l := newLab(t, a)
	a.poll(0)
	status := make(chan int, 1)
	go func() { status <- l.call(a.http, "GET", l.url()+"/agent/v1/poll?wait=50", nil, nil) }()
	select {
	case <-status:
		require.Fail(t, "there was nothing to answer with")
	case <-time.After(300 * time.Millisecond):
	}
	begin := time.Now()
	l.stop()
	require.Less(t, time.Since(begin), shutdownTime/2)
	require.Equal(t, http.StatusOK, <-status)
}

func TestTheCharmIsToldOfChanges(t *testing.T) {
	t.Parallel()
	told := filepath.Join(t.TempDir(), "told")
	a := newAgent(t, 0)
	l := newLab(t, a)
	l.apply(func(d *order.ControllerDesired) { d.DispatchCommand = []string{"sh", "-c", "echo x >>" + told} })
	size := func() int64 {
		info, err := os.Stat(told)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	require.Eventually(t, func() bool { return size() > 0 }, patience, 10*time.Millisecond)
	before := size()
	_, status := a.report(running(runID(), 1))
	require.Equal(t, http.StatusOK, status)
	require.Eventually(t, func() bool { return size() > before }, patience, 10*time.Millisecond)
	require.Equal(t, 1, l.service.health(t.Context()).Running)
	require.Equal(t, 1, l.service.health(t.Context()).Machines)
}

func TestASecondServiceOnTheSameDataEnds(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	_, err := newService(t.Context(), l.dir, &bytes.Buffer{})
	require.ErrorContains(t, err, "another certlabd is running")
	// The first is none the worse for it.
	require.Equal(t, http.StatusOK, l.call(l.socket(), "GET", "http://local/health/ready", nil, nil))
}

func TestStorageThatIsNotMountedIsNotWrittenTo(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.stop()
	l.desired.DataMark = ".certlab-storage"
	l.desired.DataDir = filepath.Join(t.TempDir(), "not-mounted")
	l.write()
	_, err := newService(t.Context(), l.dir, &bytes.Buffer{})
	require.ErrorContains(t, err, "not mounted")
	require.NoDirExists(t, l.desired.DataDir)
}

func TestANewerDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.stop()
	path := filepath.Join(l.desired.DataDir, "certlab.db")
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	_, err = db.Exec("PRAGMA user_version = 9999")
	require.NoError(t, err)
	require.NoError(t, db.Close())
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	_, err = newService(t.Context(), l.dir, &bytes.Buffer{})
	require.ErrorContains(t, err, "a newer certlabd has written it (schema 9999")
	require.ErrorContains(t, err, "refresh cert-controller")
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(before, after), "it was not touched")
	var out, errs bytes.Buffer
	require.Equal(t, 1, run(t.Context(), []string{"check", "--data", l.desired.DataDir}, &out, &errs))
	require.Contains(t, errs.String(), "newer")
}

// process is certlabd as a process of its own.
type process struct {
	*exec.Cmd
	errs *syncBuffer
}

func (l *lab) process() *process {
	p := &process{exec.Command(os.Args[0], "run", "--dir", l.dir), &syncBuffer{}}
	p.Env = append(os.Environ(), "CERTLABD_TEST_MAIN=1")
	p.Stderr = p.errs
	require.NoError(l.t, p.Start())
	l.t.Cleanup(func() {
		if p.ProcessState == nil {
			_ = p.Process.Kill()
			_ = p.Wait()
		}
	})
	require.Eventually(l.t, func() bool {
		resp, err := l.socket().Get("http://local/health/ready")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, patience, 20*time.Millisecond)
	return p
}

func TestKilledInTheMiddleOfAnUpload(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 0)
	l := newLab(t, a)
	token := l.token(cert.Viewer)
	l.stop()
	l.apply2(func(d *order.ControllerDesired) { d.Port = freePort(t) })
	p := l.process()
	l.service.tls = &listener{net: fixedAddress(l.desired.Port)}
	run, archive := runID(), sample(t, "head-800jobs.tar.xz")
	_, status := a.report(running(run, 1))
	require.Equal(t, http.StatusOK, status)
	f := newFile(run, 1, order.SubmissionFile, "submission.tar.xz", archive)
	half := len(archive) / 2
	status, _, _, err := a.patch(f, 0, bytes.NewReader(archive[:half]), int64(half))
	require.NoError(t, err)
	require.Equal(t, http.StatusNoContent, status)
	require.NoError(t, p.Process.Kill())
	require.Error(t, p.Wait())

	p = l.process()
	offset, complete := a.offset(f)
	require.Equal(t, fmt.Sprint(half), offset)
	require.Equal(t, "false", complete)
	status, _, ack, err := a.patch(f, half, bytes.NewReader(archive[half:]), int64(len(archive)-half))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	require.NoError(t, p.Process.Kill(), "acknowledged, perhaps not indexed")
	require.Error(t, p.Wait())

	p = l.process()
	missing, status := a.finish(finished(running(run, 2), f))
	require.Empty(t, missing)
	require.Equal(t, http.StatusOK, status)
	viewer, err := client.New(client.Options{URL: l.url(), CAs: l.cas(), Token: token})
	require.NoError(t, err)
	require.Equal(t, cert.IndexDone, indexed(t, viewer, ack.Submission).IndexState)
	require.NoError(t, p.Process.Signal(os.Interrupt))
	require.NoError(t, p.Wait(), p.errs.String())
}

// apply2 changes the desired state of a lab that is stopped.
func (l *lab) apply2(change func(*order.ControllerDesired)) {
	change(&l.desired)
	l.write()
}

// fixedAddress is a listener that only has an address.
type fixedAddress int

func (a fixedAddress) Addr() net.Addr            { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(a)} }
func (a fixedAddress) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (a fixedAddress) Close() error              { return nil }

func TestABackupIsRestored(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 0)
	l := newLab(t, a)
	viewer, ctx := l.person(cert.Viewer), t.Context()
	first := a.deliver(runID(), sample(t, "head-small.tar.xz"))
	indexed(t, viewer, first.Submission)
	state := func(c *client.Client) (all []any) {
		machines, err := c.Machines(ctx, nil, 0)
		require.NoError(t, err)
		for n := range machines {
			machines[n].Seen = nil
		}
		runs, err := c.Runs(ctx, nil, 0)
		require.NoError(t, err)
		subs, err := c.Submissions(ctx, nil, 0)
		require.NoError(t, err)
		results, err := c.Results(ctx, nil, 0)
		require.NoError(t, err)
		return []any{machines, runs, subs, results, l.cas()}
	}
	want := state(viewer)
	path := filepath.Join(t.TempDir(), "new", "backup.tar")
	var made cert.Backup
	require.Equal(t, http.StatusOK, l.call(l.socket(), "POST", "http://local/api/v1/admin/backup", cert.BackupRequest{Path: path}, &made))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.Equal(t, made.Size, info.Size())
	require.Equal(t, http.StatusConflict, l.call(l.socket(), "POST", "http://local/api/v1/admin/backup", cert.BackupRequest{Path: path}, nil), "nothing is overwritten")

	// More happens, and is not in the backup.
	indexed(t, viewer, a.deliver(runID(), sample(t, "v5.0.0-odd.tar.xz")).Submission)
	require.Equal(t, http.StatusOK, l.call(l.socket(), "POST", "http://local/api/v1/admin/rotate-ca", nil, nil))
	require.NotEqual(t, want, state(viewer))

	var done cert.Restored
	require.Equal(t, http.StatusUnprocessableEntity, l.call(l.socket(), "POST", "http://local/api/v1/admin/restore", cert.RestoreRequest{Path: os.Args[0]}, nil))
	unknown := filepath.Join(l.desired.DataDir, "operators-own")
	require.NoError(t, os.WriteFile(unknown, nil, 0o600))
	require.Equal(t, http.StatusOK, l.call(l.socket(), "POST", "http://local/api/v1/admin/restore", cert.RestoreRequest{Path: path}, &done))
	require.Equal(t, 1, done.Blobs)
	require.ErrorIs(t, <-l.done, errRestart)
	l.cancel = nil
	l.start()
	again, err := client.New(client.Options{URL: l.url(), CAs: l.cas(), Token: l.token2("after")})
	require.NoError(t, err)
	require.Equal(t, want, state(again))
	require.FileExists(t, unknown)
	require.FileExists(t, filepath.Join(done.SetAside, "certlab.db"))
	a.connect(l)
	a.poll(0)
	second := a.deliver(runID(), sample(t, "v5.0.0-odd.tar.xz"))
	require.Equal(t, cert.IndexDone, indexed(t, again, second.Submission).IndexState)

	// Into an empty directory, by command; damage is found.
	var out, errs bytes.Buffer
	data := filepath.Join(t.TempDir(), "data")
	require.Equal(t, 0, run(ctx, []string{"restore", "--from", path, "--data", data}, &out, &errs), errs.String())
	require.Equal(t, 1, run(ctx, []string{"restore", "--from", path, "--data", data}, &out, &errs))
	require.Contains(t, errs.String(), "--set-aside")
	require.Equal(t, 0, run(ctx, []string{"check", "--data", data}, &out, &errs), errs.String())
	require.Equal(t, 0, run(ctx, []string{"reindex", "--data", data}, &out, &errs), errs.String())
	blob := filepath.Join(data, "blobs", first.SHA256[:2], first.SHA256)
	content, err := os.ReadFile(blob)
	require.NoError(t, err)
	content[100] ^= 1
	require.NoError(t, os.WriteFile(blob, content, 0o600))
	errs.Reset()
	require.Equal(t, 1, run(ctx, []string{"check", "--data", data}, &out, &errs))
	require.Contains(t, errs.String(), "1 files are missing or altered")
	require.Contains(t, out.String(), first.SHA256)
	without := filepath.Join(t.TempDir(), "b.tar")
	require.Equal(t, 1, run(ctx, []string{"backup", "--data", data, "--to", without}, &out, &errs), "damage is not backed up as if it were whole")
	require.Contains(t, errs.String(), "is damaged on disk")
	require.NoFileExists(t, without)
	out.Reset()
	require.Equal(t, 0, run(ctx, []string{"backup", "--data", data, "--to", without}, &out, &errs), "tried again it is made without that file")
	require.Contains(t, out.String(), "1 files are not in it")
	require.Equal(t, 0, run(ctx, []string{"restore", "--from", without, "--data", filepath.Join(t.TempDir(), "data")}, &out, &errs), errs.String())
	out.Reset()
	require.Equal(t, 0, run(ctx, []string{"repair", "--data", data, "--backup", path}, &out, &errs), errs.String())
	require.Contains(t, out.String(), "1 files taken from the backup")
	require.Equal(t, 0, run(ctx, []string{"check", "--data", data}, &out, &errs), errs.String())
	out.Reset()
	require.Equal(t, 0, run(ctx, []string{"repair", "--data", data, "--backup", path}, &out, &errs), errs.String())
	require.Contains(t, out.String(), "nothing to repair")
}

// token2 makes a viewer's token of that name.
func (l *lab) token2(name string) string {
	var made cert.CreatedToken
	require.Equal(l.t, http.StatusCreated, l.call(l.socket(), "POST", "http://local/api/v1/tokens", cert.NewToken{Name: name, Role: "viewer"}, &made))
	c, err := client.New(client.Options{URL: l.url(), CAs: l.cas()})
	require.NoError(l.t, err)
	redeemed, err := c.Redeem(context.Background(), made.Code)
	require.NoError(l.t, err)
	return redeemed.Secret
}
