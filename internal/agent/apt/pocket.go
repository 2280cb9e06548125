package apt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"certlab/internal/durable"
	"certlab/internal/order"
)

// An Opened is the pocket or archive that a subject's packages come from.
type Opened struct {
	Where string   `json:"where"`           // for people, such as "noble-proposed of http://archive.ubuntu.com/ubuntu"; without a password
	Own   bool     `json:"own,omitempty"`   // the machine uses it anyway: nothing was added
	Lists []string `json:"lists,omitempty"` // names of the files that reading it has added to apt's lists
	pins  string   // that keep all else out; empty: not needed
}

// pockets are the suites of a release, by name.
var pockets = map[string]string{"proposed": "-proposed", "updates": "-updates", "security": "-security", "release": "", "backports": "-backports"}

// Where is the source that a subject's packages come from, and whether the machine uses it anyway.
func (s *System) where(sub *order.Subject) (src Source, own bool, err error) {
	all, err := s.Sources()
	if err != nil {
		return Source{}, false, err
	}
	if a := sub.Archive; a != nil {
		components := a.Components
		if len(components) == 0 && !strings.HasSuffix(a.Suite, "/") {
			components = []string{"main"}
		}
		src = Source{URI: a.URI, Suite: a.Suite, Components: components, Options: map[string]string{}}
		return src, a.Key == "" && configured(all, a.URI, a.Suite, components), nil
	}
	archive, ok := archiveOf(all, sub.Series)
	if !ok {
		return Source{}, false, fmt.Errorf("cannot tell where the packages of %s come from: none of the machine's archives has the suite %s (look at /etc/apt/sources.list and sources.list.d)", sub.Series, sub.Series)
	}
	suffix, ok := pockets[sub.Pocket]
	if sub.Pocket == "" {
		return archive, true, nil
	}
	if !ok {
		return Source{}, false, fmt.Errorf("cannot use pocket %q: there are proposed, updates, security, release and backports", sub.Pocket)
	}
	src = archive
	src.Suite = sub.Series + suffix
	return src, configured(all, src.URI, src.Suite, src.Components), nil
}

// Open adds the pocket or archive of a subject to those that the machine reads, and reads it. Nothing is installed from it by itself: see Pin.
func (s *System) Open(ctx context.Context, sub *order.Subject) (Opened, error) {
	src, own, err := s.where(sub)
	if err != nil {
		return Opened{}, err
	}
	opened := Opened{Own: own, Where: src.Suite + " of " + withoutPassword(src.URI)}
	// What a new kernel needs besides itself comes from the machine's own archives, which a fresh machine may not have read yet.
	if own || !slices.ContainsFunc(s.lists(), func(name string) bool { return strings.HasSuffix(name, "Release") }) {
		out, err := s.aptGet(ctx, "update", "-o", "APT::Update::Error-Mode=any")
		switch {
		case errors.Is(err, ErrLocked):
			return opened, fmt.Errorf("cannot read the machine's archives: %w", err)
		case err != nil || failedToFetch(out):
			return opened, fmt.Errorf("cannot read the machine's archives: %s", said(out))
		}
	}
	if own {
		return opened, nil
	}
	if err := s.write(src, sub.Archive); err != nil {
		return opened, fmt.Errorf("cannot add %s: %w", opened.Where, err)
	}
	before := s.lists()
	out, err := s.aptGet(ctx, "update", "-o", "Dir::Etc::SourceList="+s.path(sourcesFile), "-o", "Dir::Etc::SourceParts=-", "-o", "APT::Get::List-Cleanup=0",
		"-o", "APT::Update::Error-Mode=any")
	if err != nil || failedToFetch(out) {
		if errors.Is(err, ErrLocked) {
			return opened, fmt.Errorf("cannot read %s: %w", opened.Where, err)
		}
		return opened, fmt.Errorf("cannot read %s: %s%s", opened.Where, said(out), keyHint(out))
	}
	for _, name := range s.lists() {
		if !slices.Contains(before, name) {
			opened.Lists = append(opened.Lists, name)
		}
	}
	opened.pins, err = s.keepOut(ctx)
	return opened, err
}

// failedToFetch reports whether an update has left something out, which apt of old releases does not count as a failure.
func failedToFetch(out string) bool {
	return strings.Contains(out, "\nErr:") || strings.Contains(out, "\nW: Failed to fetch") || strings.Contains(out, "W: GPG error")
}

func keyHint(out string) string {
	switch {
	case strings.Contains(out, "NO_PUBKEY"), strings.Contains(out, "BADSIG"), strings.Contains(out, "not signed"), strings.Contains(out, "unsupported filetype"), strings.Contains(out, "invalid"):
		return " (the archive's key is not the one that was given, or none was: see to the subject's archive.key)"
	}
	return ""
}

