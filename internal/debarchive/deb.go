package debarchive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// A Package is a binary package.
type Package struct {
	Name    string
	Version string
	Arch    string // such as amd64, or all
	Source  string // name of the source package; empty: as Name
	Summary string // empty: the name
	// Fields are those of its control file besides the ones above, such as Depends, Provides or Section.
	Fields  map[string]string
	Files   []File
	Scripts map[string]string // such as postinst
}

// A File of a package.
type File struct {
	Path string // absolute
	Mode fs.FileMode
	Data string
	Link string // what a symbolic link leads to; then there is no Data
}

// epoch is when everything in an archive was made: what is the same has the same bytes.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// Control returns the package's control paragraph, without a Status, a Filename or sums.
func (p Package) Control() string {
	summary := p.Summary
	if summary == "" {
		summary = p.Name
	}
	size := 0
	for _, f := range p.Files {
		size += len(f.Data)
	}
	fields := map[string]string{
		"Architecture": p.Arch, "Maintainer": "Certlab <certlab@localhost>", "Installed-Size": fmt.Sprint(size/1024 + 1), "Section": "kernel", "Priority": "optional",
	}
	if p.Source != "" && p.Source != p.Name {
		fields["Source"] = p.Source
	}
	maps.Copy(fields, p.Fields)
	var b strings.Builder
	fmt.Fprintf(&b, "Package: %s\nVersion: %s\n", p.Name, p.Version)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		fmt.Fprintf(&b, "%s: %s\n", name, fields[name])
	}
	fmt.Fprintf(&b, "Description: %s\n", summary)
	return b.String()
}

// Filename is the package's path in the pool of an archive.
func (p Package) Filename() string {
	source := p.Source
	if source == "" {
		source = p.Name
	}
	_, version, found := strings.Cut(p.Version, ":") // an epoch is not in file names
	if !found {
		version = p.Version
	}
	return path.Join("pool/main", source[:1], source, fmt.Sprintf("%s_%s_%s.deb", p.Name, version, p.Arch))
}

// Deb returns the package as dpkg reads it (deb(5)).
func (p Package) Deb() ([]byte, error) {
	if p.Name == "" || p.Version == "" || p.Arch == "" {
		return nil, fmt.Errorf("cannot make package %q: it needs a name, a version and an architecture", p.Name)
	}
	control, err := p.controlTar()
	if err != nil {
		return nil, fmt.Errorf("cannot make package %s: %w", p.Name, err)
	}
	data, err := tarGz(p.Files)
	if err != nil {
		return nil, fmt.Errorf("cannot make package %s: %w", p.Name, err)
	}
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for _, member := range []struct {
		name string
		data []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar.gz", control}, {"data.tar.gz", data}} {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", member.name, epoch.Unix(), 0, 0, "100644", len(member.data))
		b.Write(member.data)
		if len(member.data)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes(), nil
}

func (p Package) controlTar() ([]byte, error) {
	files := []File{{Path: "/control", Mode: 0o644, Data: p.Control()}, {Path: "/md5sums", Mode: 0o644, Data: p.Sums()}}
	for _, name := range slices.Sorted(maps.Keys(p.Scripts)) {
		files = append(files, File{Path: "/" + name, Mode: 0o755, Data: p.Scripts[name]})
	}
	return tarGz(files)
}

// Sums are the package's md5sums, as dpkg keeps them.
func (p Package) Sums() string {
	var b strings.Builder
	for _, f := range p.Files {
		if f.Link == "" {
			fmt.Fprintf(&b, "%x  %s\n", md5.Sum([]byte(f.Data)), strings.TrimPrefix(f.Path, "/"))
		}
	}
	return b.String()
}

// Paths are the package's files and the directories that they are in, as dpkg keeps them.
func (p Package) Paths() []string {
	paths := []string{"/."}
	for _, name := range withParents(p.Files) {
		paths = append(paths, "/"+name)
	}
	return paths
}

// withParents returns the files' names, relative, after those of the directories that they are in.
func withParents(files []File) []string {
	var names []string
	seen := map[string]bool{".": true}
	var add func(name string)
	add = func(name string) {
		if seen[name] {
			return
		}
		add(path.Dir(name))
		seen[name] = true
		names = append(names, name)
	}
	for _, f := range files {
		add(strings.TrimPrefix(path.Clean(f.Path), "/"))
	}
	return names
}

func tarGz(files []File) ([]byte, error) {
	byName := map[string]File{}
	for _, f := range files {
		if !path.IsAbs(f.Path) {
			return nil, errors.New("path " + f.Path + " is not absolute")
		}
		byName[strings.TrimPrefix(path.Clean(f.Path), "/")] = f
	}
	var b bytes.Buffer
	compressed := gzip.NewWriter(&b)
	w := tar.NewWriter(compressed)
	if err := w.WriteHeader(&tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: epoch, Format: tar.FormatGNU}); err != nil {
		return nil, err
	}
	for _, name := range withParents(files) {
		f, isFile := byName[name]
		h := &tar.Header{Name: "./" + name, Typeflag: tar.TypeReg, Mode: int64(f.Mode.Perm()), ModTime: epoch, Size: int64(len(f.Data)), Format: tar.FormatGNU}
		switch {
		case !isFile:
			h.Name, h.Typeflag, h.Mode, h.Size = h.Name+"/", tar.TypeDir, 0o755, 0
		case f.Link != "":
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, f.Link, 0
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte(f.Data)); err != nil {
				return nil, err
			}
		}
	}
	if err := errors.Join(w.Close(), compressed.Close()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
