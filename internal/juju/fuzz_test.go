package juju

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/fuzztest"
)

// FuzzHookTools: whatever a charm calls hook tools with, the calls end, with Juju's exit codes; what they have written can be
// committed, and the model is one that Juju could be in. An input is one call on each line; after a line with --- comes what they
// read from standard input.
func FuzzHookTools(f *testing.F) {
	text, err := os.ReadFile("testdata/tools-exec.txt")
	require.NoError(f, err)
	var seeds [][]byte
	for line := range strings.Lines(string(text)) {
		if call, ok := strings.CutPrefix(strings.TrimSpace(line), "$ "); ok {
			seeds = append(seeds, []byte(call))
		}
	}
	require.Greater(f, len(seeds), 50)
	seeds = append(seeds, fuzztest.Seeds(
		"relation-set -r cluster:0 --file -\nrelation-get -r cluster:0 - probe/0\n---\na: 1\nb: \"x\"\nc: \n",
		"secret-add --label l --owner unit user=a password#file=/x\nsecret-ids\nsecret-get --label l --format yaml",
		"secret-add user=abc\nsecret-set secret:x user=def --expire 1h --rotate daily", "storage-add data=3\nstorage-list", "open-port 80-90/udp\nopen-port 85\nopened-ports",
		"state-set a=b\nstate-get\nstate-delete a", "action-set a.b=c a.d=e\naction-fail no\naction-log hi", "juju-reboot --now", "network-get cluster --format json", "goal-state", "status-set active -- -x")...)
	models := probeModels{}
	fuzztest.Run(f, 200, seeds, func(t *testing.T, data []byte) {
		calls, stdin, _ := strings.Cut(string(data), "\n---\n")
		if strings.Count(calls, "\n") > 20 {
			return
		}
		for _, version := range []string{"4.0.15", "3.6.14"} {
			m := models.fresh(t, version)
			c, err := NewContext(m, ContextOptions{Unit: "probe/0", Kind: RunExec, Task: 1})
			require.NoError(t, err)
			for call := range strings.Lines(calls) {
				words := strings.Split(strings.TrimSuffix(call, "\n"), " ")
				req := Request{Tool: words[0], Args: words[1:], StdinSet: true, Stdin: []byte(stdin), Dir: "/"}
				resp := c.Do(req)
				if len(resp.NeedFiles) > 0 {
					req.Files, req.Missing = map[string][]byte{}, map[string]string{}
					for i, path := range resp.NeedFiles {
						if i%2 == 0 {
							req.Files[path] = []byte(stdin)
						} else {
							req.Missing[path] = "no such file"
						}
					}
					resp = c.Do(req)
				}
				require.Contains(t, []int{0, 1, 2, 127}, resp.Code)
				if resp.Code != 0 {
					require.NotEmpty(t, resp.Stderr)
				}
			}
			if err := c.Flush(); err != nil {
				require.NotEmpty(t, err.Error())
			}
			require.NoError(t, m.Snapshot().Check())
		}
	})
}

// probeModels are models by Juju's version, each made once: reading a charm's files takes most of the time of an input.
type probeModels map[string]*State

func (p probeModels) fresh(t *testing.T, version string) *Model {
	if p[version] == nil {
		p[version] = probeModel(t, version).Snapshot()
	}
	return NewModel(p[version].Clone(), Options{Clock: newManualClock(p[version].Units["probe/0"].Workload.Since), Random: seeded{newSeeded()}})
}

// FuzzWords: the small languages of Juju's arguments.
func FuzzWords(f *testing.F) {
	seeds := fuzztest.Seeds("rootfs,1,100M", "4G", "1e3T", "NaNM", "secret:9m4e2mr0ui3e8a215n4g", "secret://e9824888-ad46-4197-8a05-f3d6e755c569/9m4e2mr0ui3e8a215n4g",
		"10.77.0.11/24", "fe80::1", "8080-8090/tcp", "icmp", "a=b", "0x10", "1.5", "true", "update-status-hook-interval=5m")
	fuzztest.Run(f, 800, seeds, func(t *testing.T, data []byte) {
		text := string(data)
		if d, err := ParseDirective(text); err == nil {
			require.Positive(t, d.Count)
		} else {
			require.NotEmpty(t, err.Error())
		}
		if mib, ok := ParseSize(text); ok {
			require.LessOrEqual(t, mib, uint64(1)<<50)
		}
		if id, ok := ParseSecretURI(text); ok {
			again, ok := ParseSecretURI("secret:" + id)
			require.True(t, ok)
			require.Equal(t, id, again)
		}
		if port, err := parsePort(text); err == nil {
			again, err := parsePort(port.String())
			require.NoError(t, err)
			require.Equal(t, port, again)
		}
		for _, kind := range []string{"string", "int", "float", "boolean", "secret"} {
			if v, err := ParseOption(kind, text); err == nil {
				require.NotNil(t, v)
			}
		}
		_, _ = parsePrefix(text)
		key, value, _ := strings.Cut(text, "=")
		_ = CheckModelConfig(key, value)
	})
}

// FuzzCharmFiles: whatever a charm's own files say, it can be read and deployed, or is refused.
func FuzzCharmFiles(f *testing.F) {
	names := []string{"metadata.yaml", "config.yaml", "actions.yaml", "manifest.yaml"}
	var seeds [][]byte
	for _, texts := range []map[string]string{probeTexts, ctrlTexts, workerTexts} {
		var parts []string
		for _, name := range names {
			parts = append(parts, texts[name])
		}
		seeds = append(seeds, []byte(strings.Join(parts, "\x00")))
	}
	fuzztest.Run(f, 100, seeds, func(t *testing.T, data []byte) {
		texts := map[string]string{}
		for i, part := range strings.SplitN(string(data), "\x00", len(names)) {
			texts[names[i]] = part
		}
		ch, err := NewCharm(texts)
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		now := time.Unix(0, 0)
		m := NewModel(NewState(ModelInfo{Name: "lab1", UUID: "e9824888-ad46-4197-8a05-f3d6e755c569", Version: "4.0.15", Controller: "c1", Cloud: "lab"}, now), Options{})
		_ = m.Update(func(s *State) error {
			_, err := s.AddApplication(Deployment{Name: "other", Charm: s.AddCharm(ch), Units: 2}, now)
			return err
		})
		require.NoError(t, m.Snapshot().Check())
	})
}
