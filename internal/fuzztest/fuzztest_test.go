package fuzztest

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMutationsAreTheSameInEachRun: a failure in make test can be had again, and other targets have other mutations.
func TestMutationsAreTheSameInEachRun(t *testing.T) {
	t.Parallel()
	pool := Seeds("alpha 1", `{"beta": [2, 3]}`)
	a, b, other := NewMutator("x", pool), NewMutator("x", pool), NewMutator("y", pool)
	same, distinct := 0, map[string]bool{}
	for range 500 {
		next := a.Next()
		require.Equal(t, next, b.Next())
		if bytes.Equal(next, other.Next()) {
			same++
		}
		distinct[string(next)] = true
	}
	require.Less(t, same, 50)
	require.Greater(t, len(distinct), 400)
	require.Equal(t, "alpha 1", string(pool[0]), "the seeds stay as they are")
}

func TestCorpusIsGos(t *testing.T) {
	t.Parallel()
	data, err := parseCorpus("go test fuzz v1\n[]byte(\"a\\x00\\n\\\")\")\n")
	require.NoError(t, err)
	require.Equal(t, "a\x00\n\")", string(data))
	for _, text := range []string{"", "go test fuzz v1\nstring(\"a\")\n", "[]byte(\"a\")\n"} {
		_, err = parseCorpus(text)
		require.Error(t, err, text)
	}
}

// recorder is told of failures.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Error(...any)          { r.failed = true }
func (r *recorder) Errorf(string, ...any) { r.failed = true }

func TestTextsThatDisturbAreFound(t *testing.T) {
	t.Parallel()
	for text, bad := range map[string]bool{
		"cannot read é: no": false, "": true, "a\nb": true, "a\x1b[31m": true, "a\xff": true, strings.Repeat("x", 1025): true, "a\u0085b": true,
	} {
		r := &recorder{TB: t}
		Error(r, errors.New(text))
		require.Equal(t, bad, r.failed, "%q", text)
	}
	r := &recorder{TB: t}
	Error(r, nil)
	Lines(r, errors.New("a\n\tb"), 2)
	require.False(t, r.failed)
	Lines(r, errors.New("a\nb\nc"), 2)
	require.True(t, r.failed)
}
