package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
)

// TestSubmission runs transcripts of certlab submission against the samples of internal/results.
func TestSubmission(t *testing.T) {
	t.Parallel()
	samples, err := filepath.Abs("../../internal/results/testdata")
	require.NoError(t, err)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/submission",
		Setup: func(env *testscript.Env) error {
			env.Setenv("SAMPLES", samples)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"certlab": certlabCommand},
	})
}

// certlabCommand is certlab in a transcript: `certlab CODE ARGUMENT…`, where CODE is the exit code that must come. It runs in
// process; what it prints is in the files out and errors.
func certlabCommand(ts *testscript.TestScript, negated bool, args []string) {
	if negated || len(args) < 1 {
		ts.Fatalf("usage: certlab EXIT-CODE ARGUMENT…")
	}
	var out, errs strings.Builder
	for i, arg := range args { // names of files are relative to the transcript's directory
		if path := ts.MkAbs(arg); i > 0 && !filepath.IsAbs(arg) {
			if _, err := os.Stat(path); err == nil {
				args[i] = path
			}
		}
	}
	code := run(context.Background(), args[1:], streams{strings.NewReader(ts.ReadFile("input")), &out, &errs})
	ts.Check(os.WriteFile(ts.MkAbs("out"), []byte(out.String()), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("errors"), []byte(strings.ReplaceAll(errs.String(), ts.Getenv("WORK"), "$WORK")), 0o600))
	if got := string(rune('0' + code)); got != args[0] {
		ts.Fatalf("exit code %s, not %s\n%s%s", got, args[0], out.String(), errs.String())
	}
}
