package juju

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// secretWorld has ctrl and two workers in relation agents:1, and a secret of ctrl's that is granted to worker.
func secretWorld(t *testing.T) (w *world, id string) {
	t.Helper()
	w = newWorld(t, "4.0.15", map[string]func(*script){"ctrl": ctrlCharm, "worker": nil})
	w.update(func(s *State, now time.Time) error {
		if _, err := s.AddApplication(Deployment{Name: "ctrl", Charm: s.AddCharm(testCharm(t, ctrlTexts)), Units: 1}, now); err != nil {
			return err
		}
		if _, err := s.AddApplication(Deployment{Name: "worker", Charm: s.AddCharm(testCharm(t, workerTexts)), Units: 2}, now); err != nil {
			return err
		}
		_, err := s.AddRelation("ctrl", "worker", now)
		return err
	})
	w.quiet()
	w.took()
	for id = range w.model.Snapshot().Secrets {
	}
	require.NotEmpty(t, id)
	return w, id
}

// says runs a script and compares what it printed, with the ids that it made replaced by NEW.
func (w *world) says(unit, script, stdout, stderr string) *Task {
	w.t.Helper()
	task := w.exec(unit, script)
	made := regexp.MustCompile(`[0-9a-v]{19}[0g]\b`)
	text := func(name string) string {
		text, _ := task.Results[name].(string)
		return made.ReplaceAllString(text, "NEW")
	}
	require.Equal(w.t, made.ReplaceAllString(stdout, "NEW"), text("stdout"), "$ %s", script)
	require.Equal(w.t, made.ReplaceAllString(stderr, "NEW"), text("stderr"), "$ %s", script)
	return task
}

