package provision_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/control/provision"
)

// A console's program is the site's: it may hang, print without end, or fail. Who asks gets the end of what it printed, or is told.
func TestFaultConsoleProgram(t *testing.T) {
	t.Parallel()
	var program func(ctx context.Context, out io.Writer) error
	inLab(t, 1, func(l *lab) {
		l.listed()
		ask := func() (string, error) {
			var got bytes.Buffer
			err := l.fleet().ConsoleLog(l.Context(), "node1", &got)
			return got.String(), err
		}
		program = func(ctx context.Context, out io.Writer) error {
			line := strings.Repeat("x", 63) + "\n"
			for range 200_000 {
				_, _ = io.WriteString(out, line)
			}
			_, _ = io.WriteString(out, "the end")
			return nil
		}
		text, err := ask()
		require.NoError(l, err)
		require.Len(l, text, 4<<20)
		require.True(l, strings.HasSuffix(text, "the end"))

		program = func(ctx context.Context, _ io.Writer) error { <-ctx.Done(); return errors.New("signal: killed") }
		began := time.Now()
		text, err = ask()
		require.EqualError(l, err, "cannot read the console of node1: the site's program took longer than 1m0s and was ended")
		require.Equal(l, cert.Unavailable, cert.CodeOf(err))
		require.Empty(l, text)
		require.Equal(l, time.Minute, time.Since(began))

		program = func(context.Context, io.Writer) error { return errors.New("exit status 3") }
		_, err = ask()
		require.EqualError(l, err, "cannot read the console of node1: the site's program failed: exit status 3")
		program = func(_ context.Context, out io.Writer) error {
			_, _ = io.WriteString(out, "asking\nno such node\n")
			return errors.New("exit status 3")
		}
		_, err = ask()
		require.EqualError(l, err, "cannot read the console of node1: the site's program failed: exit status 3 (no such node)")
	}, func(l *lab) {
		l.options = func(o *provision.Options) {
			o.Console = func(ctx context.Context, _ string, out io.Writer) error { return program(ctx, out) }
		}
	})
}
