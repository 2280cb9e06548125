package pack_test

import (
	"archive/zip"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/juju/charm/v12"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"certlab/internal/pack"
)

const icon = `<svg xmlns="http://www.w3.org/2000/svg" width="100" height="100"/>`

// program is the smallest file that is a program for machine.
func program(machine elf.Machine, interpreter bool) []byte {
	header := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Ehsize: 64, Phentsize: 56,
	}
	var b bytes.Buffer
	if interpreter {
		header.Phoff, header.Phnum = 64, 1
	}
	binary.Write(&b, binary.LittleEndian, header)
	if interpreter {
		binary.Write(&b, binary.LittleEndian, elf.Prog64{Type: uint32(elf.PT_INTERP)})
	}
	return b.Bytes()
}

var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
}

// demo lays out a charm project with its programs, and returns how to pack it.
func demo(t *testing.T, platform string) pack.Options {
	t.Helper()
	dir := t.TempDir()
	project, err := os.ReadFile("testdata/demo/charmcraft.yaml")
	require.NoError(t, err)
	charmDir := filepath.Join(dir, "charms", "demo")
	write(t, filepath.Join(charmDir, "charmcraft.yaml"), string(project))
	write(t, filepath.Join(charmDir, "icon.svg"), icon)
	write(t, filepath.Join(charmDir, "README.md"), "# Demo\n")
	write(t, filepath.Join(charmDir, "provider", "units", "jobs.pxu"), "id: a\n")
	write(t, filepath.Join(charmDir, "provider", "manage.py"), "#!/usr/bin/env python3\n")
	require.NoError(t, os.Chmod(filepath.Join(charmDir, "provider", "manage.py"), 0o755))
	write(t, filepath.Join(charmDir, "provider", "__pycache__", "x.pyc"), "litter")
	write(t, filepath.Join(charmDir, "provider", ".hidden"), "litter")
	write(t, filepath.Join(dir, "LICENSE"), "free\n")
	bin := filepath.Join(dir, "bin")
	write(t, filepath.Join(bin, "pebble"), string(program(machines[platform], false)))
	write(t, filepath.Join(bin, "demo", "dispatch"), string(program(machines[platform], false)))
	return pack.Options{Dir: charmDir, Platform: platform, Bin: bin, Out: filepath.Join(dir, "out")}
}

func TestPackedCharmIsWhatJujuReads(t *testing.T) {
	t.Parallel()
	for platform := range machines {
		opts := demo(t, platform)
		path, err := pack.Write(opts)
		require.NoError(t, err)
		require.Equal(t, "demo_"+platform+".charm", filepath.Base(path))
		require.NoError(t, pack.Verify(path))

		c, err := pack.Read(path)
		require.NoError(t, err)
		require.Equal(t, "demo", c.Name)
		require.Equal(t, []string{platform}, c.Architectures)
		require.True(t, c.Archive.Meta().Provides["cert-agents"].Optional)
		require.Equal(t, "on", c.Archive.Actions().ActionSpecs["run"].Params["properties"].(map[string]any)["title"].(map[string]any)["default"],
			"a word that YAML 1.1 takes for true stays a text")
		require.Equal(t, "012", c.Archive.Config().Options["text"].Default)

		into := t.TempDir()
		require.NoError(t, c.Archive.ExpandTo(into))
		for name, mode := range map[string]fs.FileMode{
			"dispatch": 0o755, "bin/pebble": 0o755, "provider/manage.py": 0o755, "provider/units/jobs.pxu": 0o644, "icon.svg": 0o644,
			"README.md": 0o644, "LICENSE": 0o644, "metadata.yaml": 0o644,
		} {
			info, err := os.Stat(filepath.Join(into, name))
			require.NoError(t, err)
			require.Equal(t, mode, info.Mode().Perm(), name)
		}
		require.NoFileExists(t, filepath.Join(into, "provider", ".hidden"))
		require.NoDirExists(t, filepath.Join(into, "provider", "__pycache__"))
		require.NoFileExists(t, filepath.Join(into, "charmcraft.yaml"))
	}
}

// TestTextsAreThoseOfCharmcraft compares what is made from charmcraft.yaml with what charmcraft 4.5.0 made of the same file.
func TestTextsAreThoseOfCharmcraft(t *testing.T) {
	t.Parallel()
	path, err := pack.Write(demo(t, "arm64"))
	require.NoError(t, err)
	for _, name := range []string{"metadata.yaml", "config.yaml", "actions.yaml", "manifest.yaml"} {
		text, err := os.ReadFile(filepath.Join("testdata/demo", name))
		require.NoError(t, err)
		var want, got any
		require.NoError(t, yaml.Unmarshal(text, &want))
		require.NoError(t, yaml.Unmarshal([]byte(inCharm(t, path)[name]), &got))
		require.Equal(t, want, got, name)
	}
}

