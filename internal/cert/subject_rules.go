package cert

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"certlab/internal/order"
)

// SubjectKinds lists every kind of a Subject.
var SubjectKinds = []string{SubjectKernel, SubjectPackages, SubjectImage, SubjectMachine}

// Pockets lists the pockets that a subject may be in.
var Pockets = []string{"proposed", "updates", "security", "release"}

// Bounds of a Subject.
const (
	maxSubjectText     = 200
	maxSubjectPackages = 200
	maxArchiveKey      = 64 << 10
	maxSpin            = 1000
)

var (
	seriesPattern  = regexp.MustCompile(`^[a-z][a-z0-9.-]*$`)
	packagePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
	debPattern     = regexp.MustCompile(`^(\d+:)?\d[A-Za-z0-9.+~-]*$`)
	flavourPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*$`)
	ppaPattern     = regexp.MustCompile(`^ppa:[a-z0-9][a-z0-9+.-]*/[a-z0-9][a-z0-9+.-]*$`)
	serialPattern  = regexp.MustCompile(`^[0-9]{8}(\.[0-9]+)?$`)
	kernelPattern  = regexp.MustCompile(`^(\d+\.\d+\.\d+-\d+)\.\d+(?:[~+][A-Za-z0-9.+~-]*)?$`)
	trackerPattern = regexp.MustCompile(`^https?://[^\s"<>]+$`)
	archivePattern = regexp.MustCompile(`^(https?|file):/[^\s"<>@]*$`)
	suitePattern   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]*$`)
)

// Validate reports what is wrong with a subject, as Invalid, and what to do about it.
func (s Subject) Validate() error {
	for name, value := range map[string]string{"series": s.Series, "release": s.Release, "source": s.Source, "flavour": s.Flavour, "stream": s.Stream,
		"version": s.Version, "serial": s.Serial, "pocket": s.Pocket, "ppa": s.PPA, "cycle": s.Cycle} {
		if len(value) > maxSubjectText || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return Errorf(Invalid, "cannot use the subject's %s %q: it is one word of at most %d bytes", name, cut(value), maxSubjectText)
		}
	}
	if s.Spin < 0 || s.Spin > maxSpin {
		return Errorf(Invalid, "cannot use spin %d: it is a number from 1 to %d, or 0 if it is not known", s.Spin, maxSpin)
	}
	if s.Tracker != "" && (len(s.Tracker) > maxSpecText || !trackerPattern.MatchString(s.Tracker)) {
		return Errorf(Invalid, "cannot use the tracker %q: give its address, such as https://bugs.launchpad.net/bugs/2080000", cut(s.Tracker))
	}
	if s.Stream != "" && !flavourPattern.MatchString(s.Stream) {
		return Errorf(Invalid, "cannot use the stream %q: it is one word, such as esm or realtime", cut(s.Stream))
	}
	switch s.Kind {
	case SubjectMachine:
		return s.onlyMachine()
	case SubjectImage:
		return s.validateImage()
	case SubjectKernel:
		return s.validateKernel()
	case SubjectPackages:
		return s.validatePackages()
	case "":
		return Errorf(Invalid, "cannot test nothing: say what kind of subject it is (there are: %s)", strings.Join(SubjectKinds, ", "))
	}
	return Errorf(Invalid, "cannot test a subject of kind %q%s (there are: %s)", cut(s.Kind), meant(s.Kind, SubjectKinds), strings.Join(SubjectKinds, ", "))
}

// meant is " (did you mean …?)" where a word is like one of those that there are.
func meant(word string, words []string) string {
	if near := nearest(word, words); near != "" {
		return " (did you mean " + near + "?)"
	}
	return ""
}

func (s Subject) onlyMachine() error {
	if s.Source != "" || s.Version != "" || s.Serial != "" || s.Pocket != "" || s.PPA != "" || s.Archive != nil || len(s.Packages) > 0 || s.Flavour != "" {
		return Errorf(Invalid, "cannot install anything for a subject of kind machine: it is the machine as it is (leave version, source and the like out, or choose kind kernel, packages or image)")
	}
	return nil
}

func (s Subject) validateSeries() error {
	if s.Series == "" {
		return Errorf(Invalid, "cannot tell which release the subject is of: give its series, such as noble")
	}
	if !seriesPattern.MatchString(s.Series) {
		return Errorf(Invalid, "cannot use the series %q: give its codename in lower case, such as noble", cut(s.Series))
	}
	return nil
}

func (s Subject) validateImage() error {
	if err := s.validateSeries(); err != nil {
		return err
	}
	if s.Serial == "" {
		return Errorf(Invalid, "cannot test an image without knowing which: give its serial, such as 20261120 (for the machine as it is, choose kind machine)")
	}
	if !serialPattern.MatchString(s.Serial) {
		return Errorf(Invalid, "cannot use the serial %q: it is the image's date, such as 20261120 or 20261120.1", cut(s.Serial))
	}
	if s.Source != "" || s.Version != "" || s.Pocket != "" || s.PPA != "" || s.Archive != nil || len(s.Packages) > 0 {
		return Errorf(Invalid, "cannot install packages for a subject of kind image: an image is told by its series and serial alone")
	}
	return nil
}

func (s Subject) validateKernel() error {
	if err := s.validateSeries(); err != nil {
		return err
	}
	if s.Source == "" {
		return Errorf(Invalid, "cannot tell which kernel it is: give its source package, such as linux, linux-hwe-6.8 or linux-oem-6.8")
	}
	if !packagePattern.MatchString(s.Source) || s.Source != "linux" && !strings.HasPrefix(s.Source, "linux-") {
		return Errorf(Invalid, "cannot use the kernel source %q: it is linux, or begins with linux-", cut(s.Source))
	}
	for _, prefix := range []string{"linux-signed", "linux-meta", "linux-image", "linux-restricted", "linux-modules", "linux-headers", "linux-tools"} {
		if s.Source == prefix || strings.HasPrefix(s.Source, prefix+"-") {
			return Errorf(Invalid, "cannot use %q as a kernel's source: it goes with one (name the kernel's own source package, such as linux)", s.Source)
		}
	}
	if s.Flavour != "" && !flavourPattern.MatchString(s.Flavour) {
		return Errorf(Invalid, "cannot use the flavour %q: it is one word in lower case, such as generic", cut(s.Flavour))
	}
	if _, err := s.KernelRelease(); err != nil {
		return err
	}
	return s.validateWhere()
}

func (s Subject) validatePackages() error {
	if err := s.validateSeries(); err != nil {
		return err
	}
	if s.Source == "" || !packagePattern.MatchString(s.Source) {
		return Errorf(Invalid, "cannot use the source %q: give the name of the source package that the packages are of, such as mesa", cut(s.Source))
	}
	if err := validVersion(s.Version, "the subject"); err != nil {
		return err
	}
	if len(s.Packages) == 0 {
		return Errorf(Invalid, "cannot test no packages: name the binary packages of %s that are to be installed", s.Source)
	}
	return s.validateWhere()
}

// validVersion reports what is wrong with an exact version.
func validVersion(version, of string) error {
	switch {
	case version == "":
		return Errorf(Invalid, "cannot test %s without its exact version: give the package's, such as 6.8.0-51.52 (rmadison, or the tracking bug, has it)", of)
	case strings.ContainsAny(version, "*?%"):
		return Errorf(Invalid, "cannot use the version %q: it has to be exactly one, so that what was tested can be proved", cut(version))
	case !debPattern.MatchString(version):
		return Errorf(Invalid, "cannot use the version %q: it is not a package's, such as 6.8.0-51.52", cut(version))
	}
	return nil
}

// validateWhere reports what is wrong with where the subject comes from, and with its packages.
func (s Subject) validateWhere() error {
	from := 0
	for _, set := range []bool{s.Pocket != "", s.PPA != "", s.Archive != nil} {
		if set {
			from++
		}
	}
	if from > 1 {
		return Errorf(Invalid, "cannot take the subject from more than one place: give one of pocket, ppa and archive")
	}
	if s.Pocket != "" && !isOneOf(s.Pocket, Pockets) || s.Pocket != strings.ToLower(s.Pocket) {
		return Errorf(Invalid, "cannot use the pocket %q%s (there are: %s)", cut(s.Pocket), meant(s.Pocket, Pockets), strings.Join(Pockets, ", "))
	}
	if s.PPA != "" && !ppaPattern.MatchString(s.PPA) {
		return Errorf(Invalid, "cannot use the PPA %q: name it as ppa:owner/name", cut(s.PPA))
	}
	if s.Archive != nil {
		if err := validArchive(*s.Archive); err != nil {
			return err
		}
	}
	if len(s.Packages) > maxSubjectPackages {
		return Errorf(Invalid, "cannot install %d packages: at most %d are allowed", len(s.Packages), maxSubjectPackages)
	}
	seen := map[string]bool{}
	for _, p := range s.Packages {
		if !packagePattern.MatchString(p.Name) || len(p.Name) > maxSubjectText {
			return Errorf(Invalid, "cannot install %q: it is not a package's name", cut(p.Name))
		}
		if seen[p.Name] {
			return Errorf(Invalid, "cannot install %s twice: name it once", p.Name)
		}
		seen[p.Name] = true
		if p.Version == "" {
			continue
		}
		if err := validVersion(p.Version, p.Name); err != nil {
			return err
		}
	}
	return nil
}

func validArchive(a order.Archive) error {
	if len(a.URI) > maxSpecText || !archivePattern.MatchString(a.URI) {
		return Errorf(Invalid, "cannot use the archive %q: give its address, beginning with https://, http:// or file:/, without a password", cut(a.URI))
	}
	if len(a.Suite) > maxSubjectText || !suitePattern.MatchString(a.Suite) || strings.Contains(a.Suite, "..") {
		return Errorf(Invalid, "cannot use the suite %q of the archive: give its name, such as noble-proposed", cut(a.Suite))
	}
	for _, c := range a.Components {
		if len(c) > maxSubjectText || !flavourPattern.MatchString(c) {
			return Errorf(Invalid, "cannot use the archive's component %q: give its name, such as main", cut(c))
		}
	}
	if len(a.Key) > maxArchiveKey || a.Key != "" && !strings.HasPrefix(strings.TrimSpace(a.Key), "-----BEGIN PGP PUBLIC KEY BLOCK-----") {
		return Errorf(Invalid, "cannot use the archive's key: it is not an armoured OpenPGP public key (gpg --armor --export writes one)")
	}
	return nil
}

// DefaultFlavour is what a kernel's source is built as first: generic, but for sources that are made for one flavour, such as linux-oem-6.8.
func DefaultFlavour(source string) string {
	words := strings.Split(source, "-")
	for _, word := range words[1:] {
		if word != "hwe" && word != "" && !digit(word[0]) {
			return word
		}
	}
	return "generic"
}

// KernelFlavour is the subject's flavour, or its source's first where it says none.
func (s Subject) KernelFlavour() string {
	if s.Flavour != "" || s.Kind != SubjectKernel {
		return s.Flavour
	}
	return DefaultFlavour(s.Source)
}

// KernelRelease is what uname -r says on a kernel: 6.8.0-51-generic for package version 6.8.0-51.52 and 6.8.0-51.52~22.04.1 alike. It fails as Invalid
// where the version is not that of one of Ubuntu's kernels, since then nothing could be proved.
func (s Subject) KernelRelease() (string, error) {
	if s.Kind != SubjectKernel {
		return "", Errorf(Invalid, "cannot tell the kernel's release of a subject of kind %s", s.Kind)
	}
	if err := validVersion(s.Version, "a kernel"); err != nil {
		return "", err
	}
	m := kernelPattern.FindStringSubmatch(s.Version)
	if m == nil {
		return "", Errorf(Invalid, "cannot tell which kernel version %q is when it runs: give the version of the kernel's package with its ABI and upload, such as 6.8.0-51.52 (not that of a meta package, such as 6.8.0.51.52)", cut(s.Version))
	}
	return m[1] + "-" + s.KernelFlavour(), nil
}

// Key is what the subject is a version of: subjects with the same one supersede each other.
func (s Subject) Key() string {
	switch s.Kind {
	case SubjectKernel:
		return strings.Join([]string{s.Kind, s.Series, s.Source, s.KernelFlavour(), s.Stream}, "/")
	case SubjectPackages:
		return strings.Join([]string{s.Kind, s.Series, s.Source, s.Stream}, "/")
	case SubjectImage:
		return strings.Join([]string{s.Kind, s.Series, s.Stream}, "/")
	}
	return s.Kind
}

// VersionText is the version of the subject, or the serial of an image; empty for a machine as it is.
func (s Subject) VersionText() string {
	if s.Kind == SubjectImage {
		return s.Serial
	}
	return s.Version
}

// Title names the subject for people, on one line.
func (s Subject) Title() string {
	var text string
	switch s.Kind {
	case SubjectKernel:
		text = fmt.Sprintf("%s %s (%s) for %s", s.Source, s.Version, s.KernelFlavour(), s.Series)
	case SubjectPackages:
		text = fmt.Sprintf("%s %s for %s", s.Source, s.Version, s.Series)
	case SubjectImage:
		text = fmt.Sprintf("image %s of %s", s.Serial, s.Series)
	default:
		return "machines as they are"
	}
	if s.Stream != "" {
		text += ", " + s.Stream
	}
	switch {
	case s.PPA != "":
		text += " from " + s.PPA
	case s.Archive != nil:
		text += " from " + s.Archive.URI
	case s.Pocket != "":
		text += " from " + s.Pocket
	}
	if s.Spin > 0 {
		text += ", spin " + strconv.Itoa(s.Spin)
	}
	return text
}

// Newer reports whether s comes after other, which is of the same Key: by version, and then by spin. Nothing comes after a machine as it is.
func (s Subject) Newer(other Subject) bool {
	if s.Kind == SubjectMachine || s.Key() != other.Key() {
		return false
	}
	if c := CompareVersions(s.VersionText(), other.VersionText()); c != 0 {
		return c > 0
	}
	return s.Spin > 0 && other.Spin > 0 && s.Spin > other.Spin
}

// Order is what an agent is asked to install and prove; nil for a subject that nothing is installed for. With restore, the machine is put back
// afterwards.
func (s Subject) Order(restore bool) (*order.Subject, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if s.Kind != SubjectKernel && s.Kind != SubjectPackages {
		return nil, nil
	}
	o := &order.Subject{Kind: s.Kind, Series: s.Series, Source: s.Source, Version: s.Version, Pocket: s.Pocket, Packages: append([]order.Package(nil), s.Packages...),
		Restore: restore}
	if s.Kind == SubjectKernel {
		o.Flavour = s.KernelFlavour()
		release, err := s.KernelRelease()
		if err != nil {
			return nil, err
		}
		o.KernelRelease = release
	}
	if s.Kind == SubjectPackages {
		for n := range o.Packages {
			if o.Packages[n].Version == "" {
				o.Packages[n].Version = s.Version
			}
		}
	}
	switch {
	case s.Archive != nil:
		archive := *s.Archive
		archive.Components = append([]string(nil), archive.Components...)
		o.Archive = &archive
	case s.PPA != "":
		owner, name, _ := strings.Cut(strings.TrimPrefix(s.PPA, "ppa:"), "/")
		o.Archive = &order.Archive{URI: "https://ppa.launchpadcontent.net/" + owner + "/" + name + "/ubuntu", Suite: s.Series}
	}
	return o, nil
}
