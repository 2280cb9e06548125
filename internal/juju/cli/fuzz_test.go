package cli_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/fuzztest"
	"certlab/internal/juju/cli"
)

// FuzzCommandLine: whatever is typed after `certlab juju` ends with one of Juju's exit codes, and leaves a model that Juju could be in.
func FuzzCommandLine(f *testing.F) {
	seeds := fuzztest.Seeds("run ctrl/0 typed i=3", "status --format json", "config ctrl a=b --reset c", "config ctrl title=x count=3", "deploy ./x -n3 --to 1,2", "exec --unit ctrl/0 -- ls -l", "--help",
		"add-unit ctrl -n 2 --to 0", "remove-unit ctrl/0 --force", "remove-application ctrl --no-prompt", "integrate ctrl ctrl:x", "add-secret s a-b=c", "show-task 1", "resolved ctrl/0",
		"model-config update-status-hook-interval=5m", "constraints mem=4G", "show-status-log ctrl/0 --days 1", "debug-log --limit 3", "attach-resource ctrl tool=x")
	dir := f.TempDir()
	fuzztest.Run(f, 100, seeds, func(t *testing.T, data []byte) {
		words := strings.Fields(string(data))
		if len(words) > 100 || strings.Contains(string(data), "-o") || strings.Contains(string(data), "/") && strings.Contains(string(data), "..") { // writes or reads files elsewhere
			return
		}
		m := newModel(t, "4.0.15")
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // nothing is waited for
		code := cli.Main(ctx, cli.Env{Model: m, Dir: dir, Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}}, words)
		require.Contains(t, []int{0, 1, 2}, code)
		require.NoError(t, m.Snapshot().Check())
	})
}
