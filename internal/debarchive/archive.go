package debarchive

import (
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// component is the only one of an archive.
const component = "main"

// A Suite is one of an archive's, such as noble-proposed.
type Suite struct {
	Name         string
	Codename     string // empty: the name
	Origin       string // empty: Ubuntu
	Label        string // empty: the origin
	NotAutomatic bool   // apt takes nothing from it unless it is told to, as from -proposed since noble
	Packages     []Package
}

// Write makes the archive of those suites in a directory, over what is there: a pool, and each suite's indexes with a Release that the
// key has signed. Packages of other architectures than arch and all are refused.
func Write(dir string, key *Key, arch string, suites ...Suite) error {
	pool := map[string][]byte{}
	for _, suite := range suites {
		if err := writeSuite(dir, key, arch, suite, pool); err != nil {
			return fmt.Errorf("cannot make suite %s of an archive: %w", suite.Name, err)
		}
	}
	return nil
}

func writeSuite(dir string, key *Key, arch string, s Suite, pool map[string][]byte) error {
	var packages strings.Builder
	for _, p := range s.Packages {
		if p.Arch != arch && p.Arch != "all" {
			return fmt.Errorf("package %s is for %q and the archive for %q", p.Name, p.Arch, arch)
		}
		name := p.Filename()
		deb, known := pool[name]
		if !known {
			var err error
			if deb, err = p.Deb(); err != nil {
				return err
			}
			pool[name] = deb
			if err := write(filepath.Join(dir, filepath.FromSlash(name)), deb); err != nil {
				return err
			}
		}
		fmt.Fprintf(&packages, "%sFilename: %s\nSize: %d\nMD5sum: %x\nSHA256: %x\n\n", p.Control(), name, len(deb), md5.Sum(deb), sha256.Sum256(deb))
	}
	var compressed bytes.Buffer
	w := gzip.NewWriter(&compressed)
	if _, err := w.Write([]byte(packages.String())); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	top := filepath.Join(dir, "dists", s.Name)
	index := component + "/binary-" + arch + "/Packages"
	files := []struct {
		name string
		data []byte
	}{{index, []byte(packages.String())}, {index + ".gz", compressed.Bytes()}}
	release := s.release(arch)
	for _, f := range files {
		release += fmt.Sprintf(" %x %d %s\n", sha256.Sum256(f.data), len(f.data), f.name)
		if err := write(filepath.Join(top, filepath.FromSlash(f.name)), f.data); err != nil {
			return err
		}
	}
	inline, err := key.SignInline(release)
	if err != nil {
		return err
	}
	detached, err := key.SignDetached([]byte(release))
	if err != nil {
		return err
	}
	for name, text := range map[string]string{"InRelease": inline, "Release": release, "Release.gpg": detached} {
		if err := write(filepath.Join(top, name), []byte(text)); err != nil {
			return err
		}
	}
	return nil
}

// release is the suite's Release, up to the sums of its indexes.
func (s Suite) release(arch string) string {
	or := func(text, fallback string) string {
		if text == "" {
			return fallback
		}
		return text
	}
	origin := or(s.Origin, "Ubuntu")
	var b strings.Builder
	fmt.Fprintf(&b, "Origin: %s\nLabel: %s\nSuite: %s\nCodename: %s\n", origin, or(s.Label, origin), s.Name, or(s.Codename, s.Name))
	if s.NotAutomatic {
		b.WriteString("NotAutomatic: yes\nButAutomaticUpgrades: yes\n")
	}
	fmt.Fprintf(&b, "Date: %s\nArchitectures: %s\nComponents: %s\nSHA256:\n", epoch.Format(time.RFC1123), arch, component)
	return b.String()
}

// write makes a file that everybody may read, apt's own user among them.
func write(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
