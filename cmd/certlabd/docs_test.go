package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

// documented is a command that a document shows, without the comment behind it.
var documented = regexp.MustCompile("(?:bin/current/|`)certlabd ([a-z]+ --[^`#\n]*)")

// TestCommandsInTheDocumentationAreUnderstood parses every certlabd command of every document. None is run.
func TestCommandsInTheDocumentationAreUnderstood(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("../../docs/*/*.md")
	require.NoError(t, err)
	parse := func(args ...string) error {
		var c cli
		parser, err := kong.New(&c, kong.Vars{"version": "x"}, kong.BindTo(t.Context(), (*context.Context)(nil)), kong.Exit(func(int) {}))
		require.NoError(t, err)
		_, err = parser.Parse(args)
		return err
	}
	commands := 0
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, m := range documented.FindAllStringSubmatch(string(text), -1) {
			args := strings.Fields(m[1])
			for i := 1; i < len(args); i++ {
				if args[i-1] == "--backup" || args[i-1] == "--from" {
					args[i] = os.Args[0] // a file that exists
				}
			}
			commands++
			require.NoError(t, parse(args...), "%s: certlabd %s", path, m[1])
		}
	}
	require.Greater(t, commands, 5)
	require.Error(t, parse("mend", "--data", "x"), "what is not there is noticed")
}
