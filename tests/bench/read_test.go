// Package bench measures Certlab against something measured in the same run, so that its figures are ratios and hold on any
// machine. `make bench` runs it.
package bench

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"

	"certlab/internal/results"
	"certlab/tests/bench/report"
)

// BenchmarkReadArchive reads archives with results.Read, against `xz -dc | tar -xO` of the same file plus encoding/json into a
// struct, in turn with it; and looks at how much memory a fresh process takes for it above one that reads hardly anything.
func BenchmarkReadArchive(b *testing.B) {
	small := filepath.Join("..", "..", "internal", "results", "testdata", "head-small.tar.xz")
	for _, c := range []struct {
		name  string
		path  string
		times int
	}{
		{"801 results", filepath.Join("..", "..", "internal", "results", "testdata", "head-800jobs.tar.xz"), 15},
		{"a submission.json of 90 MB", journal(b), 3},
	} {
		ours, theirs := report.Pair(b, c.times, func() { read(b, c.path) }, func() { baseline(b, c.path) })
		report.Add(b, report.Row{Measure: "Reading an archive: time", Case: c.name, Value: report.Milliseconds(ours), Unit: "ms",
			Against: "xz -dc, tar -xO and encoding/json", Baseline: report.Milliseconds(theirs), Goal: report.RatioAtMost(1.5)})
		certlab := program(b, "certlab")
		idle, peak := memoryOf(b, certlab, small), memoryOf(b, certlab, c.path)
		report.Add(b, report.Row{Measure: "Reading an archive: memory above idle", Case: c.name, Value: report.MiB(max(0, peak-idle)), Unit: "MiB",
			Also: fmt.Sprintf("%.0f MiB in all", report.MiB(peak)), Goal: report.AtMost(64)})
	}
}

// memoryOf is the most memory that certlab held while it read the archive, in bytes. It is looked at when all has been read and the
// end of the input is waited for: what the kernel says of an ended process includes the one that it was forked from.
func memoryOf(b *testing.B, certlab, archive string) int64 {
	f, err := os.Open(archive)
	require.NoError(b, err)
	defer f.Close()
	cmd := exec.Command(certlab, "submission", "show", "-")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	_, err = io.Copy(in, f)
	require.NoError(b, err)
	peak, deadline := int64(0), time.Now().Add(time.Minute)
	for used := time.Duration(-1); ; { // until it does nothing more
		now := processor(b, cmd.Process.Pid)
		if now == used || time.Now().After(deadline) {
			break
		}
		used = now
		time.Sleep(300 * time.Millisecond)
	}
	_, peak = memory(b, cmd.Process.Pid)
	require.NoError(b, in.Close())
	require.NoError(b, cmd.Wait())
	return peak
}

func read(b *testing.B, path string) {
	f, err := os.Open(path)
	require.NoError(b, err)
	defer f.Close()
	sub, err := results.Read(f, results.Options{})
	require.NoError(b, err)
	require.NotEmpty(b, sub.Results)
}

// record holds what most readers of a submission want.
type record struct {
	FullID  string `json:"full_id"`
	Outcome string `json:"outcome"`
	IOLog   string `json:"io_log"`
}

func baseline(b *testing.B, path string) {
	cmd := exec.Command("sh", "-c", `xz -dc -- "$1" | tar -xO submission.json`, "sh", path)
	out, err := cmd.Output()
	require.NoError(b, err)
	var sub struct {
		Results []record       `json:"results"`
		System  map[string]any `json:"system_information"`
	}
	require.NoError(b, json.Unmarshal(out, &sub))
	require.NotEmpty(b, sub.Results)
}

// journal writes an archive whose submission.json is 90 MB of system log, as machines with a long journal make them.
func journal(b *testing.B) string {
	random := rand.New(rand.NewPCG(1, 2))
	words := make([]string, 5000)
	for i := range words {
		words[i] = fmt.Sprintf("%08x", random.Uint32())
	}
	var log strings.Builder
	for log.Len() < 88<<20 {
		fmt.Fprintf(&log, "Nov 23 10:%02d:%02d machine kernel[%d]:", random.IntN(60), random.IntN(60), random.IntN(9999))
		for range 8 {
			log.WriteString(" " + words[random.IntN(len(words))])
		}
		log.WriteByte('\n')
	}
	text, err := json.Marshal(map[string]any{
		"title": "journal", "testplan_id": "com.example.lab::journal",
		"results": []map[string]any{{"id": "pass", "full_id": "com.example.lab::pass", "outcome": "pass", "status": "pass", "plugin": "shell"}},
		"system_information": map[string]any{"journalctl": map[string]any{
			"tool_version": "1", "success": true, "outputs": map[string]any{"payload": log.String(), "stderr": ""},
		}},
	})
	require.NoError(b, err)
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	require.NoError(b, w.WriteHeader(&tar.Header{Name: "submission.json", Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}))
	_, err = w.Write(text)
	require.NoError(b, err)
	require.NoError(b, w.Close())
	path := filepath.Join(b.TempDir(), "journal.tar.xz")
	f, err := os.Create(path)
	require.NoError(b, err)
	defer f.Close()
	z, err := xz.NewWriter(f)
	require.NoError(b, err)
	_, err = io.Copy(z, &archive)
	require.NoError(b, err)
	require.NoError(b, z.Close())
	return path
}
