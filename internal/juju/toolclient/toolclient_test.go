package toolclient

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestJujuExecArguments(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		want Exec
		err  string
	}{
		{args: []string{"checkbox/0", "echo $X"}, want: Exec{"checkbox/0", "echo $X"}},
		{args: []string{"checkbox/0", "/charm/dispatch"}, want: Exec{"checkbox/0", "/charm/dispatch"}},
		{args: []string{"-u", "checkbox/0", "--", "ls", "-l", "it's"}, want: Exec{"checkbox/0", `'ls' '-l' 'it'\''s'`}},
		{args: []string{"unit-cert-controller-12", "true"}, want: Exec{"cert-controller/12", "true"}},
		{args: []string{"checkbox/0", "--", "true"}, want: Exec{"checkbox/0", "true"}},
		{args: nil, err: "missing unit-name"},
		{args: []string{"checkbox/0"}, err: "missing commands"},
		{args: []string{"../etc/0", "x"}, err: `invalid unit name "../etc/0"`},
		{args: []string{"checkbox", "x"}, err: `invalid unit name "checkbox"`},
		{args: []string{"--nope", "x"}, err: "option provided but not defined: --nope"},
	} {
		socket, exec, err := parseExec(test.args)
		if test.err != "" {
			require.EqualError(t, err, test.err)
			continue
		}
		require.NoError(t, err, "%q", test.args)
		require.Equal(t, test.want, *exec)
		require.Equal(t, RunSocket(test.want.Unit), socket)
	}
	require.Equal(t, "/var/lib/juju/agents/unit-cert-controller-12/run.socket", RunSocket("cert-controller/12"))
}

func TestMessagesAreBoundedAndWhole(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	want := Request{Tool: "config-get", Args: []string{"a"}, Stdin: []byte{0, 255}, StdinSet: true}
	require.NoError(t, Write(&buf, want))
	cut := buf.Bytes()[:buf.Len()-1]
	var got Request
	require.ErrorIs(t, Read(bytes.NewReader(cut), &got), io.ErrUnexpectedEOF)
	require.NoError(t, Read(bytes.NewReader(buf.Bytes()), &got))
	require.Equal(t, want, got)
	require.ErrorContains(t, Read(bytes.NewReader([]byte{255, 255, 255, 255}), &got), "is larger than")
}

func TestOutsideAHookAToolSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	var stderr strings.Builder
	code := Main([]string{"/x/config-get"}, func(string) string { return "" }, nil, io.Discard, &stderr)
	require.Equal(t, 1, code)
	require.Equal(t, "ERROR JUJU_CONTEXT_ID not set\n", stderr.String())
}