func inCharm(t *testing.T, path string) map[string]string {
	t.Helper()
	archive, err := zip.OpenReader(path)
	require.NoError(t, err)
	defer archive.Close()
	files := make(map[string]string)
	for _, f := range archive.File {
		r, err := f.Open()
		require.NoError(t, err)
		data, err := io.ReadAll(r)
		require.NoError(t, err)
		files[f.Name] = string(data)
	}
	return files
}

// TestPackedTwiceIsTheSame also with other times and another order on disk.
func TestPackedTwiceIsTheSame(t *testing.T) {
	t.Parallel()
	var packed [2][]byte
	for i := range packed {
		opts := demo(t, "amd64")
		if i == 1 {
			later := time.Now().Add(1000 * time.Hour)
			require.NoError(t, filepath.WalkDir(opts.Dir, func(path string, _ fs.DirEntry, err error) error {
				require.NoError(t, err)
				return os.Chtimes(path, later, later)
			}))
			require.NoError(t, os.Chmod(filepath.Join(opts.Dir, "README.md"), 0o600))
		}
		path, err := pack.Write(opts)
		require.NoError(t, err)
		packed[i], err = os.ReadFile(path)
		require.NoError(t, err)
		left, err := os.ReadDir(opts.Out)
		require.NoError(t, err)
		require.Len(t, left, 1, "no temporary files stay")
	}
	require.True(t, bytes.Equal(packed[0], packed[1]))
}

// TestProjectErrors: what is wrong in charmcraft.yaml or around it is named.
func TestProjectErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		old, new string
		platform string
		want     string
	}{
		"unknown key":     {"charm-user: root", "charm-usr: root", "amd64", "charm-usr"},
		"another type":    {"type: charm", "type: bundle", "amd64", `type is "bundle"`},
		"no base":         {"base: ubuntu@24.04", "base: ubuntu", "amd64", "ubuntu@24.04"},
		"no summary":      {"summary: A demo.", "summary: ''", "amd64", "summary is missing"},
		"boolean key":     {"      title: {", "      on: {", "amd64", "actions.run.params.on is a boolean"},
		"other platform":  {"", "", "riscv64", `for "riscv64"`},
		"another plugin":  {"plugin: dump, source: .,", "plugin: go, source: .,", "amd64", "part files"},
		"missing file":    {"stage: [icon.svg", "stage: [nothing.svg", "amd64", "nothing.svg"},
		"file outside":    {"stage: [icon.svg", "stage: [../x", "amd64", `"../x"`},
		"file twice":      {"stage: [icon.svg", "stage: [icon.svg, icon.svg", "amd64", "icon.svg"},
		"two documents":   {"links:\n", "---\nlinks:\n", "amd64", "more than one document"},
		"missing program": {"bin/pebble", "bin/nothing", "amd64", "nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := demo(t, "amd64")
			file := filepath.Join(opts.Dir, "charmcraft.yaml")
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Contains(t, string(text), c.old)
			write(t, file, strings.Replace(string(text), c.old, c.new, 1))
			opts.Platform = c.platform
			_, err = pack.Write(opts)
			require.ErrorContains(t, err, c.want)
			left, _ := os.ReadDir(opts.Out)
			require.Empty(t, left)
		})
	}
}

