// Package pack writes, reads and checks .charm files, and checks bundles against them.
//
// charmcraft.yaml, in the layout of charmcraft 4, is the only source of what a charm says of itself: metadata.yaml, config.yaml,
// actions.yaml and manifest.yaml are made from it as charmcraft makes them (the tests compare with files of charmcraft 4.5.0).
// Charmcraft builds in a container that sees only the charm's own directory; this packer needs neither, and writes the same
// bytes for the same input: entries sorted, one fixed time, modes 0644 and 0755.
//
// # Parts
//
// Only dump parts with an explicit list of files are understood, so that what goes into a charm is to be read in its
// charmcraft.yaml. A part whose source begins with build/ holds what is compiled: its files come from the directory given to
// Write, bin/NAME from <bin>/NAME and what else there is, such as dispatch, from <bin>/<charm>/. The others come from the charm's directory.
package pack

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Options say what to pack.
type Options struct {
	Dir      string // the charm's, with charmcraft.yaml
	Platform string // one of its platforms, such as amd64
	Bin      string // where the compiled programs for that platform are
	Out      string // directory for the .charm file
}

// epoch is the time of everything in a charm: the first that a zip can express.
var epoch = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// entry is one file of a charm: its contents, or where they are.
type entry struct {
	mode fs.FileMode
	data []byte
	path string
}

// Write packs a charm and returns the file's path, <Out>/<name>_<platform>.charm. It replaces an older file only when the new one is
// complete and on disk. The same input gives the same bytes.
func Write(opts Options) (string, error) {
	project, err := LoadProject(filepath.Join(opts.Dir, ProjectFile))
	if err != nil {
		return "", err
	}
	entries, err := collect(project, opts)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(opts.Out, 0o755); err != nil {
		return "", fmt.Errorf("cannot pack %s: %w", project.Name, err)
	}
	out := filepath.Join(opts.Out, FileName(project.Name, opts.Platform))
	if err := replace(out, func(w io.Writer) error { return writeZip(w, entries) }); err != nil {
		return "", fmt.Errorf("cannot pack %s: %w", project.Name, err)
	}
	return out, nil
}

// FileName is the name that charmcraft gives a charm's file.
func FileName(name, platform string) string {
	return name + "_" + strings.ReplaceAll(platform, ":", "-") + ".charm"
}

// replace writes a file beside path, syncs it, and renames it to path.
func replace(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".pack-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func writeZip(w io.Writer, entries map[string]entry) error {
	archive := zip.NewWriter(w)
	for _, name := range sortedKeys(entries) {
		e := entries[name]
		header := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: epoch}
		header.SetMode(e.mode)
		to, err := archive.CreateHeader(header)
		if err != nil {
			return err
		}
		if err := e.copyTo(to); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return archive.Close()
}

func (e entry) copyTo(w io.Writer) error {
	if e.path == "" {
		_, err := io.Copy(w, bytes.NewReader(e.data))
		return err
	}
	f, err := os.Open(e.path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// collect finds everything that goes into the charm.
func collect(project *Project, opts Options) (map[string]entry, error) {
	generated, err := project.files(opts.Platform)
	if err != nil {
		return nil, err
	}
	entries := make(map[string]entry)
	for name, data := range generated {
		entries[name] = entry{mode: 0o644, data: data}
	}
	c := collector{project: project, opts: opts, entries: entries}
	for _, name := range sortedKeys(project.Parts) {
		part := project.Parts[name]
		for _, file := range part.Stage {
			if err := c.stage(part, file); err != nil {
				return nil, fmt.Errorf("cannot pack %s: part %s: %w", project.Name, name, err)
			}
		}
	}
	return entries, nil
}

type collector struct {
	project *Project
	opts    Options
	entries map[string]entry
}

func (c *collector) stage(part Part, file string) error {
	if clean := path.Clean(file); clean != file || path.IsAbs(file) || strings.HasPrefix(file, "..") || strings.ContainsAny(file, "*?[\\") {
		return fmt.Errorf("cannot stage %q (name plain files and directories)", file)
	}
	source := filepath.Join(c.opts.Dir, filepath.FromSlash(part.Source), filepath.FromSlash(file))
	if strings.HasPrefix(part.Source, buildSource) {
		source = filepath.Join(c.opts.Bin, c.project.Name, file)
		if program, ok := strings.CutPrefix(file, "bin/"); ok {
			source = filepath.Join(c.opts.Bin, filepath.FromSlash(program))
		}
	} else if file == "LICENSE" {
		if _, err := os.Lstat(source); err != nil { // one licence for the whole repository
			source = filepath.Join(c.opts.Dir, "..", "..", file)
		}
	}
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return c.add(file, source, info)
	}
	return filepath.WalkDir(source, func(found string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if found != source && litter(d.Name()) {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return nil
		}
		info, err := os.Lstat(found)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(source, found)
		if err != nil {
			return err
		}
		return c.add(path.Join(file, filepath.ToSlash(relative)), found, info)
	})
}

// litter is what working with a directory leaves in it.
func litter(name string) bool {
	return strings.HasPrefix(name, ".") || name == "__pycache__" || strings.HasSuffix(name, ".pyc") || strings.HasSuffix(name, "~")
}

func (c *collector) add(name, source string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("cannot stage %s: it is not a plain file", name)
	}
	if _, ok := c.entries[name]; ok {
		return fmt.Errorf("cannot stage %s: the charm has it already", name)
	}
	mode := fs.FileMode(0o644)
	if info.Mode()&0o111 != 0 || name == dispatchFile || strings.HasPrefix(name, "bin/") {
		mode = 0o755
	}
	c.entries[name] = entry{mode: mode, path: source}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
