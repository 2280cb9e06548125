package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"certlab/internal/agent/checkbox"
)

// Checkbox makes a directory or two in the system's temporary one for each job, and leaves them behind when it is killed. It is given
// one of its own, which goes with the attempt. It cannot be in the agent's directory: jobs run as other users too.

const tempVariable = "TMPDIR="

func (t *attempt) tempDir() string {
	rec := t.rec()
	return filepath.Join(t.agent.opts.TempDir, fmt.Sprintf("certlab-%s-%d", rec.Run.Run, rec.Run.Attempt))
}

// withTempDir adds the attempt's temporary directory to env and makes it, unless the environment has one already. A snap has its own.
func (t *attempt) withTempDir(env []string) []string {
	if checkbox.IsSnap(t.tool.Path) || slices.ContainsFunc(env, func(pair string) bool { return strings.HasPrefix(pair, tempVariable) }) {
		return env
	}
	dir := t.tempDir()
	if err := makeTempDir(dir); err != nil {
		t.agent.opts.Log.Warn("Checkbox uses the system's temporary directory", "error", err)
		return env
	}
	return append(env, tempVariable+dir)
}

// makeTempDir makes dir as /tmp is: for everybody, but nobody removes what is another's. One that another user put there is refused.
func makeTempDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("cannot use %s: it is somebody else's", dir)
	}
	return os.Chmod(dir, 0o777|os.ModeSticky)
}