// TestVerifyFindsWhatIsWrong changes one thing in a good charm at a time.
func TestVerifyFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	replace := func(old, new string) func(string) string {
		return func(text string) string { return strings.Replace(text, old, new, 1) }
	}
	set := func(text string) func(string) string { return func(string) string { return text } }
	for name, c := range map[string]struct {
		file string
		edit func(string) string // nil: the file is left out
		mode fs.FileMode
		want string
	}{
		"no dispatch":               {"dispatch", nil, 0, "dispatch is missing"},
		"no licence":                {"LICENSE", nil, 0, "LICENSE is missing"},
		"no icon":                   {"icon.svg", nil, 0, "icon.svg is missing"},
		"no manifest":               {"manifest.yaml", nil, 0, "no bases"},
		"dispatch not executable":   {"dispatch", replace("", ""), 0o644, "dispatch is not executable"},
		"link":                      {"README.md", replace("", ""), fs.ModeSymlink | 0o777, "README.md is not a plain file"},
		"other architecture":        {"bin/pebble", set(string(program(elf.EM_AARCH64, false))), 0, "bin/pebble is for EM_AARCH64"},
		"dynamic program":           {"bin/pebble", set(string(program(elf.EM_X86_64, true))), 0, "needs the machine's C library"},
		"script as program":         {"bin/pebble", set("#!/bin/sh\n"), 0, "bin/pebble is not a program"},
		"manifest of another":       {"manifest.yaml", replace("amd64", "arm64"), 0, "the file's name is not demo_arm64.charm"},
		"icon too large":            {"icon.svg", replace(`width="100"`, `width="200"`), 0, "200x100, not 100x100"},
		"icon not svg":              {"icon.svg", set("GIF89a"), 0, "not an SVG image"},
		"endpoint without optional": {"metadata.yaml", replace("optional: true", "limit: 1"), 0, "provides.cert-agents has no optional"},
		"endpoint name":             {"metadata.yaml", replace("cert-agents", "cert_agents"), 0, "cert_agents: the name"},
		"no display name":           {"metadata.yaml", replace("display-name: Demo", ""), 0, "display-name is missing"},
		"option without text":       {"config.yaml", replace("description: p", "description: ''"), 0, "option port has no description"},
		"additional properties":     {"actions.yaml", replace("additionalProperties: false", "additionalProperties: true"), 0, "additionalProperties is not false"},
		"no additional properties":  {"actions.yaml", replace("additionalProperties: false", ""), 0, "additionalProperties is not false"},
		"list parameter":            {"actions.yaml", replace("type: integer", "type: array"), 0, `type "array" is not one of`},
		"default of another type":   {"actions.yaml", replace("default: 30", "default: thirty"), 0, "default thirty is no integer"},
		"unknown required":          {"actions.yaml", replace("parallel: true", "required: [nothing]"), 0, "required parameter nothing"},
		"boolean key":               {"actions.yaml", replace("title:", "\"yes\":"), 0, "key run.params.yes is a boolean"},
		"parameter name":            {"actions.yaml", replace("title:", "the-Title:"), 0, "the-Title: the name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, err := pack.Write(demo(t, "amd64"))
			require.NoError(t, err)
			changed := filepath.Join(t.TempDir(), "demo_amd64.charm")
			rewrite(t, path, changed, func(header *zip.FileHeader, text string) (string, bool) {
				if header.Name != c.file {
					return text, true
				}
				if c.edit == nil {
					return "", false
				}
				if c.mode != 0 {
					header.SetMode(c.mode)
				}
				return c.edit(text), true
			})
			require.ErrorContains(t, pack.Verify(changed), c.want)
		})
	}
}

// rewrite copies a charm with changes.
func rewrite(t *testing.T, from, to string, edit func(*zip.FileHeader, string) (string, bool)) {
	t.Helper()
	in, err := zip.OpenReader(from)
	require.NoError(t, err)
	defer in.Close()
	f, err := os.Create(to)
	require.NoError(t, err)
	defer f.Close()
	out := zip.NewWriter(f)
	for _, file := range in.File {
		r, err := file.Open()
		require.NoError(t, err)
		data, err := io.ReadAll(r)
		require.NoError(t, err)
		header := &zip.FileHeader{Name: file.Name, Method: zip.Deflate, ExternalAttrs: file.ExternalAttrs, CreatorVersion: file.CreatorVersion}
		text, keep := edit(header, string(data))
		if !keep {
			continue
		}
		w, err := out.CreateHeader(header)
		require.NoError(t, err)
		_, err = io.WriteString(w, text)
		require.NoError(t, err)
	}
	require.NoError(t, out.Close())
}

// TestVerifyRefusesWhatJujuRefuses: such a file gives an error of Juju's own reader.
func TestVerifyRefusesWhatJujuRefuses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x_amd64.charm")
	write(t, path, "no zip")
	require.Error(t, pack.Verify(path))

	good, err := pack.Write(demo(t, "amd64"))
	require.NoError(t, err)
	rewrite(t, good, path, func(h *zip.FileHeader, text string) (string, bool) { return text, h.Name != "metadata.yaml" })
	_, juju := charm.ReadCharmArchive(path)
	require.Error(t, juju)
	require.ErrorContains(t, pack.Verify(path), juju.Error())
}
