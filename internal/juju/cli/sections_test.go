package cli_test

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/stretchr/testify/require"

	"certlab/internal/juju"
)

// agentCreds is the secret that the transcripts' ctrl makes for its agents; tok is the one that a user added.
const (
	agentCreds = "g1a6hkg3kbj25ult13bg"
	tok        = "l18evcsjulua4ltbu9g0"
)

func setNextTask(n int) func(*juju.State) error {
	return func(s *juju.State) error {
		if n >= 0 && s.Operations[n] == nil && s.Tasks[n] == nil {
			s.Next.Task = n
		}
		return nil
	}
}

// must runs a line that has to succeed.
func (l *lab) must(line string) {
	_, stderr, code := l.shell(line)
	require.Zero(l.t, code, "%s\n%s", line, stderr)
}

// deployed is the transcripts' bundle, settled. worker/2 is the leader, as it happened to be.
func deployed(l *lab) {
	justDeployed(l)
	require.NoError(l.t, l.model.Update(func(s *juju.State) error {
		s.Applications["worker"].Leader = "worker/2"
		s.Applications["worker"].LeaseEnd = l.model.Now().AddDate(1, 0, 0)
		return nil
	}))
	l.keepStill()
	l.settled()
}

// justDeployed is the bundle before any agent has begun.
func justDeployed(l *lab) {
	l.keepStill("ctrl", "worker")
	l.must("juju deploy ./bundle.yaml --map-machines=existing")
}

// firstNames gives the faulty bundles the applications' names that they had at first.
func firstNames(l *lab) {
	for _, name := range []string{"bundle-badrel.yaml", "bundle-badopt.yaml", "bundle-badtype.yaml"} {
		path := filepath.Join(l.dir, name)
		data, err := os.ReadFile(path)
		require.NoError(l.t, err)
		text := strings.NewReplacer("ctrl2", "ctrl", "worker2", "worker").Replace(string(data))
		require.NoError(l.t, os.WriteFile(path, []byte(text), 0o644))
	}
}

// sections are what is replayed, each with what the lab was like before it.
var sections = []section{
	{file: "1-deploy.txt", to: 201, seed: firstNames, anyOrder: map[int]bool{113: true, 146: true, 128: true, 107: true}},
	{file: "2-status.txt", to: 50, seed: justDeployed, atOnce: map[int]bool{2: true, 21: true, 50: true}},
}

// unmatched commands are passed over, with the reason.
var unmatched = map[string]string{}
