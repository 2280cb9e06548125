package hooks

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/fuzztest"
)

func FuzzParseEnv(f *testing.F) {
	fuzztest.Run(f, 800, fuzztest.Files(f, 1<<16, "testdata/env/*.env"), func(t *testing.T, data []byte) {
		env, event, err := ParseEnv(strings.Split(string(data), "\n"))
		if err != nil {
			fuzztest.Clean(t, err.Error())
			return
		}
		require.NotContains(t, env.UnitTag(), "/")
		require.NotContains(t, env.UnitTag(), "..")
		require.NotEmpty(t, event.Kind)
	})
}

// says is a Juju whose hook tools all print the same.
type says []byte

func (s says) Run(context.Context, Command) ([]byte, error) { return bytes.Clone(s), nil }

func unitThatHears(data []byte) *Unit {
	runner := says(data)
	unit := newUnit(Env{UnitName: "a/0"}, Event{Kind: ConfigChanged}, runner, &files{dir: "testdata/none"},
		&logSink{run: runner.Run, mask: &mask{}, stderr: io.Discard, now: time.Now})
	unit.decoded = func(string, any) {}
	return unit
}

// toolOutputs are what Juju's hook tools printed, from the transcripts of a real one.
func toolOutputs(f *testing.F) [][]byte {
	text, err := os.ReadFile(filepath.Join("..", "juju", "testdata", "tools-exec.txt"))
	require.NoError(f, err)
	var seeds [][]byte
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); json.Valid([]byte(line)) {
			seeds = append(seeds, []byte(line))
		}
	}
	require.Greater(f, len(seeds), 20)
	return seeds
}

// FuzzToolOutput: whatever a hook tool prints, each reader of it either understands it or says that it does not, without showing
// it: it may be a secret.
func FuzzToolOutput(f *testing.F) {
	fuzztest.Run(f, 100, toolOutputs(f), func(t *testing.T, data []byte) {
		ctx := t.Context()
		for name, read := range map[string]func(u *Unit) error{
			"leader":       func(u *Unit) error { _, err := u.IsLeader(ctx); return err },
			"relation ids": func(u *Unit) error { _, err := u.RelationIDs(ctx, "e"); return err },
			"units":        func(u *Unit) error { _, err := u.RelationUnits(ctx, "e:1"); return err },
			"app":          func(u *Unit) error { _, err := u.RelationApp(ctx, "e:1"); return err },
			"bag":          func(u *Unit) error { _, err := u.RelationGet(ctx, "e:1", "b/0"); return err },
			"app's bag":    func(u *Unit) error { _, err := u.RelationGetApp(ctx, "e:1", "b"); return err },
			"model":        func(u *Unit) error { _, err := u.RelationModel(ctx, "e:1"); return err },
			"goal":         func(u *Unit) error { _, err := u.GoalState(ctx); return err },
			"network": func(u *Unit) error {
				n, err := u.NetworkGet(ctx, "e")
				_ = n.BindAddress() + n.IngressAddress()
				return err
			},
			"ports":         func(u *Unit) error { return u.SetPorts(ctx, "80/tcp") },
			"secret":        func(u *Unit) error { _, err := u.SecretGet(ctx, SecretRead{ID: "secret:x"}); return err },
			"secret's info": func(u *Unit) error { _, err := u.SecretInfo(ctx, "label"); return err },
			"state":         func(u *Unit) error { _, err := u.StateGet(ctx); return err },
			"storage":       func(u *Unit) error { _, err := u.StorageIDs(ctx, "data"); return err },
			"location":      func(u *Unit) error { _, err := u.StorageLocation(ctx, "data/0"); return err },
			"resource":      func(u *Unit) error { _, err := u.ResourceGet(ctx, "provider"); return err },
			"status":        func(u *Unit) error { return u.SetStatus(ctx, Active("fine")) },
		} {
			err := read(unitThatHears(data))
			if err == nil {
				continue
			}
			fuzztest.Clean(t, err.Error())
			if name != "ports" { // which Juju printed are named
				require.Less(t, len(err.Error()), 200, name)
			}
		}
	})
}

// FuzzConfig: options of each type are taken as they are, or refused by name.
func FuzzConfig(f *testing.F) {
	seeds := append(toolOutputs(f), []byte(`{"b":false,"f":1.5,"i":3,"nodef":null,"s":"hello","sec":"secret:d1h2j3k4l5m6n7o8p9q0"}`), []byte(`{"b":1,"f":"x","i":1e3,"nodef":"a","s":3,"sec":{}}`))
	type options struct {
		B     bool     `config:"b"`
		F     float64  `config:"f"`
		I     int64    `config:"i"`
		NoDef *string  `config:"nodef"`
		S     string   `config:"s"`
		Sec   SecretID `config:"sec"`
	}
	fuzztest.Run(f, 800, seeds, func(t *testing.T, data []byte) {
		var got options
		if err := unitThatHears(data).Config(t.Context(), &got); err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				fuzztest.Clean(t, line)
			}
			return
		}
		text, err := json.Marshal(map[string]any{"b": got.B, "f": got.F, "i": got.I, "nodef": got.NoDef, "s": got.S, "sec": got.Sec})
		require.NoError(t, err)
		var again options
		require.NoError(t, unitThatHears(text).Config(t.Context(), &again))
		require.Equal(t, got, again, "written and read again")
		require.NotContains(t, got.Sec.Bare(), "/")
	})
}

// FuzzText: ports, what goes into a status or an action's result, and what hides secrets.
func FuzzText(f *testing.F) {
	seeds := fuzztest.Seeds("8443/tcp", "9000-9010/udp", "icmp", "80", "65536/tcp", "2-1/tcp",
		"a\nb", "\x1b[31mred", "é\xff", strings.Repeat("é", 300),
		"hunter22\nin hunter22 it is", "a long secret\ntext without it", "multi=line=value\nmulti=line=value")
	fuzztest.Run(f, 800, seeds, func(t *testing.T, data []byte) {
		checkPort(t, string(data))
		checkOneLine(t, string(data))
		checkMask(t, string(data))
	})
}

func checkPort(t *testing.T, text string) {
	port, err := normalPort(text)
	if err != nil {
		fuzztest.Clean(t, err.Error())
		return
	}
	again, err := normalPort(port)
	require.NoError(t, err)
	require.Equal(t, port, again)
}

// checkOneLine: what goes into a status, or an action's result, is one line of the size that was asked for.
func checkOneLine(t *testing.T, text string) {
	const max = 256
	line := oneLine(text, max)
	require.LessOrEqual(t, len(line), max)
	if line != "" {
		fuzztest.Clean(t, line)
	}
	require.Equal(t, line, oneLine(line, max))
	flat := map[string]string{}
	require.NoError(t, flatten(flat, "", map[string]any{"text": text, "list": []string{text}}))
	require.Len(t, flat, 2)
}

// checkMask: no secret that a charm has read is in what it prints.
func checkMask(t *testing.T, input string) {
	secret, text, _ := strings.Cut(input, "\n")
	m := &mask{}
	m.add(secret)
	hidden := m.hide(text + secret)
	if trimmed := strings.TrimSpace(secret); len(trimmed) >= 8 && !strings.ContainsAny(trimmed, "[]") { // what stands for it has these
		require.NotContains(t, hidden, trimmed)
	}
}
