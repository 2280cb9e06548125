package results

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"
	"pgregory.net/rapid"

	"certlab/internal/fuzztest"
)

// TestUnxzFiles reads files that xz 5.4 wrote with settings that Checkbox does not use, and compares with another reader.
func TestUnxzFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/xz/*.xz")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			got, err := io.ReadAll(newUnxz(bytes.NewReader(data), 64<<20))
			if strings.Contains(file, "refused") {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			r, err := xz.NewReader(bytes.NewReader(data))
			require.NoError(t, err)
			want, err := io.ReadAll(r)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got))

			slow, err := io.ReadAll(newUnxz(iotest.HalfReader(bytes.NewReader(data)), 64<<20))
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, slow))
			step := 1 + len(data)/6
			if len(want) > 1<<20 { // the bomb, which takes long
				step = len(data)
			}
			for i := 0; i < len(data); i += step {
				damaged := bytes.Clone(data)
				damaged[i] ^= 0x40
				got, err := io.ReadAll(newUnxz(bytes.NewReader(damaged), 64<<20))
				// Only without a checksum can damage go unnoticed.
				require.True(t, err != nil || strings.Contains(file, "no-checksum"), "byte %d", i)
				require.LessOrEqual(t, len(got), len(want)+64<<10)
				_, err = io.ReadAll(newUnxz(bytes.NewReader(data[:i]), 64<<20))
				var e *Error
				require.ErrorAs(t, err, &e)
				require.Equal(t, Truncated, e.Kind)
			}
		})
	}
}

// TestUnxzOfAnything: whatever another writer packs, with whatever dictionary, comes out again.
func TestUnxzOfAnything(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var data []byte
		for range rapid.IntRange(0, 8).Draw(t, "pieces") {
			switch rapid.IntRange(0, 2).Draw(t, "kind") {
			case 0:
				data = append(data, rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "bytes")...)
			case 1:
				data = append(data, bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, rapid.IntRange(0, 5000).Draw(t, "times"))...)
			case 2:
				if len(data) > 0 {
					from := rapid.IntRange(0, len(data)-1).Draw(t, "from")
					data = append(data, data[from:min(len(data), from+rapid.IntRange(0, 9000).Draw(t, "length"))]...)
				}
			}
		}
		var b bytes.Buffer
		w, err := xz.WriterConfig{
			DictCap:   rapid.SampledFrom([]int{1 << 12, 1 << 13, 1 << 16}).Draw(t, "dictionary"),
			BlockSize: int64(rapid.IntRange(100, 50000).Draw(t, "block")),
			CheckSum:  rapid.SampledFrom([]byte{xz.CRC32, xz.CRC64, xz.SHA256}).Draw(t, "check"),
		}.NewWriter(&b)
		require.NoError(t, err)
		_, err = w.Write(data)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		got, err := io.ReadAll(newUnxz(&b, 1<<20))
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))
	})
}

// FuzzUnxz: no input makes it panic or run for ever, and what it says can be shown.
func FuzzUnxz(f *testing.F) {
	var seeds [][]byte
	for _, data := range fuzztest.Files(f, 12000, "testdata/xz/*.xz") {
		if len(data) < 12000 && len(data) != 1100 { // whole ones, and not the bomb
			seeds = append(seeds, data)
		}
	}
	fuzztest.Run(f, 80, seeds, func(t *testing.T, data []byte) {
		u := newUnxz(bytes.NewReader(data), 1<<20)
		_, err := io.Copy(io.Discard, io.LimitReader(u, 1<<20))
		if fuzztest.Error(t, err); err != nil {
			var e *Error
			require.ErrorAs(t, err, &e)
		}
	})
}

// BenchmarkUnxz compares with the library, on a sample.
func BenchmarkUnxz(b *testing.B) {
	data, err := os.ReadFile("testdata/v7.3.0-large.tar.xz")
	require.NoError(b, err)
	n, err := io.Copy(io.Discard, newUnxz(bytes.NewReader(data), 64<<20))
	require.NoError(b, err)
	b.Run("this", func(b *testing.B) {
		b.SetBytes(n)
		for b.Loop() {
			io.Copy(io.Discard, newUnxz(bytes.NewReader(data), 64<<20))
		}
	})
	b.Run("ulikunitz", func(b *testing.B) {
		b.SetBytes(n)
		for b.Loop() {
			r, err := xz.NewReader(bytes.NewReader(data))
			require.NoError(b, err)
			io.Copy(io.Discard, r)
		}
	})
}
