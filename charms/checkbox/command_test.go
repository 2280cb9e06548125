package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestThePersonAtTheMachineFindsTheAgent(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	command := filepath.Join(l.sys.commands, "certlab-agent")
	l.Fire("config-changed").RequireStatus("active", "idle, checkbox 7.3.0, on its own")
	target, err := os.Readlink(command)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(l.base, "bin", "current", "certlab-agent"), target)
	info, err := os.Stat(command)
	require.NoError(t, err)
	require.NotZero(t, info.Mode()&0o100)

	// That of a unit that was here before is replaced.
	require.NoError(t, os.Remove(command))
	require.NoError(t, os.Symlink(filepath.Join(l.sys.root, "unit-checkbox-7", "bin", "current", "certlab-agent"), command))
	l.Fire("config-changed").RequireSuccess()
	target, err = os.Readlink(command)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(l.base, "bin", "current", "certlab-agent"), target)
	require.Len(t, files(t, l.sys.commands), 0, "nothing but the link")

	l.answer("GET", "/v1/runs", 200, []any{})
	l.Fire("stop").RequireSuccess()
	_, err = os.Lstat(command)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestAnothersCommandIsLeftAlone(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	command := filepath.Join(l.sys.commands, "certlab-agent")
	require.NoError(t, os.MkdirAll(l.sys.commands, 0o755))
	require.NoError(t, os.WriteFile(command, []byte("#!/bin/sh\n"), 0o755))
	l.Fire("config-changed").RequireStatus("active", "idle, checkbox 7.3.0, on its own")
	l.answer("GET", "/v1/runs", 200, []any{})
	l.Fire("stop").RequireSuccess()
	content, err := os.ReadFile(command)
	require.NoError(t, err)
	require.Equal(t, "#!/bin/sh\n", string(content))
}
