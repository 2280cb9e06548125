package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/client"
	"certlab/internal/order"
)

func TestACodeIsGoodOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	admin, ctx := l.person(cert.Admin), t.Context()
	made, err := admin.CreateToken(ctx, cert.NewToken{Name: "ada", Role: "engineer", ExpiresInSeconds: 3600})
	require.NoError(t, err)
	_, err = admin.CreateToken(ctx, cert.NewToken{Name: "ada", Role: "viewer"})
	hasCode(t, err, cert.Conflict)
	nobody, err := client.New(client.Options{URL: l.url(), CAs: l.cas()})
	require.NoError(t, err)
	redeemed, err := nobody.Redeem(ctx, made.Code)
	require.NoError(t, err)
	require.Equal(t, cert.Engineer, redeemed.Role)
	_, err = nobody.Redeem(ctx, made.Code)
	hasCode(t, err, cert.Unauthorized)

	ada, err := client.New(client.Options{URL: l.url(), CAs: l.cas(), Token: redeemed.Secret})
	require.NoError(t, err)
	site, err := ada.Site(ctx)
	require.NoError(t, err)
	require.Equal(t, "ada", site.Caller)
	require.NoError(t, l.service.lab.FlushContacts(ctx))
	tokens, err := admin.Tokens(ctx, 0)
	require.NoError(t, err)
	require.NotNil(t, tokens[0].LastUsed)
	_, err = admin.RevokeToken(ctx, "ada")
	require.NoError(t, err)
	_, err = ada.Site(ctx)
	hasCode(t, err, cert.Unauthorized)
	_, err = admin.RevokeToken(ctx, "ada")
	hasCode(t, err, cert.NotFound)
	_, err = admin.RevokeToken(ctx, made.ID)
	require.NoError(t, err, "by id, a revoked token stays revoked")
	again, err := admin.CreateToken(ctx, cert.NewToken{Name: "ada", Role: "viewer"})
	require.NoError(t, err, "the name is free again")
	_, err = admin.RevokeToken(ctx, again.ID)
	require.NoError(t, err)
	_, err = nobody.Redeem(ctx, again.Code)
	hasCode(t, err, cert.Unauthorized)

	// Secrets are nowhere on disk.
	var dump bytes.Buffer
	require.NoError(t, l.service.lab.Backup(ctx, &dump))
	for _, secret := range []string{made.Code, redeemed.Secret, again.Code} {
		require.NotContains(t, dump.String(), secret)
		require.NotContains(t, l.log.String(), secret)
	}
	for _, bad := range []cert.NewToken{{Name: "", Role: "viewer"}, {Name: "x", Role: "root"}, {Name: "x", Role: "viewer", ExpiresInSeconds: -1},
		{Name: "x", Role: "viewer", CodeExpiresInSeconds: 1 << 40}, {Name: "a\nb", Role: "viewer"}, {Name: "certlab", Role: "viewer"}, {Name: "Policy", Role: "signer"}, {Name: "root", Role: "admin"}} {
		_, err := admin.CreateToken(ctx, bad)
		hasCode(t, err, cert.Invalid)
	}
}

