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
)

// BenchmarkReadArchive reads an archive with results.Read, and reports how long that takes as a multiple of what
// `xz -dc | tar -xO` of the same file plus encoding/json into a struct take: x-baseline.
func BenchmarkReadArchive(b *testing.B) {
	for _, c := range []struct {
		name string
		file func(*testing.B) string
	}{
		{"801 results", func(*testing.B) string {
			return filepath.Join("..", "..", "internal", "results", "testdata", "head-800jobs.tar.xz")
		}},
		{"90 MB journal", journal},
	} {
		b.Run(c.name, func(b *testing.B) {
			path := c.file(b)
			info, err := os.Stat(path)
			require.NoError(b, err)
			b.SetBytes(info.Size())
			var ours, theirs time.Duration
			for b.Loop() {
				start := time.Now()
				baseline(b, path)
				theirs += time.Since(start)
				start = time.Now()
				read(b, path)
				ours += time.Since(start)
			}
			b.ReportMetric(ours.Seconds()/theirs.Seconds(), "x-baseline")
			b.ReportMetric(ours.Seconds()*1000/float64(b.N), "ms/read")
		})
	}
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
