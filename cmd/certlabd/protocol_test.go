package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
)

// The conversation of protocol 1, byte for byte as its agents have it. An agent of the release before works with the controller of
// this one, so these texts stay as they are until agents of protocol 1 are two releases old: a field that is renamed, or that is now
// demanded, breaks this test before it breaks a lab. RUN and the others in capitals are filled in.
const (
	report1 = `{"run":"RUN","attempt":1,"sequence":SEQUENCE,"origin":"order","created":"2026-11-23T10:00:00Z","started":"2026-11-23T10:00:01Z",` +
		`"state":"running","spec":{"plan":"com.example.lab::small"},"progress":{"phase":"testing","jobs_done":2,"jobs_planned":6,` +
		`"current_job":"com.example.lab::env"},"boot_id":"b1","checkbox_version":"7.3.0","interruptions":[{"job":"com.example.lab::env",` +
		`"cause":"reboot","expected":false,"boot_before":"b0","boot_after":"b1","at":"2026-11-23T10:00:02Z"}]}`
	finish1 = `{"run":"RUN","attempt":1,"sequence":SEQUENCE,"origin":"order","created":"2026-11-23T10:00:00Z","started":"2026-11-23T10:00:01Z",` +
		`"state":"completed","spec":{"plan":"com.example.lab::small"},"progress":{"phase":"delivering","jobs_done":6,"jobs_planned":6},` +
		`"boot_id":"b1","checkbox_version":"7.3.0","finished":"2026-11-23T10:01:00Z","counts":{"pass":4},` +
		`"files":[{"kind":"submission","name":"submission.tar.xz","sha256":"SHA256","size":SIZE}]}`
)

func TestAnAgentOfTheReleaseBeforeIsServed(t *testing.T) {
	t.Parallel()
	require.LessOrEqual(t, order.Protocol, 2, "agents of protocol 1 are no longer served: this test can go")
	for name, change := range map[string]func(string) string{
		"as it was": func(text string) string { return text },
		// What a later agent adds is ignored, and what an agent has nothing to say of is left out.
		"with fields of another release": func(text string) string {
			return strings.Replace(text, `{`, `{"of_another_release":{"a":[1,null]},`, 1)
		},
		"without what may be missing": func(text string) string {
			var fields map[string]any
			require.NoError(t, json.Unmarshal([]byte(text), &fields))
			for _, field := range []string{"started", "boot_id", "checkbox_version", "interruptions", "counts"} {
				delete(fields, field)
			}
			short, err := json.Marshal(fields)
			require.NoError(t, err)
			return string(short)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAgent(t, 0)
			l := newLab(t, a)
			engineer := l.person(cert.Engineer)
			say := func(method, path, body string, header map[string]string) (*http.Response, map[string]any) {
				req, err := http.NewRequestWithContext(t.Context(), method, l.url()+path, strings.NewReader(body))
				require.NoError(t, err)
				req.Header.Set("Certlab-Protocol", "1")
				for key, value := range header {
					req.Header.Set(key, value)
				}
				resp, err := a.http.Do(req)
				require.NoError(t, err)
				defer resp.Body.Close()
				content, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				var answer map[string]any
				if len(content) > 0 {
					require.NoError(t, json.Unmarshal(content, &answer), "%s", content)
				}
				return resp, answer
			}

			run, err := engineer.StartRun(t.Context(), cert.NewRun{Machine: "node0", Spec: cert.Spec{Plan: "com.example.lab::small", Title: "t", Exclude: []string{"x"},
				Match: []string{"y"}, Environment: map[string]string{"A": "b"}, TimeoutSeconds: 60}})
			require.NoError(t, err)
			archive := sample(t, "head-small.tar.xz")
			f := newFile(run.ID, 1, order.SubmissionFile, "submission.tar.xz", archive)
			fill := func(text string, sequence int) string {
				return change(strings.NewReplacer("RUN", run.ID, "SEQUENCE", strconv.Itoa(sequence), "SHA256", f.SHA256, "SIZE", strconv.Itoa(len(archive))).Replace(text))
			}

			resp, answer := say("GET", "/agent/v1/poll?wait=1", "", nil)
			require.Equal(t, http.StatusOK, resp.StatusCode)
			require.Len(t, answer["orders"], 1)
			ordered := answer["orders"].([]any)[0].(map[string]any)
			require.NotEmpty(t, ordered["created"])
			delete(ordered, "created")
			for key, want := range map[string]any{"run": run.ID, "plan": "com.example.lab::small", "title": "t", "exclude": []any{"x"}, "match": []any{"y"},
				"environment": map[string]any{"A": "b"}, "timeout_seconds": 60.0} {
				require.Equal(t, want, ordered[key], key)
			}

			resp, answer = say("PUT", "/agent/v1/runs/"+run.ID, fill(report1, 1), map[string]string{"Content-Type": "application/json"})
			require.Equal(t, http.StatusOK, resp.StatusCode, answer)
			require.Contains(t, answer["url"], run.ID)
			require.Equal(t, false, answer["cancel"])
			got, err := engineer.Run(t.Context(), run.ID)
			require.NoError(t, err)
			require.Equal(t, cert.Progress{Phase: "testing", JobsDone: 2, JobsPlanned: 6, CurrentJob: "com.example.lab::env"}, got.Attempts[0].Progress)

			resp, answer = say("POST", "/agent/v1/runs/"+run.ID+"/finish", fill(finish1, 2), map[string]string{"Content-Type": "application/json"})
			require.Equal(t, http.StatusConflict, resp.StatusCode)
			require.Equal(t, []any{f.SHA256}, answer["missing"])
			resp, _ = say("HEAD", f.path(), "", nil)
			require.Equal(t, "0", resp.Header.Get("Upload-Offset"))
			half := len(archive) / 2
			upload := func(from, to int) (*http.Response, map[string]any) {
				return say("PATCH", f.path(), string(archive[from:to]), map[string]string{"Upload-Offset": strconv.Itoa(from), "Upload-Length": strconv.Itoa(len(archive)),
					"Certlab-File-Kind": "submission", "Certlab-File-Name": "submission.tar.xz", "Content-Type": "application/octet-stream"})
			}
			resp, _ = upload(0, half)
			require.Equal(t, http.StatusNoContent, resp.StatusCode)
			require.Equal(t, strconv.Itoa(half), resp.Header.Get("Upload-Offset"))
			resp, answer = upload(half, len(archive))
			require.Equal(t, http.StatusOK, resp.StatusCode, answer)
			require.Equal(t, f.SHA256, answer["sha256"])
			resp, _ = say("HEAD", f.path(), "", nil)
			require.Equal(t, "true", resp.Header.Get("Upload-Complete"))

			resp, answer = say("POST", "/agent/v1/runs/"+run.ID+"/finish", fill(finish1, 3), map[string]string{"Content-Type": "application/json"})
			require.Equal(t, http.StatusOK, resp.StatusCode, answer)
			got, err = engineer.Run(t.Context(), run.ID)
			require.NoError(t, err)
			require.Equal(t, cert.Completed, got.State)
			var copied bytes.Buffer
			require.NoError(t, engineer.Download(t.Context(), got.Submission, &copied))
			require.True(t, bytes.Equal(archive, copied.Bytes()))

			// Who is not let in is told so in a way that the agent reads.
			l.apply(func(d *order.ControllerDesired) { d.Agents = nil })
			resp, answer = say("GET", "/agent/v1/poll?wait=0", "", nil)
			require.Equal(t, http.StatusForbidden, resp.StatusCode)
			require.NotEmpty(t, answer["error"].(map[string]any)["message"])
		})
	}
}
