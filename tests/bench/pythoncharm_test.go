package bench

import (
	"archive/zip"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// opsVersion is the release of ops, the framework that charms in Python are written with, that ours are compared with.
const opsVersion = "2.23.1"

// pythonCharm packs the smallest charm in Python into dir and returns its path. Its framework is installed below the repository, which a lab's
// machines see, and stays there for the next run; that fails where Python's package index cannot be reached.
func pythonCharm(ctx context.Context, root, dir string) (path string, err error) {
	venv := filepath.Join(root, "build", "bench", "ops-"+opsVersion)
	if err := installOps(ctx, venv); err != nil {
		return "", err
	}
	path = filepath.Join(dir, "three-lines.charm")
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	archive := zip.NewWriter(f)
	for _, file := range []struct {
		name, text string
		mode       os.FileMode
	}{
		{"metadata.yaml", "name: three-lines\nsummary: A charm of three lines.\ndescription: What a hook costs that changes nothing.\n", 0o644},
		{"manifest.yaml", "bases:\n- {name: ubuntu, channel: \"24.04\", architectures: [amd64, arm64]}\n", 0o644},
		{"dispatch", "#!/bin/sh\nexec " + filepath.Join(venv, "bin", "python") + " src/charm.py\n", 0o755},
		{"src/charm.py", "import ops\nclass ThreeLines(ops.CharmBase): pass\nops.main(ThreeLines)\n", 0o755},
	} {
		header := &zip.FileHeader{Name: file.name, Method: zip.Deflate}
		header.SetMode(file.mode)
		w, err := archive.CreateHeader(header)
		if err != nil {
			return "", err
		}
		if _, err := w.Write([]byte(file.text)); err != nil {
			return "", err
		}
	}
	return path, archive.Close()
}

// installOps makes a Python environment with ops at venv, if it is not there already.
func installOps(ctx context.Context, venv string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	python := filepath.Join(venv, "bin", "python")
	if exec.CommandContext(ctx, python, "-c", "import ops").Run() == nil {
		return nil
	}
	if err := os.RemoveAll(venv); err != nil {
		return err
	}
	for _, command := range [][]string{
		{"python3", "-m", "venv", venv},
		{python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "ops==" + opsVersion},
	} {
		if out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("cannot install ops: %w: %s", err, out)
		}
	}
	return nil
}
