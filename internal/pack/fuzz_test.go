package pack

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/fuzztest"
)

func shmDir(f *testing.F) string {
	dir, err := os.MkdirTemp("/dev/shm", "certlab-fuzz-")
	if err != nil {
		return f.TempDir()
	}
	f.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func checkProblems(t *testing.T, err error) {
	if err != nil {
		require.NotEmpty(t, err.Error())
		require.NotContains(t, err.Error(), "\x1b")
		require.NotContains(t, err.Error(), "\x00")
	}
}

// FuzzBundle: whatever a bundle or a charm project says, it is refused with its reasons or taken.
func FuzzBundle(f *testing.F) {
	seeds := fuzztest.Files(f, 1<<16, "../../bundles/*.yaml", "../../charms/*/charmcraft.yaml")
	seeds = append(seeds, fuzztest.Seeds("applications:\n  a: {charm: ./a.charm, num_units: 1, to: [0], constraints: arch=amd64 mem=4G, storage: {data: 100G}}\nmachines: {0: {}}\nrelations: [[a:x, a:y]]\n",
		"a: &a [*a]", "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nd: [*c,*c,*c,*c]\n", "applications: {y: {charm: x, options: {no: on}}}", "applications:\n  ? [a]\n  : b")...)
	dir := shmDir(f)
	path := filepath.Join(dir, "charmcraft.yaml")
	fuzztest.Run(f, 80, seeds, func(t *testing.T, data []byte) {
		require.NoError(t, os.WriteFile(path, data, 0o600))
		checkProblems(t, VerifyBundle(path, dir))
		_, err := LoadProject(path)
		checkProblems(t, err)
	})
}

// FuzzCharm changes the files in a charm, and the zip archive around them.
func FuzzCharm(f *testing.F) {
	pack := func(parts []string) []byte {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		for i := 0; i+1 < len(parts); i += 2 {
			file, err := w.CreateHeader(&zip.FileHeader{Name: parts[i], Method: zip.Store})
			if err != nil {
				return nil
			}
			file.Write([]byte(parts[i+1]))
		}
		w.Close()
		return b.Bytes()
	}
	parts := []string{"metadata.yaml", "name: demo\nsummary: s\ndescription: d\n", "manifest.yaml", "bases: [{name: ubuntu, channel: '24.04', architectures: [amd64]}]\n",
		"config.yaml", "options: {a: {type: string, default: b}}\n", "actions.yaml", "go: {description: g, params: {x: {type: integer}}}\n", "dispatch", "#!/bin/sh\n", "icon.svg", "<svg viewBox='0 0 100 100'/>", "LICENSE", "l", "README.md", "r"}
	seeds := [][]byte{[]byte(strings.Join(parts, "\x00")), pack(parts)}
	path := filepath.Join(shmDir(f), "demo.charm")
	fuzztest.Run(f, 80, seeds, func(t *testing.T, data []byte) {
		if !bytes.HasPrefix(data, []byte("PK")) {
			data = pack(strings.Split(string(data), "\x00"))
		}
		require.NoError(t, os.WriteFile(path, data, 0o600))
		checkProblems(t, Verify(path))
	})
}