// write writes the files that add a source.
func (s *System) write(src Source, archive *order.Archive) error {
	if archive != nil && archive.Key != "" {
		if err := put(s.path(keyFile), strings.TrimSpace(archive.Key)+"\n", 0o644); err != nil {
			return err
		}
		src.Options = map[string]string{"Signed-By": s.path(keyFile)}
	}
	if u, err := url.Parse(src.URI); err == nil && u.User != nil {
		password, _ := u.User.Password()
		if err := put(s.path(authFile), fmt.Sprintf("machine %s://%s%s login %s password %s\n", u.Scheme, u.Host, u.Path, u.User.Username(), password), 0o600); err != nil {
			return err
		}
		u.User = nil
		src.URI = u.String()
	}
	return put(s.path(sourcesFile), "# Certlab: the packages that are under test, and no others. Removed afterwards.\n"+src.text(), 0o644)
}

func put(path, text string, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return durable.WriteFile(path, []byte(text), mode)
}

func withoutPassword(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return "an archive"
	}
	u.User = nil
	return u.String()
}

func (s *System) lists() []string {
	entries, _ := os.ReadDir(s.path(listsDir))
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && e.Name() != "lock" {
			names = append(names, e.Name())
		}
	}
	return names
}

// keepOut is the pin by which apt takes nothing from the archive that was added, by what its Release file says it is. Where one that the machine
// uses anyway says the same, the two cannot be told apart, and there is none: what Install tries first keeps the rest out all the same.
func (s *System) keepOut(ctx context.Context) (string, error) {
	format := "$(CREATED_BY)|$(SOURCESENTRY)|$(ORIGIN)|$(LABEL)|$(SUITE)|$(CODENAME)|$(SITE)"
	out, err := s.aptGet(ctx, "indextargets", "--format", format, "Created-By: Packages")
	if err != nil {
		return "", fmt.Errorf("cannot tell what archives the machine has: %s", said(out))
	}
	ours, others := make(map[string]bool), make(map[string]bool)
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 7 || f[0] != "Packages" {
			continue
		}
		var parts []string
		for i, letter := range []string{"o", "l", "a", "n"} {
			if v := f[2+i]; v != "" && !strings.HasPrefix(v, "$(") && !strings.ContainsAny(v, ",\"") {
				parts = append(parts, letter+"="+v)
			}
		}
		which := others
		if strings.HasPrefix(f[1], s.path(sourcesFile)) {
			which = ours
		}
		if len(parts) > 0 {
			which["release "+strings.Join(parts, ",")] = true
		} else if f[6] != "" {
			which[fmt.Sprintf("origin %q", f[6])] = true
		}
	}
	var b strings.Builder
	for pin := range ours {
		if !others[pin] {
			fmt.Fprintf(&b, "Package: *\nPin: %s\nPin-Priority: -10\n\n", pin)
		}
	}
	return b.String(), nil
}

// Pin has apt take the packages of a set in exactly their versions, and nothing else from what was opened.
func (s *System) Pin(opened Opened, set []order.Package) error {
	var b strings.Builder
	b.WriteString("# Certlab: the packages that are under test, and no others. Removed afterwards.\n\n")
	b.WriteString(opened.pins)
	for _, p := range set {
		fmt.Fprintf(&b, "Package: %s\nPin: version %s\nPin-Priority: 1001\n\n", p.Name, p.Version)
	}
	if err := put(s.path(pinsFile), b.String(), 0o644); err != nil {
		return fmt.Errorf("cannot pin the packages: %w", err)
	}
	return nil
}

// Close removes all that Open and Pin have added.
func (s *System) Close(lists []string) error {
	paths := []string{s.path(pinsFile), s.path(sourcesFile), s.path(keyFile), s.path(authFile)}
	for _, name := range lists {
		if name == path.Base(name) {
			paths = append(paths, filepath.Join(s.path(listsDir), name))
		}
	}
	if err := remove(paths...); err != nil {
		return fmt.Errorf("cannot remove what was added to apt: %w", err)
	}
	for _, p := range []string{pinsFile, sourcesFile} {
		if err := durable.SyncDir(filepath.Dir(s.path(p))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Added are the files of Open and Pin that are there, for who makes sure that none is left.
func (s *System) Added() []string {
	var found []string
	for _, name := range []string{sourcesFile, pinsFile, keyFile, authFile} {
		if _, err := os.Lstat(s.path(name)); err == nil {
			found = append(found, "/"+name)
		}
	}
	return found
}

// Release is the codename of the machine's release; empty: unknown.
func (s *System) Release() string {
	f, err := os.Open(s.path("etc/os-release"))
	if err != nil {
		return ""
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if v, ok := strings.CutPrefix(lines.Text(), "VERSION_CODENAME="); ok {
			return strings.Trim(v, `"'`)
		}
	}
	return ""
}
