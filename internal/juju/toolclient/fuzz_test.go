package toolclient

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/fuzztest"
)

// FuzzProtocol: whatever arrives on a unit agent's socket, it costs no more than it has bytes; what is understood can be said again.
// And juju-exec's arguments.
func FuzzProtocol(f *testing.F) {
	var framed bytes.Buffer
	require.NoError(f, Write(&framed, Request{Context: "c", Tool: "config-get", Args: []string{"a"}, StdinSet: true, Stdin: []byte("x")}))
	var exec bytes.Buffer
	require.NoError(f, Write(&exec, Request{Exec: &Exec{Unit: "a/0", Script: "ls"}}))
	huge := binary.BigEndian.AppendUint32(nil, MaxMessage)
	seeds := append([][]byte{framed.Bytes(), exec.Bytes(), huge}, fuzztest.Seeds("-u\nchekbox/0\nls -l", "unit-a-0\n--\nls\n-l", "--unit=a/0\necho 'x'", "a/0")...)
	fuzztest.Run(f, 800, seeds, func(t *testing.T, data []byte) {
		var req Request
		if Read(bytes.NewReader(data), &req) == nil {
			var again bytes.Buffer
			require.NoError(t, Write(&again, req))
			var got Request
			require.NoError(t, Read(&again, &got))
			want, err := json.Marshal(req)
			require.NoError(t, err)
			have, err := json.Marshal(got)
			require.NoError(t, err)
			require.Equal(t, want, have)
		}
		socket, what, err := parseExec(strings.Split(string(data), "\n"))
		if err == nil {
			require.True(t, strings.HasPrefix(socket, "/var/lib/juju/agents/unit-"))
			require.Equal(t, path.Clean(socket), socket)
			require.NotEmpty(t, what.Unit)
		}
	})
}