// The texts and codes are those of testdata's source, a transcript of `juju exec` with secrets on Juju 4.0.15.
func TestSecretsAnswerAsMeasured(t *testing.T) {
	t.Parallel()
	w, id := secretWorld(t)
	w.says("worker/0", "secret-get "+id+"; secret-get secret:"+id+" user; secret-get "+id+" nosuch",
		"password: pw-1\nuser: agent\nrc=0\nagent\nrc=0\nrc=1\n", "ERROR secret key value \"nosuch\" not found\n")
	w.says("worker/0", "secret-get "+id+" --label mylabel --format json; secret-get --label mylabel user; secret-get --label nosuch; secret-get --label mylabel",
		"{\"password\":\"pw-1\",\"user\":\"agent\"}\nrc=0\nrc=2\nrc=1\npassword: pw-1\nuser: agent\nrc=0\n",
		"ERROR secret URI \"user\" not valid\nERROR secret URI for consumer label \"nosuch\" not found\n")
	w.says("worker/0", "secret-info-get "+id, "rc=1\n", "ERROR secret \""+id+"\" not found\n")
	w.says("worker/0", "secret-get secret:aaaaaaaaaaaaaaaaaaaa; secret-get notanid; secret-get", "rc=2\nrc=2\nrc=2\n",
		"ERROR secret URI \"secret:aaaaaaaaaaaaaaaaaaaa\" not valid\nERROR secret URI \"notanid\" not valid\nERROR require either a secret URI or label\n")
	task := w.says("worker/0", "secret-set "+id+" password=x; secret-remove "+id+"; secret-grant "+id+" -r agents:1; secret-revoke "+id+" -r agents:1",
		"rc=0\nrc=0\nrc=1\nrc=0\n",
		"ERROR secret \""+id+"\" not found\n\nrevoking secrets access: \"worker/0\" is not allowed to manage this secret")
	require.Equal(t, TaskFailed, task.Status)

	w.says("ctrl/0", "secret-info-get --label agent-creds",
		id+":\n  revision: 1\n  label: agent-creds\n  owner: application\n  rotation: never\n  access:\n  - target: application-worker\n"+
			"    scope: relation-worker.agents#ctrl.agents\n    role: view\nrc=0\n", "")
	w.says("ctrl/0", "secret-grant "+id+" -r agents:1; secret-grant "+id+"; secret-grant "+id+" -r agents:9", "rc=0\nrc=2\nrc=2\n",
		"ERROR no relation id specified\nERROR invalid value \"agents:9\" for option -r: relation not found\n")
	w.says("ctrl/0", "secret-grant "+id+" -r agents:1 --unit ctrl/0; secret-grant "+id+" -r cluster:0", "rc=2\nrc=0\n",
		"ERROR cannot specify unit \"ctrl/0\" in relation to application \"worker\"\n\n"+
			"granting secrets access: granting access to a secret over a peer relation is not supported")
	w.says("ctrl/0", "secret-add --label agent-creds user=other", "secret://8cac5806-7ba1-4d95-8a50-ce11f7151656/"+id+"\nrc=0\n",
		"executing leadership func: create secrets: creating secret \""+id+"\": secret with label \"agent-creds\" already exists")
	w.says("ctrl/0", "secret-add; secret-add ab=1; secret-add Abc=1; secret-add a-b_c=1", "rc=2\nrc=2\nrc=2\nrc=2\n",
		"ERROR missing secret value or filename\nERROR key \"ab\" not valid\nERROR key \"Abc\" not valid\nERROR key \"a-b_c\" not valid\n")

	second := strings.TrimSpace(strings.Split(w.exec("ctrl/0", "secret-add --label second --owner unit key-one=v1").Results["stdout"].(string), "\n")[0])
	denied := func(unit string) {
		t.Helper()
		w.says(unit, "secret-get "+second, "rc=1\n", "ERROR \""+unit+"\" is not allowed to read this secret\n")
	}
	denied("worker/0")
	w.says("ctrl/0", "secret-grant "+second+" -r agents:1 --unit worker/1", "rc=0\n", "")
	denied("worker/0")
	w.says("worker/1", "secret-get "+second, "key-one: v1\nrc=0\n", "")
	w.says("ctrl/0", "secret-revoke "+second+" -r agents:1 --unit worker/1", "rc=0\n", "")
	denied("worker/1")
	w.says("ctrl/0", "secret-revoke "+second+" -r agents:1; secret-revoke "+second, "rc=0\nrc=2\n", "ERROR missing relation or application or unit\n")
	w.exec("ctrl/0", "secret-add --label other --owner unit key-one=v1")
	w.says("ctrl/0", "secret-set "+second+"; secret-set "+second+" key-one=v1; secret-set "+second+" --label other", "rc=0\nrc=0\nrc=0\n",
		"update secrets: updating secret \""+id+"\": secret with label \"other\" already exists")
}

func TestAConsumerKeepsItsRevisionUntilItRefreshes(t *testing.T) {
	t.Parallel()
	w, id := secretWorld(t)
	w.says("worker/0", "secret-get "+id+" password", "pw-1\nrc=0\n", "")
	w.exec("ctrl/0", "secret-set "+id+" password=pw-2 user=agent")
	w.quiet()
	require.Equal(t, map[string][]string{"worker/0": {"secret-changed JUJU_SECRET_ID=secret:" + id + " JUJU_SECRET_LABEL="}}, w.took(),
		"only who has read it is told")
	w.says("worker/0", "secret-get "+id+" password; secret-get "+id+" password --peek; secret-get "+id+" password", "pw-1\nrc=0\npw-2\nrc=0\npw-1\nrc=0\n", "")
	w.says("worker/1", "secret-get "+id+" password", "pw-2\nrc=0\n", "")
	w.says("worker/0", "secret-get "+id+" password --refresh; secret-get "+id+" password", "pw-2\nrc=0\npw-2\nrc=0\n", "")
	w.quiet()
	require.Equal(t, map[string][]string{"ctrl/0": {"secret-remove JUJU_SECRET_ID=" + id + " JUJU_SECRET_LABEL=agent-creds JUJU_SECRET_REVISION=1"}},
		w.took(), "nobody holds revision 1 any more")
	w.exec("ctrl/0", "secret-remove "+id+" --revision 1")
	require.Nil(t, w.model.Snapshot().Secrets[id].Revision(1))
	require.Equal(t, 2, w.model.Snapshot().Secrets[id].Latest())
}
