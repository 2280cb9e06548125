package maas

import (
	"bufio"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"certlab/internal/cert"
	"github.com/stretchr/testify/require"
)

// overNetwork returns a provider that uses real sockets, and does not wait long between attempts.
func overNetwork(t *testing.T, address string, change ...func(*Config)) *Provider {
	t.Helper()
	change = append(change, func(c *Config) { c.URL, c.Limits.Pause = address, time.Millisecond })
	return provider(t, nil, change...)
}

// server takes a request and lets serve do with the connection what it wants. It answers who asks who it is.
func server(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				request, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, request.Body)
				switch {
				case strings.Contains(request.URL.RawQuery, "op=whoami"):
					reply(conn, `{"username": "certlab"}`)
				case request.Method == http.MethodGet && request.URL.Query().Get("id") == "abc123":
					reply(conn, "["+held+"]")
				default:
					serve(conn)
				}
			}()
		}
	}()
	return "http://" + listener.Addr().String() + "/MAAS"
}

func reply(conn net.Conn, body string) {
	fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
}

func TestFaultNothingListens(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	listener.Close()
	p := overNetwork(t, "http://"+address+"/MAAS")
	_, err = p.List(t.Context())
	require.Equal(t, cert.ProviderUnreachable, cert.ProviderFaultOf(err))
	require.EqualError(t, err, fmt.Sprintf("cannot list the machines: MAAS at http://%s/MAAS cannot be reached: dial tcp %s: connect: connection refused (does it run, and is that its address?)", address, address))
	require.Equal(t, int64(3), p.Calls()["whoami"], "it has to be tried again")
}

func TestFaultConnectionCut(t *testing.T) {
	t.Parallel()
	var cuts atomic.Int64
	for name, serve := range map[string]func(net.Conn){
		"before the answer": func(net.Conn) { cuts.Add(1) },
		"in its middle": func(conn net.Conn) {
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n[%s,", held)
		},
		"at the end of a chunk": func(conn net.Conn) {
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := overNetwork(t, server(t, serve))
			machines, err := p.List(t.Context())
			require.Equal(t, cert.ProviderUnreachable, cert.ProviderFaultOf(err))
			require.Regexp(t, `^cannot list the machines: the connection to MAAS at \S+ broke off \(.*EOF\)$`, err.Error())
			require.Nil(t, machines, "half a list would read as if the others had vanished")
			require.Equal(t, int64(3), p.Calls()["machines"])
		})
	}
	before := cuts.Load()
	p := overNetwork(t, server(t, func(net.Conn) { cuts.Add(1) }))
	err := p.Deploy(t.Context(), "abc123", cert.DeployOptions{})
	require.Equal(t, cert.ProviderOutcome, cert.ProviderFaultOf(err))
	require.Regexp(t, `^cannot deploy "node7": the connection to MAAS at \S+ broke off \(EOF\), and whether it has happened is not known \(the machine has to be read again\)$`, err.Error())
	require.Equal(t, int64(1), cuts.Load()-before, "what may have happened is not asked for again")
}

func TestFaultListThatEndsTooEarly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// A proxy that ends an answer as if it were whole.
		for _, body := range []string{"", "[", "[" + held, "[" + held + ","} {
			machines, err := provider(t, always(200, body)).List(t.Context())
			require.Equal(t, cert.ProviderUnreachable, cert.ProviderFaultOf(err), body)
			require.Nil(t, machines)
		}
		for body, want := range map[string]string{
			"<html>": "it is not JSON: invalid character '<' looking for beginning of value",
			"{}":     "it is no list of machines",
			"[{}]":   "a machine in it has no system_id",
		} {
			_, err := provider(t, always(200, body)).List(t.Context())
			require.EqualError(t, err, "cannot list the machines: MAAS's answer cannot be read: "+want)
			require.Equal(t, cert.ProviderBroken, cert.ProviderFaultOf(err))
		}
	})
}

