package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"certlab/internal/cert"
)

// fakeController answers as a controller that is in trouble would, and is logged in to.
func fakeController(t *testing.T, answer http.HandlerFunc) *httptest.Server {
	s := httptest.NewTLSServer(answer)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	logIn(t, s.URL, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	return s
}

func logIn(t *testing.T, url, ca string) {
	t.Setenv("CERTLAB_CONFIG", filepath.Join(t.TempDir(), "login.json"))
	require.NoError(t, session{URL: url, CAs: []string{ca}, Token: cert.NewSecret(cert.TokenPrefix)}.save())
}

// fails runs a command that must fail in one clear line.
func fails(t *testing.T, args ...string) string {
	code, _, errs := certlab(t, "", args...)
	require.Equal(t, 1, code, "%v: %s", args, errs)
	require.True(t, strings.HasPrefix(errs, "certlab: ") && strings.Count(errs, "\n") == 1, errs)
	return errs
}

// TestFaultController: what is wrong with the controller, or with who answers in its place, is said in one line with what to do.
func TestFaultController(t *testing.T) {
	t.Setenv("CERTLAB_TIMEOUT", "400ms")
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	hang := func(r *http.Request) {
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	}
	for _, c := range []struct {
		name, message string
		answer        http.HandlerFunc
	}{
		{"expired token", "certlab: the token is unknown, revoked or expired (get a new one: certlab login)\n", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error":{"code":"unauthorized","message":"the token is unknown, revoked or expired (get a new one: certlab login)"}}`)
		}},
		{"another program", "certlab: cannot read the controller's answer: it is not what a Certlab controller says (is this its URL?): invalid character '<'", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "<html>hello</html>")
		}},
		{"another error", "certlab: the controller answered 418 I'm a teapot (is this the URL of a Certlab controller?)\n", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusTeapot)
		}},
		{"a proxy whose controller is gone", "certlab: the controller is not there just now: 502 Bad Gateway (try again in a moment)\n", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
		}},
		{"cut off", "certlab: cannot read the controller's answer: it was cut off (try again)\n", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `{"machines":[{"hostname":"a`)
		}},
		{"hanging", "does not answer in time (try again, or look at juju status)\n", func(w http.ResponseWriter, r *http.Request) { hang(r) }},
		{"hanging in the middle", "certlab: cannot read the controller's answer: it stopped in the middle (try again)\n", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `{"machines":[`)
			w.(http.Flusher).Flush()
			hang(r)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fakeController(t, c.answer)
			require.Contains(t, fails(t, "machine", "list"), c.message)
		})
	}
	t.Run("gone", func(t *testing.T) {
		s := fakeController(t, nil)
		s.Close()
		require.Equal(t, "certlab: cannot reach the controller: nothing answers at "+s.URL+" (is it running, and the port right?)\n", fails(t, "site"))
	})
	t.Run("another authority", func(t *testing.T) {
		s := fakeController(t, nil)
		other, err := os.ReadFile("testdata/other-ca.pem")
		require.NoError(t, err)
		logIn(t, s.URL, string(other))
		require.Equal(t, "certlab: cannot trust "+s.URL+": its certificate is signed by an authority that is not known here (certlab login again, and compare the fingerprint)\n", fails(t, "site"))
	})
	t.Run("another name", func(t *testing.T) {
		s := fakeController(t, nil)
		ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
		logIn(t, strings.Replace(s.URL, "127.0.0.1", "localhost", 1), ca)
		require.Regexp(t, `^certlab: cannot trust https://localhost:\d+: its certificate is for other names \(use the URL that certlab site shows\)`, fails(t, "site"))
	})
	t.Run("no TLS", func(t *testing.T) {
		plain := httptest.NewServer(http.NotFoundHandler())
		defer plain.Close()
		s := fakeController(t, nil)
		logIn(t, strings.Replace(plain.URL, "http:", "https:", 1), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
		require.Contains(t, fails(t, "site"), "does not speak TLS (is the port right?)")
	})
	t.Run("hanging before it says anything", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		s := fakeController(t, nil)
		logIn(t, "https://"+l.Addr().String(), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
		require.Contains(t, fails(t, "site"), "does not answer in time")
	})
	t.Run("given up", func(t *testing.T) {
		fakeController(t, func(w http.ResponseWriter, r *http.Request) { hang(r) })
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(50*time.Millisecond, func() { cancel(errors.New("^C")) })
		var errs strings.Builder
		require.Equal(t, 1, run(ctx, []string{"site"}, streams{strings.NewReader(""), io.Discard, &errs}))
		require.Contains(t, errs.String(), "certlab: given up")
	})
}

// archive serves a submission whose archive is content, sent by send.
func archive(content []byte, send func(w http.ResponseWriter)) http.HandlerFunc {
	sum := sha256.Sum256(content)
	return func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/archive") {
			send(w)
			return
		}
		_ = json.NewEncoder(w).Encode(cert.Submission{ID: "s1", SHA256: hex.EncodeToString(sum[:])})
	}
}

