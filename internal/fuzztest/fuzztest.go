// Package fuzztest is what Certlab's fuzz targets have in common.
//
// A target hands Run its seeds and a check that holds for every input. Run under `go test -fuzz` (make fuzz) it is an ordinary
// fuzz target. Run under plain `go test` it checks the seeds and the corpus in testdata/fuzz, and then a fixed number of mutations
// of them: the same ones in each run, without instrumentation, whose rebuilding of the packages costs minutes. CERTLAB_MUTATIONS
// multiplies that number.
//
// A check is also a bound on time: an input that takes more processor time than its size explains fails. Processor time, and not
// the clock, since tests share their machine.
package fuzztest

import (
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Run makes f a target. n is the number of mutations that plain `go test` checks.
func Run(f *testing.F, n int, seeds [][]byte, check func(t *testing.T, data []byte)) {
	f.Helper()
	for _, seed := range seeds {
		f.Add(seed)
	}
	name := f.Name()
	pool := append(corpus(f, name), seeds...)
	if len(pool) == 0 {
		pool = [][]byte{{}}
	}
	var mutated sync.Once
	f.Fuzz(func(t *testing.T, data []byte) {
		checkOne(t, name, data, check)
		if fuzzing() {
			return
		}
		mutated.Do(func() {
			m := NewMutator(name, pool)
			for range n * multiplier() {
				if checkOne(t, name, m.Next(), check); t.Failed() {
					return
				}
			}
		})
	})
}

// Seeds turns texts into seeds.
func Seeds(texts ...string) [][]byte {
	seeds := make([][]byte, len(texts))
	for i, text := range texts {
		seeds[i] = []byte(text)
	}
	return seeds
}

// Files reads seeds from the files that match the patterns. A file larger than max bytes is cut there; a pattern that matches
// nothing fails the test.
func Files(t testing.TB, max int, patterns ...string) [][]byte {
	t.Helper()
	var seeds [][]byte
	for _, pattern := range patterns {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("no seeds match %s (%v)", pattern, err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			seeds = append(seeds, data[:min(len(data), max)])
		}
	}
	return seeds
}

// fuzzing reports whether Go's own fuzzing runs, in which the mutations are its.
func fuzzing() bool {
	for _, name := range []string{"test.fuzz", "test.fuzzworker"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != f.DefValue {
			return true
		}
	}
	return false
}

func multiplier() int {
	n, err := strconv.Atoi(os.Getenv("CERTLAB_MUTATIONS"))
	if err != nil || n < 0 {
		return 1
	}
	return n
}

// corpus reads the inputs that Go's fuzzing found for the target and kept in testdata/fuzz.
func corpus(t testing.TB, target string) [][]byte {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("testdata", "fuzz", target, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var found [][]byte
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		data, err := parseCorpus(string(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		found = append(found, data)
	}
	return found
}

// parseCorpus reads Go's format for an input that is one []byte.
func parseCorpus(text string) ([]byte, error) {
	header, body, _ := strings.Cut(strings.TrimSpace(text), "\n")
	quoted, ok := strings.CutPrefix(strings.TrimSpace(body), "[]byte(")
	if quoted, ok = cutSuffix(quoted, ")", ok); !ok || header != "go test fuzz v1" {
		return nil, fmt.Errorf("not an input of one []byte")
	}
	data, err := strconv.Unquote(quoted)
	return []byte(data), err
}

func cutSuffix(s, suffix string, ok bool) (string, bool) {
	s, found := strings.CutSuffix(s, suffix)
	return s, found && ok
}

// checkOne checks one input, names it when the check fails or panics, and fails what takes too long.
func checkOne(t *testing.T, target string, data []byte, check func(t *testing.T, data []byte)) {
	t.Helper()
	if !fuzzing() {
		defer func() {
			if r := recover(); r != nil {
				t.Errorf("panic: %v\n%s", r, debug.Stack())
			}
			if t.Failed() {
				text := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", data)
				h := fnv.New64a()
				h.Write(data)
				t.Logf("to keep the input, write testdata/fuzz/%s/%016x:\n%s", target, h.Sum64(), text)
			}
		}()
	}
	limit := timeLimit(len(data))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for range 3 { // what a collection of garbage or a cold cache costs is not the reader's
		before := processorTime()
		check(t, data)
		if spent := processorTime() - before; spent <= limit || t.Failed() {
			return
		}
	}
	t.Errorf("an input of %d bytes takes more than %v of processor time", len(data), limit)
}

// timeLimit is what an input may cost: a hundred times what the slowest reader needs, the race detector included.
func timeLimit(size int) time.Duration {
	return 2*time.Second + time.Duration(size)*20*time.Microsecond
}

// processorTime is what the calling thread has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	const thread = 1 // RUSAGE_THREAD
	if syscall.Getrusage(thread, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// seed is the same for a name in every run.
func seed(name string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(name))
	return rand.New(rand.NewPCG(h.Sum64(), 1))
}