// A MAAS that takes a request and never answers.
func TestFaultSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		silent := func() (*http.Response, error) { time.Sleep(time.Hour); return answer(200, "[]"), nil }
		s := oneMachine(held, silent)
		wait := func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}
		s.answer = func(_ int, r *http.Request) (*http.Response, error) {
			if r.URL.Query().Get("id") != "" {
				return answer(200, "["+held+"]"), nil
			}
			return wait(r)
		}
		p := provider(t, s)
		begun := time.Now()
		_, err := p.List(t.Context())
		require.EqualError(t, err, "cannot list the machines: MAAS at "+testURL+" did not answer within 2m0s")
		require.Equal(t, cert.ProviderUnreachable, cert.ProviderFaultOf(err))
		require.Less(t, time.Since(begun), 7*time.Minute)

		s.asked = nil
		begun = time.Now()
		err = p.Abort(t.Context(), "abc123", "")
		require.EqualError(t, err, `cannot abort what MAAS does with "node7": MAAS at `+testURL+" did not answer within 30s, and whether it has happened is not known (the machine has to be read again)")
		require.Equal(t, cert.ProviderOutcome, cert.ProviderFaultOf(err))
		require.Equal(t, 30*time.Second, time.Since(begun))
		require.Equal(t, []string{"GET machines/?agent_name=certlab-lab1&id=abc123", "POST machines/abc123/?op=abort"}, s.questions())

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = p.List(ctx)
		require.EqualError(t, err, "cannot list the machines: MAAS at "+testURL+" did not answer within 1s")
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err = p.List(ctx)
		require.EqualError(t, err, "cannot list the machines: it was given up before MAAS at "+testURL+" had answered")
	})
}

func TestFaultCertificateOfAPrivateAuthority(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.RawQuery, "op=whoami") {
			io.WriteString(w, `{"username": "certlab"}`)
			return
		}
		io.WriteString(w, "["+held+"]")
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	_, err := overNetwork(t, s.URL+"/MAAS").List(t.Context())
	require.EqualError(t, err, "cannot list the machines: MAAS at "+s.URL+"/MAAS shows a certificate that nobody here vouches for (give its CA certificate)")
	require.Equal(t, cert.ProviderUnreachable, cert.ProviderFaultOf(err))

	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	machines, err := overNetwork(t, s.URL+"/MAAS", func(c *Config) { c.CACert = ca }).List(t.Context())
	require.NoError(t, err)
	require.Len(t, machines, 1)
}

// The key goes where it was meant for, and nowhere that an answer points to.
func TestTheKeyIsNotSentWhereARedirectionPoints(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was asked") }))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := httptest.NewServer(http.RedirectHandler(other.URL+"/MAAS/", status))
		_, err := overNetwork(t, s.URL).List(t.Context())
		require.Equal(t, cert.ProviderInvalid, cert.ProviderFaultOf(err))
		require.Contains(t, err.Error(), fmt.Sprintf("sends us on to %q", other.URL+"/MAAS/"))
		s.Close()
	}
}

func TestFaultAnswerTooLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := provider(t, always(200, `{"version": "`+strings.Repeat("x", maxSmall)+`"}`))
		_, err := p.About(t.Context())
		require.EqualError(t, err, "cannot ask MAAS what it is: MAAS's answer cannot be read: the answer is too long")
		require.Equal(t, cert.ProviderBroken, cert.ProviderFaultOf(err))

		// What a change answers with is not needed: it has happened.
		s := oneMachine(held, func() (*http.Response, error) { return answer(200, strings.Repeat("x", 2*maxSmall)), nil })
		require.NoError(t, provider(t, s).Abort(t.Context(), "abc123", ""))
	})
}

func TestOnlySoManyCallsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var under, most atomic.Int64
		s := &script{answer: func(int, *http.Request) (*http.Response, error) {
			most.Store(max(most.Load(), under.Add(1)))
			time.Sleep(time.Second)
			under.Add(-1)
			return answer(200, "["+held+"]"), nil
		}}
		p := provider(t, s, func(c *Config) { c.Limits.Parallel = 3 })
		for range 20 {
			go func() {
				_, err := p.Look(t.Context(), "abc123")
				if err != nil {
					t.Error(err)
				}
			}()
		}
		synctest.Wait()
		time.Sleep(30 * time.Second)
		require.Equal(t, int64(3), most.Load())
		require.Equal(t, int64(20), p.Calls()["machines"])
	})
}