func TestASubmissionIsAddedByHand(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	engineer, ctx := l.person(cert.Engineer), t.Context()
	_, err := engineer.AddMachine(ctx, cert.NewMachine{Hostname: "bench1", Architecture: "arm64"})
	require.NoError(t, err)
	_, err = engineer.AddMachine(ctx, cert.NewMachine{Hostname: "bench1"})
	hasCode(t, err, cert.Conflict)
	for _, name := range []string{"head-small.tar.xz", "head-800jobs.tar.xz", "v5.0.0-odd.tar.xz", "v2.9.1-odd.tar.xz"} {
		archive := sample(t, name)
		added, err := engineer.AddSubmission(ctx, "bench1", name, bytes.NewReader(archive))
		require.NoError(t, err)
		again, err := engineer.AddSubmission(ctx, "bench1", name, bytes.NewReader(archive))
		require.NoError(t, err)
		require.Equal(t, added.ID, again.ID)
		s := indexed(t, engineer, added.ID)
		require.Equal(t, cert.IndexDone, s.IndexState, s.IndexError)
		require.NotEmpty(t, s.Plan)
		require.Equal(t, "test engineer", s.AddedBy)
		run, err := engineer.Run(ctx, s.Run)
		require.NoError(t, err)
		require.Equal(t, cert.FromUpload, run.Origin)
		require.Equal(t, cert.Completed, run.State)
		require.Equal(t, s.Plan, run.Spec.Plan)
		require.Equal(t, s.Counts, run.Counts)
		var system struct{ Kernel string }
		require.NoError(t, json.Unmarshal(s.System, &system))
	}
	subs, err := engineer.Submissions(ctx, url.Values{"machine": {"bench1"}}, 0)
	require.NoError(t, err)
	require.Len(t, subs, 4)

	// What cannot be read is kept with the reason.
	broken := sample(t, "head-small.tar.xz")[:5000]
	added, err := engineer.AddSubmission(ctx, "bench1", "cut.tar.xz", bytes.NewReader(broken))
	require.NoError(t, err)
	s := indexed(t, engineer, added.ID)
	require.Equal(t, cert.IndexUnreadable, s.IndexState)
	require.Contains(t, s.IndexError, "cannot read submission")
	var kept bytes.Buffer
	require.NoError(t, engineer.Download(ctx, s.ID, &kept))
	require.Equal(t, broken, kept.Bytes())

	_, err = engineer.AddSubmission(ctx, "bench2", "x.tar.xz", bytes.NewReader(broken))
	hasCode(t, err, cert.NotFound)
	_, err = engineer.AddSubmission(ctx, "bench1", "../x.tar.xz", strings.NewReader("x"))
	hasCode(t, err, cert.Rejected)
	resp := l.raw("POST", "/api/v1/submissions?machine=bench1&sha256="+strings.Repeat("0", 64), "some bytes")
	require.Equal(t, http.StatusUnprocessableEntity, resp.StatusCode)
	_, err = l.person(cert.Viewer).AddSubmission(ctx, "bench1", "x.tar.xz", strings.NewReader("x"))
	hasCode(t, err, cert.Forbidden)
}

// raw makes a request over the socket.
func (l *lab) raw(method, path, body string) *http.Response {
	req, err := http.NewRequestWithContext(l.t.Context(), method, "http://local"+path, strings.NewReader(body))
	require.NoError(l.t, err)
	resp, err := l.socket().Do(req)
	require.NoError(l.t, err)
	text, err := io.ReadAll(resp.Body)
	require.NoError(l.t, err)
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(text))
	return resp
}

func body(t *testing.T, resp *http.Response) string {
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(text)
}