// TestFaultDownload: a file that is not whole is never there under its name, nor is anything else left.
func TestFaultDownload(t *testing.T) {
	content := []byte(strings.Repeat("0123456789", 20000))
	for _, c := range []struct {
		name, message string
		send          func(w http.ResponseWriter)
	}{
		{"cut off", "cannot download submission s1: the controller stopped in the middle (try again)\n", func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", strconv.Itoa(len(content)))
			_, _ = w.Write(content[:1000])
		}},
		{"altered", "cannot download submission s1: what arrived does not have its SHA-256 (try again)\n", func(w http.ResponseWriter) {
			_, _ = w.Write([]byte(strings.Repeat("x", len(content))))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fakeController(t, archive(content, c.send))
			dir := t.TempDir()
			require.Contains(t, fails(t, "submission", "download", "s1", "-o", filepath.Join(dir, "a.tar.xz")), c.message)
			requireEmpty(t, dir)
		})
	}
	whole := func(w http.ResponseWriter) { _, _ = w.Write(content) }
	t.Run("full disk", func(t *testing.T) {
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
			t.Skipf("a small file system cannot be mounted here: %v", err)
		}
		t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, 0)) })
		fakeController(t, archive(content, whole))
		path := filepath.Join(dir, "a.tar.xz")
		require.Equal(t, "certlab: cannot write "+path+": the disk is full (nothing is left of it; make room, or name another place with --output)\n", fails(t, "submission", "download", "s1", "-o", path))
		requireEmpty(t, dir)
	})
	t.Run("no such place", func(t *testing.T) {
		fakeController(t, archive(content, whole))
		path := filepath.Join(t.TempDir(), "none", "a.tar.xz")
		require.Equal(t, "certlab: cannot write "+path+": no such file or directory\n", fails(t, "submission", "download", "s1", "-o", path))
	})
	t.Run("over one that is there", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "a.tar.xz")
		require.NoError(t, os.WriteFile(path, []byte("before"), 0o600))
		fakeController(t, archive(content, func(w http.ResponseWriter) { panic(http.ErrAbortHandler) }))
		fails(t, "submission", "download", "s1", "-o", path)
		require.Equal(t, "before", readFile(t, path), "it stays until there is another")
	})
}

func requireEmpty(t *testing.T, dir string) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// TestFaultUploadInterrupted: an upload that breaks goes on where the controller has it, in the same command or in the next.
func TestFaultUploadInterrupted(t *testing.T) {
	t.Setenv("CERTLAB_TIMEOUT", "10s")
	content := []byte(strings.Repeat("0123456789abcdef", 4096))
	path := filepath.Join(t.TempDir(), "submission.tar.xz")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	var have []byte
	breaks := 0 // connections that break, each after a quarter of the file
	fakeController(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			w.Header().Set("Upload-Offset", strconv.Itoa(len(have)))
			return
		}
		if r.Header.Get("Upload-Offset") != strconv.Itoa(len(have)) || r.Header.Get("Upload-Length") != strconv.Itoa(len(content)) {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		if breaks > 0 {
			breaks--
			part, _ := io.ReadAll(io.LimitReader(r.Body, int64(len(content)/4)))
			have = append(have, part...)
			panic(http.ErrAbortHandler)
		}
		rest, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		have = append(have, rest...)
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"id":"s1"}`)
	})
	t.Run("twice", func(t *testing.T) {
		have, breaks = nil, 2
		require.Contains(t, mustCertlab(t, "submission", "add", path, "--machine", "bench"), "s1")
		require.Equal(t, content, have, "each byte once")
	})
	t.Run("by whoever ran it", func(t *testing.T) {
		have, breaks = append([]byte(nil), content[:777]...), 0
		mustCertlab(t, "submission", "add", path, "--machine", "bench")
		require.Equal(t, content, have, "the next command goes on")
	})
	t.Run("for good", func(t *testing.T) {
		fakeController(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.Header().Set("Upload-Offset", "5")
				return
			}
			panic(http.ErrAbortHandler)
		})
		message := fails(t, "submission", "add", path, "--machine", "bench")
		require.Contains(t, message, "cannot add submission.tar.xz: cannot reach the controller")
		require.Contains(t, message, "(what has arrived is kept: repeat the command to go on)")
	})
	t.Run("refused", func(t *testing.T) {
		tries := 0
		fakeController(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.Header().Set("Upload-Offset", "0")
				return
			}
			tries++
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			fmt.Fprint(w, `{"error":{"code":"too-large","message":"cannot store a file of 65536 bytes: this site takes at most 10 (max-submission-size)"}}`)
		})
		require.Equal(t, "certlab: cannot store a file of 65536 bytes: this site takes at most 10 (max-submission-size)\n", fails(t, "submission", "add", path, "--machine", "bench"))
		require.Equal(t, 1, tries, "what will stay wrong is not repeated")
	})
	t.Run("an empty file", func(t *testing.T) {
		empty := filepath.Join(t.TempDir(), "empty")
		require.NoError(t, os.WriteFile(empty, nil, 0o600))
		require.Equal(t, "certlab: cannot add empty: it is empty\n", fails(t, "submission", "add", empty, "--machine", "bench"))
	})
}
