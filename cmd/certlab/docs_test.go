package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// shown is a command that a document shows, in a console block or indented, without the comment behind it.
var shown = regexp.MustCompile(`(?m)^(?:\$ |    )(?:build/bin/)?certlab (.*?)(?:\s+#.*|\s+\|.*)?$`)

// words splits a command as a shell does, as far as documents need it: at spaces that are in no quotes, nor in what another command prints.
func words(command string) (out []string) {
	word, quote, in := strings.Builder{}, rune(0), false
	before := rune(0)
	for _, c := range command {
		last := before
		before = c
		switch {
		case c == quote:
			quote = 0
		case quote == 0 && last == '$' && c == '(':
			quote = ')'
		case quote == 0 && (c == '\'' || c == '"'):
			quote, in = c, true
		case quote == 0 && c == ' ':
			if in {
				out = append(out, word.String())
			}
			word.Reset()
			in = false
		default:
			word.WriteRune(c)
			in = true
		}
	}
	if in {
		out = append(out, word.String())
	}
	return out
}

// synopsis is one line of the local lab's reference.
var synopsis = regexp.MustCompile(`(?m)^certlab (lab [a-z]+|juju)\b`)

// TestCommandsInTheDocumentationAreUnderstood parses every certlab command of every document. None is run.
func TestCommandsInTheDocumentationAreUnderstood(t *testing.T) {
	t.Parallel()
	const root = "../.."
	paths := []string{filepath.Join(root, "README.md")}
	for _, pattern := range []string{"docs/*/*.md", "charms/*/README.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		paths = append(paths, found...)
	}
	parse := func(args []string) error {
		parser, err := newParser(t.Context(), streams{strings.NewReader(""), io.Discard, io.Discard})
		require.NoError(t, err)
		parser.Exit = func(int) {}
		_, err = parser.Parse(args)
		return err
	}
	commands, lab := 0, 0
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, m := range shown.FindAllStringSubmatch(string(text), -1) {
			commands++
			require.NoError(t, parse(words(m[1])), "%s: certlab %s", path, m[1])
		}
		for _, m := range synopsis.FindAllStringSubmatch(string(text), -1) {
			lab++
			err := parse(append(strings.Fields(m[1]), "--help"))
			if err != nil {
				require.NotContains(t, err.Error(), "unexpected argument", "%s: certlab %s", path, m[1])
			}
		}
	}
	require.Greater(t, commands, 20)
	require.Equal(t, 15, lab)
	require.Error(t, parse([]string{"lab", "explode"}), "what is not there is noticed")
}