func TestResultsAreFoundAndTheirLogsStreamed(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 0)
	l := newLab(t, a)
	viewer, ctx := l.person(cert.Viewer), t.Context()
	ack := a.deliver(runID(), sample(t, "v5.0.0-odd.tar.xz"))
	s := indexed(t, viewer, ack.Submission)
	for outcome, n := range s.Counts {
		found, err := viewer.Results(ctx, url.Values{"submission": {s.ID}, "outcome": {outcome}}, 0)
		require.NoError(t, err)
		require.Len(t, found, n, outcome)
	}
	all, err := viewer.Results(ctx, url.Values{"machine": {"node0"}, "plan": {s.Plan}, "section": {"all"}}, 0)
	require.NoError(t, err)
	logs := 0
	for _, r := range all {
		same, err := viewer.Results(ctx, url.Values{"job": {r.ID}, "section": {"all"}}, 0)
		require.NoError(t, err)
		require.NotEmpty(t, same)
		for _, other := range same {
			require.True(t, strings.HasPrefix(other.ID, r.ID))
		}
		if r.LogSize > 0 {
			resp := l.raw("GET", fmt.Sprintf("/api/v1/submissions/%s/results/%d/log", s.ID, r.Index), "")
			require.Equal(t, http.StatusOK, resp.StatusCode)
			require.Equal(t, "text/plain; charset=utf-8", resp.Header.Get("Content-Type"))
			require.Len(t, body(t, resp), int(r.LogSize), r.ID)
			logs++
		}
	}
	require.NotZero(t, logs)
	none, err := viewer.Results(ctx, url.Values{"since": {time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}}, 0)
	require.NoError(t, err)
	require.Empty(t, none)

	var list cert.AttachmentList
	l.call(l.socket(), "GET", "http://local/api/v1/submissions/"+s.ID+"/attachments", nil, &list)
	for _, at := range list.Attachments {
		resp := l.raw("GET", fmt.Sprintf("/api/v1/submissions/%s/attachments/%d", s.ID, at.Index), "")
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Len(t, body(t, resp), int(at.Size), at.Name)
		require.True(t, strings.HasPrefix(resp.Header.Get("Content-Disposition"), "attachment"))
	}
	require.NotEmpty(t, list.Attachments)

	// Read again, everything is as it was.
	require.Equal(t, http.StatusAccepted, l.raw("POST", "/api/v1/admin/reindex", "").StatusCode)
	require.Equal(t, s.Counts, indexed(t, viewer, s.ID).Counts)
	again, err := viewer.Results(ctx, url.Values{"machine": {"node0"}, "section": {"all"}}, 0)
	require.NoError(t, err)
	require.Equal(t, all, again)
	require.Equal(t, http.StatusNotFound, l.raw("POST", "/api/v1/submissions/s1/reindex", "").StatusCode)

	// A download can go on, and the console is there.
	req, err := http.NewRequestWithContext(ctx, "GET", "http://local/api/v1/submissions/"+s.ID+"/archive", nil)
	require.NoError(t, err)
	req.Header.Set("Range", "bytes=100-109")
	resp, err := l.socket().Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusPartialContent, resp.StatusCode)
	part, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, sample(t, "v5.0.0-odd.tar.xz")[100:110], part)
	run := runID()
	_, status := a.report(running(run, 1))
	require.Equal(t, http.StatusOK, status)
	console := newFile(run, 1, order.ConsoleFile, "console.log", []byte("hello\n"))
	a.upload(console)
	require.Equal(t, "hello\n", body(t, l.raw("GET", fmt.Sprintf("/api/v1/runs/%s/attempts/1/files/%s", run, console.SHA256), "")))
	require.Equal(t, http.StatusNotFound, l.raw("GET", fmt.Sprintf("/api/v1/runs/%s/attempts/2/files/%s", run, console.SHA256), "").StatusCode)
}

func TestTheAuthorityIsRotatedUnderClientsThatKnowTheOldOne(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 0)
	l := newLab(t, a)
	old := l.cas()
	before := a.lab.roots()
	require.Len(t, old, 1)
	var rotated cert.RotatedCA
	require.Equal(t, http.StatusOK, l.call(l.socket(), "POST", "http://local/api/v1/admin/rotate-ca", nil, &rotated))
	require.Equal(t, 2, rotated.CAs)
	now := l.cas()
	require.Len(t, now, 2)
	require.Equal(t, old[0], now[1], "newest first")
	for name, cas := range map[string][]string{"only the old": old, "only the new": now[:1], "both": now} {
		c, err := client.New(client.Options{URL: l.url(), CAs: cas})
		require.NoError(t, err)
		got, err := c.CAs(t.Context())
		require.NoError(t, err, name)
		require.Equal(t, now, got)
	}
	a.http.CloseIdleConnections()
	a.http.Transport.(clockTransport).RoundTripper.(*http.Transport).TLSClientConfig.RootCAs = before
	a.poll(0)
	_, err := client.FetchCAs(t.Context(), l.url())
	require.NoError(t, err)
	// And again, after a restart.
	l.stop()
	l.start()
	require.Equal(t, http.StatusOK, l.call(l.socket(), "POST", "http://local/api/v1/admin/rotate-ca", nil, &rotated))
	require.Equal(t, 3, rotated.CAs)
	c, err := client.New(client.Options{URL: l.url(), CAs: old})
	require.NoError(t, err)
	_, err = c.CAs(t.Context())
	require.NoError(t, err, "over two rotations")
	other := newLab(t)
	c, err = client.New(client.Options{URL: other.url(), CAs: now})
	require.NoError(t, err)
	_, err = c.CAs(t.Context())
	require.ErrorContains(t, err, "certlab login", "another lab is not trusted")
}
