package locallab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/fuzztest"
)

// FuzzUnitFile: whatever a unit file says, it is refused with its line, or has something to start.
func FuzzUnitFile(f *testing.F) {
	seeds := fuzztest.Seeds(
		"[Unit]\nAfter=a\n[Service]\nExecStart=-/bin/x \"a b\" \\\n c\nEnvironment=A=1\nRestartSec=1min 2s\nKillSignal=9\n",
		"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'echo ${A} $$ %i %n'\nExecStop=/bin/y\nUser=root\nUMask=0077\nOOMScoreAdjust=-900\nSuccessExitStatus=143 SIGKILL\n[Install]\nWantedBy=multi-user.target\n")
	fuzztest.Run(f, 200, seeds, func(t *testing.T, data []byte) {
		u := newUnitFile("x@y.service")
		err := u.parse(strings.NewReader(string(data)))
		if err == nil {
			err = u.complete()
		}
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		for _, line := range u.start {
			require.NotEmpty(t, line.argv)
			expandVariables(line.argv, []string{"A=b c", "B="})
		}
	})
}

// FuzzWords: environment files, mounts, times, options of systemctl and bundles, as a lab's machines and their users write them.
func FuzzWords(f *testing.F) {
	seeds := fuzztest.Seeds("A=1\nB='2 3'\n# c\nC=\"x\\\ny\"\n", `36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw`, "+5", "23:45",
		"stop --no-block a.service -p ActiveState,SubState --after=1m", "1min 2s", "1.5h", `'a b' "c\n" d\`,
		"applications:\n  a: {charm: ./a.charm, num_units: 1, resources: {x: y}}\n---\napplications: {a: {num_units: 2}}\n")
	dir, err := os.MkdirTemp("/dev/shm", "certlab-fuzz-")
	if err != nil {
		dir = f.TempDir()
	}
	f.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "file")
	now := time.Date(2026, 3, 1, 23, 30, 0, 0, time.UTC)
	fuzztest.Run(f, 200, seeds, func(t *testing.T, data []byte) {
		text := string(data)
		require.NoError(t, os.WriteFile(path, data, 0o600))
		env, err := readEnvironment(path)
		if err == nil {
			for _, entry := range env {
				name, _, ok := strings.Cut(entry, "=")
				require.True(t, ok && isName(name), "%q", entry)
			}
		}
		_, _ = readBundle(path)
		if path, kind, ok := parseMountinfo(text); ok {
			require.NotEmpty(t, path)
			require.NotEmpty(t, kind)
		}
		if d, ok := shutdownDelay(text, now); ok {
			require.True(t, d >= 0 && d <= 7*24*time.Hour, d)
		}
		var span time.Duration
		if setSpan(&span, text) == nil {
			require.GreaterOrEqual(t, span, time.Duration(0))
		}
		var c systemctl
		_, _ = c.options(strings.Fields(text))
		words, err := splitWords(text)
		if err == nil {
			require.LessOrEqual(t, len(words), len(text)+1)
		}
	})
}
