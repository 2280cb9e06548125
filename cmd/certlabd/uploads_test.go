package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/server"
)

// raw opens a connection of the agent's that speaks HTTP/1.1 as it is written.
func (a *agent) raw() *tls.Conn {
	config := &tls.Config{RootCAs: a.lab.roots(), Certificates: []tls.Certificate{a.cert}, NextProtos: []string{"http/1.1"}, ClientSessionCache: a.sessions}
	c, err := tls.Dial("tcp", strings.TrimPrefix(a.lab.url(), "https://"), config)
	require.NoError(a.t, err)
	require.NoError(a.t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

// head is the head of a PATCH, with more lines of its own.
func (f file) head(offset int, more ...string) string {
	lines := append([]string{"PATCH " + f.path() + " HTTP/1.1", "Host: controller", "Upload-Offset: " + strconv.Itoa(offset), "Upload-Length: " + strconv.FormatInt(f.Size, 10),
		"Certlab-File-Kind: " + string(f.Kind), "Certlab-File-Name: " + f.Name}, more...)
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// cut sends the file's bytes from..to on a connection that then breaks: reset, or closed as a process that ends does it.
func (a *agent) cut(f file, from, to int, reset bool) {
	c := a.raw()
	_, err := io.WriteString(c, f.head(from, "Content-Length: "+strconv.Itoa(len(f.bytes)-from))+string(f.bytes[from:to]))
	require.NoError(a.t, err)
	if reset {
		require.NoError(a.t, c.NetConn().(*net.TCPConn).SetLinger(0))
	}
	require.NoError(a.t, c.NetConn().Close())
}

// onDisk is how many bytes of an upload are in the controller's storage.
func (l *lab) onDisk(f file) int64 {
	paths, err := filepath.Glob(filepath.Join(l.desired.DataDir, "blobs", "partial", "*"+f.SHA256))
	require.NoError(l.t, err)
	if len(paths) == 0 {
		return 0
	}
	info, err := os.Stat(paths[0])
	require.NoError(l.t, err)
	return info.Size()
}

func (l *lab) stored(sha string) []byte {
	content, err := os.ReadFile(filepath.Join(l.desired.DataDir, "blobs", sha[:2], sha))
	require.NoError(l.t, err)
	return content
}

// TestFaultUploadCutAtEveryTenthByte breaks the connection after every tenth byte of an archive and goes on where the controller says.
func TestFaultUploadCutAtEveryTenthByte(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 0)
	a.sessions = tls.NewLRUClientSessionCache(1)
	l := newLab(t, a)
	run := runID()
	_, status := a.report(running(run, 1))
	require.Equal(t, http.StatusOK, status)
	f := newFile(run, 1, order.SubmissionFile, "submission.tar.xz", sample(t, "v2.9.1-odd.tar.xz"))
	at, cuts := 0, 0
	for to := 10; to < len(f.bytes); to += 10 {
		a.cut(f, at, to, cuts%2 == 0)
		cuts++
		offset, complete := a.offset(f)
		n, err := strconv.Atoi(offset)
		require.NoError(t, err)
		require.Equal(t, "false", complete)
		require.GreaterOrEqual(t, n, at, "what was durable stays so")
		require.LessOrEqual(t, n, to)
		require.LessOrEqual(t, int64(n), l.onDisk(f), "no more is promised than is there")
		at = n
	}
	require.Greater(t, cuts, 300)
	var ack order.FileAck
	require.Eventually(t, func() bool { // the last one that was cut off may still be written
		status, next, got, err := a.patch(f, at, bytes.NewReader(f.bytes[at:]), int64(len(f.bytes)-at))
		require.NoError(t, err)
		if status == http.StatusConflict {
			at, err = strconv.Atoi(next)
			require.NoError(t, err)
			return false
		}
		require.Equal(t, http.StatusOK, status)
		ack = got
		return true
	}, patience, 10*time.Millisecond)
	require.True(t, bytes.Equal(f.bytes, l.stored(f.SHA256)))
	missing, status := a.finish(finished(running(run, 2), f))
	require.Empty(t, missing)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, cert.IndexDone, indexed(t, l.person(cert.Viewer), ack.Submission).IndexState)
}

// TestFaultUploadTwice: the same file again, at once or later, by two attempts or of two runs, is stored once for each and never mixed.
func TestFaultUploadTwice(t *testing.T) {
	t.Parallel()
	a, other := newAgent(t, 0), newAgent(t, 1)
	l := newLab(t, a, other)
	viewer := l.person(cert.Viewer)
	archive := sample(t, "head-small.tar.xz")
	begin := func(a *agent) file {
		run := runID()
		_, status := a.report(running(run, 1))
		require.Equal(t, http.StatusOK, status)
		return newFile(run, 1, order.SubmissionFile, "submission.tar.xz", archive)
	}
	first := begin(a)
	ack := a.upload(first)
	require.Equal(t, ack, a.upload(first), "later")

	t.Run("at once", func(t *testing.T) {
		f := begin(a)
		f.bytes = append(bytes.Clone(archive), bytes.Repeat([]byte{0}, 512)...)
		f = newFile(f.run, 1, order.SubmissionFile, f.Name, f.bytes)
		var done, busy atomic.Int32
		var ids sync.Map
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				status, _, ack, err := a.patch(f, 0, bytes.NewReader(f.bytes), f.Size)
				switch {
				case err != nil:
					t.Error(err)
				case status == http.StatusOK:
					done.Add(1)
					ids.Store(ack.Submission, true)
				case status == http.StatusConflict:
					busy.Add(1)
				default:
					t.Errorf("status %d", status)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 8, done.Load()+busy.Load())
		require.GreaterOrEqual(t, done.Load(), int32(1))
		ids.Store(a.upload(f).Submission, true)
		n := 0
		ids.Range(func(any, any) bool { n++; return true })
		require.Equal(t, 1, n, "one submission")
		require.True(t, bytes.Equal(f.bytes, l.stored(f.SHA256)))
	})
	t.Run("by two attempts, and of two runs, and of two machines", func(t *testing.T) {
		second := first
		second.attempt = 2
		again, others := begin(a), begin(other)
		seen := map[string]bool{ack.Submission: true}
		for _, by := range []struct {
			a *agent
			f file
		}{{a, second}, {a, again}, {other, others}} {
			got := by.a.upload(by.f)
			require.False(t, seen[got.Submission], "each has its own")
			seen[got.Submission] = true
			s := indexed(t, viewer, got.Submission)
			require.Equal(t, by.f.run, s.Run)
			require.Equal(t, by.f.attempt, s.Attempt)
		}
	})
}

// TestFaultUploadRefused: what cannot be right is refused with the reason, and the file is welcome after it.
func TestFaultUploadRefused(t *testing.T) {
	t.Parallel()
	a, other := newAgent(t, 0), newAgent(t, 1)
	l := &accessLab{lab: newLab(t, a, other)}
	run := runID()
	_, status := a.report(running(run, 1))
	require.Equal(t, http.StatusOK, status)
	content := bytes.Repeat([]byte("x"), 1000)
	f := newFile(run, 1, order.ConsoleFile, "console.log", content)
	send := func(text string) string {
		c := a.raw()
		defer c.Close()
		go io.WriteString(c, text) // the answer may come before all is sent
		answer, _ := io.ReadAll(io.LimitReader(c, 2000))
		return string(answer)
	}
	length := func(n int) []string { return []string{"Content-Length: " + strconv.Itoa(n), "Connection: close"} }
	wrong := newFile(run, 1, order.ConsoleFile, "console.log", []byte("other"))
	wrong.Size = f.Size
	short := f
	short.Size = 400
	cases := []struct{ name, text, status, message string }{
		{"wrong hash", wrong.head(0, length(1000)...) + string(content), "422", "cannot store the file: the bytes do not have the promised SHA-256; upload it again from the start"},
		{"longer than declared", short.head(0, length(1000)...) + string(content), "422", "cannot store the file: more bytes than were promised; upload it again from the start"},
		{"beyond the end", f.head(7, length(993)...) + string(content[7:]), "409", "cannot continue the upload there: the upload has 0 durable bytes: continue there"},
		{"compressed", f.head(0, append(length(1000), "Content-Encoding: gzip")...) + string(content), "400", `cannot read a body with the Content-Encoding \"gzip\": send it as it is`},
		{"without its length", strings.Replace(f.head(0, length(1000)...), "Upload-Length: 1000", "Upload-Length: many", 1) + string(content), "422", `the header Upload-Length is \"many\": it must be a number of bytes`},
		{"a negative offset", f.head(-1, length(1000)...) + string(content), "422", `the header Upload-Offset is \"-1\": it must be a number of bytes`},
		{"a path for a name", strings.Replace(f.head(0, length(1000)...), "console.log", "../console.log", 1) + string(content), "422", "it must be a plain name of at most 255 bytes"},
		{"of a run that nobody knows", strings.Replace(f.head(0, length(1000)...), run, strings.Repeat("r", 27), 1) + string(content), "404", "there is no run"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			answer := send(c.text)
			require.True(t, strings.HasPrefix(answer, "HTTP/1.1 "+c.status), answer)
			require.Contains(t, answer, c.message)
			require.Zero(t, l.onDisk(f))
		})
	}
	t.Run("larger than the site takes", func(t *testing.T) {
		large := f
		large.Size = 65 << 20
		answer := send(large.head(0, length(1000)...) + string(content))
		require.True(t, strings.HasPrefix(answer, "HTTP/1.1 413"), answer)
		require.Contains(t, answer, "cannot store a file of 68157440 bytes: this site takes at most 67108864 (max-submission-size)")
	})
	t.Run("endless", func(t *testing.T) {
		c := a.raw()
		defer c.Close()
		_, err := io.WriteString(c, f.head(0, "Transfer-Encoding: chunked"))
		require.NoError(t, err)
		sent := 0
		chunk := fmt.Sprintf("%x\r\n%s\r\n", 64<<10, bytes.Repeat([]byte("x"), 64<<10))
		for err == nil && sent < 64<<20 {
			var n int
			n, err = io.WriteString(c, chunk)
			sent += n
		}
		require.Error(t, err, "the connection is closed")
		require.Less(t, sent, 16<<20)
		require.Zero(t, l.onDisk(f))
	})
	t.Run("before what is durable", func(t *testing.T) {
		part := f
		status, next, _, err := a.patch(part, 0, bytes.NewReader(content[:600]), 600)
		require.NoError(t, err)
		require.Equal(t, http.StatusNoContent, status)
		require.Equal(t, "600", next)
		answer := send(f.head(100, length(900)...) + string(content[100:]))
		require.Contains(t, answer, "cannot continue the upload there: the upload has 600 durable bytes: continue there")
		require.Contains(t, answer, "\r\nUpload-Offset: 600\r\n")
		require.EqualValues(t, 600, l.onDisk(f))
	})
	t.Run("in chunks", func(t *testing.T) {
		answer := send(f.head(600, "Transfer-Encoding: chunked", "Connection: close") + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", 400, content[600:]))
		require.True(t, strings.HasPrefix(answer, "HTTP/1.1 200"), "what needs no length is taken without: %s", answer)
		require.Equal(t, content, l.stored(f.SHA256))
	})
	t.Run("to a run that is over", func(t *testing.T) {
		end := finished(running(run, 2), f)
		end.State, end.Failure = order.Failed, &order.Failure{Type: order.FailNoArchive, Message: "none"}
		_, status := a.finish(end)
		require.Equal(t, http.StatusOK, status)
		late := newFile(run, 1, order.ConsoleFile, "late.log", []byte("late"))
		answer := send(late.head(0, length(4)...) + "late")
		require.True(t, strings.HasPrefix(answer, "HTTP/1.1 409"), answer)
		require.Contains(t, answer, "cannot add a file to run "+run+": it is failed, and all its files had arrived")
		require.Equal(t, f.SHA256, a.upload(f).SHA256, "what it has is acknowledged again")
	})
	t.Run("to a run that was cancelled meanwhile", func(t *testing.T) {
		run := runID()
		_, status := a.report(running(run, 1))
		require.Equal(t, http.StatusOK, status)
		_, err := l.person(cert.Engineer).CancelRun(t.Context(), run)
		require.NoError(t, err)
		f := newFile(run, 1, order.ConsoleFile, "console.log", content)
		require.Equal(t, f.SHA256, a.upload(f).SHA256, "what there is of it is kept")
	})
}

// TestFaultSlowLoris: who sends next to nothing is cut off, keeps what arrived, and holds up nobody.
func TestFaultSlowLoris(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 0)
	l := newTunedLab(t, func(s *service) {
		s.limits = server.DefaultLimits()
		s.limits.Patience, s.limits.Head = 500*time.Millisecond, 500*time.Millisecond
	}, a)
	run := runID()
	_, status := a.report(running(run, 1))
	require.Equal(t, http.StatusOK, status)
	f := newFile(run, 1, order.ConsoleFile, "console.log", bytes.Repeat([]byte("x"), 1000))
	t.Run("a body that stands still", func(t *testing.T) {
		c := a.raw()
		defer c.Close()
		_, err := io.WriteString(c, f.head(0, "Content-Length: 1000")+"xxxxxxx")
		require.NoError(t, err)
		answer, err := io.ReadAll(c)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(answer), "HTTP/1.1 400"), string(answer))
		require.Contains(t, string(answer), "the upload was too slow, or stood still: 7 bytes are durable, continue there")
		require.Contains(t, string(answer), "\r\nUpload-Offset: 7\r\n")
	})
	t.Run("a body that drips", func(t *testing.T) {
		c := a.raw()
		defer c.Close()
		_, err := io.WriteString(c, f.head(7, "Content-Length: 993"))
		require.NoError(t, err)
		over := make(chan struct{})
		go func() {
			defer close(over)
			drip := time.NewTicker(50 * time.Millisecond)
			defer drip.Stop()
			for range 900 {
				<-drip.C
				if _, err := io.WriteString(c, "x"); err != nil {
					return
				}
			}
		}()
		answer, _ := io.ReadAll(c)
		c.Close()
		<-over
		require.Contains(t, string(answer), "the upload was too slow, or stood still", "although something came in time each time")
	})
	t.Run("a head that drips", func(t *testing.T) {
		c := a.raw()
		defer c.Close()
		_, err := io.WriteString(c, "GET /agent/v1/poll HTTP/1.1\r\nHost: controller\r\nX-Sl")
		require.NoError(t, err)
		answer, err := io.ReadAll(c)
		require.NoError(t, err, "closed, and not by this side's deadline")
		require.NotContains(t, string(answer), "200 OK")
	})
	t.Run("a handshake that never comes", func(t *testing.T) {
		c, err := net.Dial("tcp", strings.TrimPrefix(l.url(), "https://"))
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
		_, err = io.ReadAll(c)
		require.NoError(t, err)
	})
	offset, _ := a.offset(f)
	at, err := strconv.Atoi(offset)
	require.NoError(t, err)
	require.GreaterOrEqual(t, at, 7)
	status, _, _, err = a.patch(f, at, bytes.NewReader(f.bytes[at:]), int64(1000-at))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
}
