package bench

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/tests/bench/report"
)

// BenchmarkSizes weighs what is shipped: the charms of each architecture, and the programs in them.
func BenchmarkSizes(b *testing.B) {
	charms := os.Getenv("CERTLAB_CHARMS")
	if charms == "" {
		b.Skip("CERTLAB_CHARMS is not set: run make bench")
	}
	paths, err := filepath.Glob(filepath.Join(charms, "*.charm"))
	require.NoError(b, err)
	require.NotEmpty(b, paths, "make pack makes them")
	for _, path := range paths {
		report.Add(b, report.Row{Measure: "Size of a charm", Case: filepath.Base(path), Value: megabytes(b, path), Unit: "MiB"})
	}
	for _, platform := range []string{"amd64", "arm64"} {
		dir := filepath.Join(filepath.Dir(charms), "charm-bin", platform)
		if _, err := os.Stat(dir); err != nil {
			b.Logf("nothing was packed for %s", platform)
			continue
		}
		require.NoError(b, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			name := strings.TrimPrefix(path, dir+"/")
			report.Add(b, report.Row{Measure: "Size of a program", Case: name + ", " + platform, Value: megabytes(b, path), Unit: "MiB"})
			return nil
		}))
	}
	report.Add(b, report.Row{Measure: "Size of a program", Case: "certlab", Value: megabytes(b, program(b, "certlab")), Unit: "MiB"})
}

func megabytes(t testing.TB, path string) float64 {
	info, err := os.Stat(path)
	require.NoError(t, err)
	return report.MiB(info.Size())
}
