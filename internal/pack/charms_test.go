package pack_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/pack"
)

// TestOurCharmsPack packs and verifies every charm of this repository for both architectures, with programs that do nothing.
func TestOurCharmsPack(t *testing.T) {
	t.Parallel()
	projects, err := filepath.Glob("../../charms/*/charmcraft.yaml")
	require.NoError(t, err)
	require.Len(t, projects, 2)
	for _, file := range projects {
		project, err := pack.LoadProject(file)
		require.NoError(t, err)
		require.Equal(t, filepath.Base(filepath.Dir(file)), project.Name)
		for platform, machine := range machines {
			bin := t.TempDir()
			for _, name := range []string{"pebble", "certlabd", "certlab-agent", project.Name + "/dispatch"} {
				write(t, filepath.Join(bin, name), string(program(machine, false)))
			}
			for other, machine := range machines {
				write(t, filepath.Join(bin, "agents", "certlab-agent_"+other), string(program(machine, false)))
			}
			write(t, filepath.Join(bin, "cert-controller", "providers", "certlab", "manage.py"), "#!/usr/bin/env python3\n")
			path, err := pack.Write(pack.Options{Dir: filepath.Dir(file), Platform: platform, Bin: bin, Out: t.TempDir()})
			require.NoError(t, err)
			require.NoError(t, pack.Verify(path))
		}
	}
}
