package soak

import (
	"archive/zip"
	"io"
	"os"
	"path/filepath"
	"strings"

	"certlab/tests/lab"
)

// variants returns each charm and a second one whose programs do the same but are other files, so that a refresh changes what runs.
func variants(l *lab.Lab, dir string) (map[string][]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for _, name := range []string{"cert-controller", "checkbox"} {
		// The lab's own copy: a build may replace the original in the middle.
		first, second := filepath.Join(dir, name+"-a.charm"), filepath.Join(dir, name+"-b.charm")
		if err := copyCharm(first, l.Charm(name), ""); err != nil {
			return nil, err
		}
		if err := copyCharm(second, first, "\nanother build\n"); err != nil {
			return nil, err
		}
		out[name] = []string{first, second}
	}
	return out, nil
}

// copyCharm copies a packed charm and puts a text behind each program in it, which the kernel does not mind.
func copyCharm(to, from, behind string) (err error) {
	in, err := zip.OpenReader(from)
	if err != nil {
		return err
	}
	defer in.Close()
	file, err := os.Create(to)
	if err != nil {
		return err
	}
	defer file.Close()
	out := zip.NewWriter(file)
	for _, f := range in.File {
		if behind == "" || !strings.HasPrefix(f.Name, "bin/certlab") {
			if err := out.Copy(f); err != nil {
				return err
			}
			continue
		}
		header := f.FileHeader
		header.Method = zip.Store // packing it well takes longer than all the rest
		w, err := out.CreateHeader(&header)
		if err != nil {
			return err
		}
		r, err := f.Open()
		if err != nil {
			return err
		}
		if _, err := io.Copy(w, r); err != nil {
			return err
		}
		if _, err := io.WriteString(w, behind); err != nil {
			return err
		}
	}
	if err := out.Close(); err != nil {
		return err
	}
	return file.Close()
}
