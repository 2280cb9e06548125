package agent

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/agent/checkbox"
	"certlab/internal/fuzztest"
	"certlab/internal/order"
)

func encoded(t testing.TB, v any) []byte {
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return text
}

// FuzzSpec: whatever an order, an action or the unix socket asks to be run, it is refused with a line, or can be written into a
// launcher of every version.
func FuzzSpec(f *testing.F) {
	seeds := [][]byte{
		encoded(f, order.Spec{Plan: "com.canonical.certification::sru", Title: "t", Exclude: []string{"a.*", `b{1,2}`}, Match: []string{"c|d"}, Environment: map[string]string{"A": "b"}, TimeoutSeconds: 60}),
		encoded(f, order.RunRequest{ID: "r1", Origin: order.FromAction}),
		encoded(f, order.Poll{Orders: []order.Order{{Run: "r1", Created: time.Unix(1, 0).UTC(), Spec: order.Spec{Plan: "a::b"}}}, Cancel: []string{"r2"}}),
	}
	fuzztest.Run(f, 400, seeds, func(t *testing.T, data []byte) {
		var spec order.Spec
		if json.Unmarshal(data, &spec) != nil {
			return
		}
		if err := checkSpec(spec); err != nil {
			fuzztest.Error(t, err)
			return
		}
		require.NotContains(t, spec.Plan, "\n")
		_, err := checkbox.Launcher{Plan: spec.Plan, Title: spec.Title, Exclude: spec.Exclude, Match: spec.Match, Environment: spec.Environment}.
			Text(checkbox.CapabilitiesOf(checkbox.Version{Major: 99}))
		require.NoError(t, err)
	})
}

// FuzzState: whatever is in the files that the agent reads at its start, after a power cut or another version.
func FuzzState(f *testing.F) {
	dir, err := os.MkdirTemp("/dev/shm", "certlab-fuzz-") // some thousand files
	if err != nil {
		dir = f.TempDir()
	}
	f.Cleanup(func() { os.RemoveAll(dir) })
	seeds := append(fuzztest.Seeds("A=b\n# c\n\nD = e=f\r\n", "no assignment", "ID=ubuntu\nVERSION_ID=\"24.04\"\n", "ABC123", "abc123\n"),
		encoded(f, order.AgentDesired{Unit: "checkbox/0", ControllerURLs: []string{"https://10.0.0.1:8443"}, Environment: map[string]string{"A": "b"}, MaxBoots: 3}),
		encoded(f, record{Run: order.Run{Report: order.Report{Run: "r1", State: order.Running, Attempt: 1, Spec: order.Spec{Plan: "a::b"}}}, Step: "running"}))
	path := filepath.Join(dir, order.AgentDesiredFile)
	for _, name := range []string{"var/lib/cloud/data", "sys/class/dmi/id", "etc"} {
		require.NoError(f, os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
	fuzztest.Run(f, 120, seeds, func(t *testing.T, data []byte) {
		require.NoError(t, os.WriteFile(path, data, 0o600))
		d, sum, err := readDesired(dir, order.AgentDesiredFile)
		if fuzztest.Error(t, err); err == nil {
			require.Len(t, sum, 64)
			require.NoError(t, os.WriteFile(path, encoded(t, d), 0o600))
			again, _, err := readDesired(dir, order.AgentDesiredFile)
			require.NoError(t, err)
			require.Equal(t, encoded(t, d), encoded(t, again))
		}
		if err == nil {
			require.NoError(t, os.WriteFile(path, data, 0o600))
		}
		var r record
		fuzztest.Error(t, readJSON(path, &r))
		env, err := readSecretEnvironment(path)
		if fuzztest.Error(t, err); err != nil {
			require.Less(t, len(err.Error()), 200, "the line may be a secret")
		}
		_, err = checkbox.SecretText(env)
		fuzztest.Error(t, err)
		if len(data) > 200 || json.Valid(data) {
			return
		}
		for _, name := range []string{"etc/os-release", "var/lib/cloud/data/instance-id", "sys/class/dmi/id/product_uuid"} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
		}
		id := machineIdentity(dir)
		for _, text := range []string{id.SystemID, id.ProductUUID, id.Base} {
			require.LessOrEqual(t, len(text), 4096)
			if text != "" {
				fuzztest.Clean(t, text)
			}
		}
	})
}

// says is a controller that answers all requests alike: the first line is the status, the second an Upload-Offset.
type says []byte

func (s says) RoundTrip(r *http.Request) (*http.Response, error) {
	status, rest, _ := bytes.Cut(s, []byte("\n"))
	offset, body, _ := bytes.Cut(rest, []byte("\n"))
	code, err := strconv.Atoi(string(status))
	if err != nil || code < 200 || code > 599 {
		code = 200
	}
	return &http.Response{StatusCode: code, Status: http.StatusText(code), Header: http.Header{"Upload-Offset": {string(offset)}, "Retry-After": {string(offset)}, "Date": {string(offset)}},
		Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
}

// FuzzAnswers: whatever answers in the controller's place, deliveries end, and what is wrong is said in one line.
func FuzzAnswers(f *testing.F) {
	dir := f.TempDir()
	path := filepath.Join(dir, "file")
	require.NoError(f, os.WriteFile(path, []byte("content"), 0o600))
	seeds := fuzztest.Seeds("200\n7\n{\"sha256\":\"x\",\"size\":7}", "204\n3\n", "409\n-1\n{\"error\":{\"code\":\"conflict\",\"message\":\"no\"},\"missing\":[\"a\"]}", "500\n\n{\"error\":\"plain\"}",
		"200\n\n{\"orders\":[{\"run\":\"r1\",\"created\":\"2026-01-01T00:00:00Z\",\"spec\":{\"plan\":\"a::b\"}}],\"cancel\":[\"x\"]}", "302\n1\n<html>")
	fuzztest.Run(f, 120, seeds, func(t *testing.T, data []byte) {
		r := &remote{client: &http.Client{Transport: says(data)}, now: time.Now, urls: []string{"https://10.0.0.1:8443"}}
		ctx := t.Context()
		var poll order.Poll
		_, err := r.do(ctx, http.MethodGet, "/agent/v1/poll", nil, nil, &poll)
		fuzztest.Error(t, err)
		_, err = r.finish(ctx, order.Finish{})
		fuzztest.Error(t, err)
		fuzztest.Error(t, r.upload(ctx, "r1", 1, order.File{Name: "file", SHA256: strings.Repeat("0", 64), Size: 7}, path))
	})
}
