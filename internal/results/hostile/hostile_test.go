package hostile_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"

	"certlab/internal/cert"
	"certlab/internal/control"
	"certlab/internal/fuzztest"
	"certlab/internal/results"
	"certlab/internal/results/hostile"
)

// newMaker makes inputs from what Checkbox 2.9.1 and 5.0.0 wrote, of which it keeps all fields, but few elements of each list: most
// of what is wrong with an input is as wrong in a small one.
func newMaker(t testing.TB) *hostile.Maker {
	t.Helper()
	var packed, unpacked, submissions [][]byte
	for _, name := range []string{"v2.9.1-odd", "v5.0.0-odd"} {
		data, err := os.ReadFile("../testdata/" + name + ".tar.xz")
		require.NoError(t, err)
		var text bytes.Buffer
		require.NoError(t, results.CopyMember(&text, bytes.NewReader(data), results.Limits{}, "submission.json"))
		var whole any
		require.NoError(t, json.Unmarshal(text.Bytes(), &whole))
		small, err := json.MarshalIndent(shortened(whole), "", " ")
		require.NoError(t, err)
		require.Less(t, len(small), 12<<10)

		var plain, archive bytes.Buffer
		w := tar.NewWriter(&plain)
		for _, member := range []string{"submission.json", "test_output/a", "attachment_files/b"} {
			require.NoError(t, w.WriteHeader(&tar.Header{Name: member, Size: int64(len(small)), Mode: 0o644, Typeflag: tar.TypeReg}))
			_, err = w.Write(small)
			require.NoError(t, err)
			small = small[:min(len(small), 300)]
		}
		require.NoError(t, w.Close())
		// To clear the 8 MiB of memory that Checkbox's archives ask for, 10,000 times, would take most of the time.
		z, err := xz.WriterConfig{DictCap: 1 << 16}.NewWriter(&archive)
		require.NoError(t, err)
		_, err = z.Write(plain.Bytes())
		require.NoError(t, err)
		require.NoError(t, z.Close())
		submission, err := json.MarshalIndent(shortened(whole), "", " ")
		require.NoError(t, err)
		packed, unpacked, submissions = append(packed, archive.Bytes()), append(unpacked, plain.Bytes()), append(submissions, submission)
	}
	return hostile.New(packed, unpacked, submissions)
}

// shortened is a JSON value with at most two elements of each list, and the beginning of each text.
func shortened(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = shortened(v[i])
		}
		return v[:min(len(v), 2)]
	case map[string]any:
		for key := range v {
			v[key] = shortened(v[key])
		}
	case string:
		return v[:min(len(v), 60)]
	}
	return v
}

// archives is how many there are.
const archives = 10_000

// TestFaultHostileArchives takes ten thousand hostile submissions through what the controller indexes them with. None makes it
// crash. What is refused is refused with a reason on one line that can be shown. None takes more processor time than its size
// explains, measured against sound samples in the same run, and none holds more memory than the bound.
//
// It runs alone, as tests that are not parallel do: processor time and memory are the whole process's.
func TestFaultHostileArchives(t *testing.T) {
	// On one processor, what is unpacked and what reads it take turns without waiting for others of a busy machine.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // what is live is looked at, not what waits for collection
	m := newMaker(t)
	perByte, sound := soundCost(t, m)
	t.Logf("sound samples take %.1f ns of processor time per byte", perByte)
	// Going through 10,000 of them, a little of each collection of garbage falls on whoever comes next.
	const fixed, factor = 20 * time.Millisecond, 20
	reasons := make(map[string]int)
	accepted := 0
	memory := watchMemory(t)
	for n := range archives {
		if t.Failed() {
			break
		}
		in := m.Make(n)
		limit := fixed + time.Duration(factor*perByte*float64(int64(len(in.Data))+in.Unpacked))
		var x cert.Index
		var err error
		var spent time.Duration
		for range 4 { // the least of several: what else the process does meanwhile counts too
			before := processorTime()
			x, err = read(t, in)
			if spent = processorTime() - before; spent <= limit {
				break
			}
		}
		require.LessOrEqual(t, spent, limit, "%s: %d bytes, %d unpacked", in.Name, len(in.Data), in.Unpacked)
		if err == nil {
			require.False(t, in.Refused, "%s was accepted", in.Name)
			if in.Intact {
				require.Equal(t, sound[in.Sample], x, in.Name)
			}
			accepted++
			continue
		}
		fuzztest.Error(t, err)
		require.True(t, strings.HasPrefix(err.Error(), "cannot read submission"), "%s: %v", in.Name, err)
		require.True(t, strings.HasSuffix(err.Error(), ")"), "%s: it does not say what to do: %v", in.Name, err)
		require.False(t, t.Failed(), in.Name)
		reasons[in.Name[:strings.Index(in.Name, " (")]]++
	}
	require.Less(t, memory(), uint64(96<<20))
	require.Greater(t, accepted, archives/50, "some of what is odd can be read")
	require.Greater(t, len(reasons), 20)
}

// read indexes an input. An error is the reason why it cannot be.
func read(t *testing.T, in hostile.Input) (cert.Index, error) {
	x, err := control.ReadSubmission(context.Background(), bytes.NewReader(in.Data))
	var unreadable *control.Unreadable
	if err != nil {
		require.True(t, errors.As(err, &unreadable), "%s: %v", in.Name, err)
		require.Empty(t, x.Results)
	}
	return x, err
}

// soundCost is the processor time per byte of reading the samples, the least of several times, and what was read.
func soundCost(t *testing.T, m *hostile.Maker) (best float64, sound []cert.Index) {
	t.Helper()
	for range 8 {
		sound = nil
		before, size := processorTime(), int64(0)
		for _, in := range m.Sound() {
			x, err := read(t, in)
			require.NoError(t, err)
			sound = append(sound, x)
			size += int64(len(in.Data)) + in.Unpacked
		}
		if cost := float64(processorTime()-before) / float64(size); best == 0 || cost < best {
			best = cost
		}
	}
	return best, sound
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// watchMemory looks at what the garbage collector finds in use until the function that it returns is called, which gives the most
// that it was beyond what it is now.
func watchMemory(t *testing.T) func() uint64 {
	t.Helper()
	live := func() uint64 {
		sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	debug.FreeOSMemory()
	idle, most := live(), uint64(0)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				most = max(most, live())
			}
		}
	}()
	return func() uint64 {
		close(stop)
		<-done
		return most - min(most, idle)
	}
}
