package results

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"unicode/utf8"
)

// Names within an archive. Nothing else is expected, but other files are tolerated: what a newer Checkbox adds must not make an
// archive unreadable.
const (
	submissionName = "submission.json"
	outputDir      = "test_output/"
	attachmentDir  = "attachment_files/"
	stderrSuffix   = ".stderr"
)

// archiveReader walks over an archive's members.
type archiveReader struct {
	limits  Limits
	src     *sourceReader
	raw     *readAhead
	tar     *tar.Reader
	at      countingReader // what the tar reader has taken
	members int
	last    string // name of the last member that was begun
}

// countingReader counts what is read through it.
type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// boundedReader bounds what unpacking gives.
type boundedReader struct {
	r   io.Reader
	n   int64
	lim Limits
	src *sourceReader
}

func (c *boundedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.n > c.lim.TotalSize {
		return 0, limitError("total-size", c.lim.TotalSize)
	}
	if c.n > c.lim.RatioFloor && c.src.n > 0 && c.n/c.src.n > c.lim.Ratio {
		return 0, limitError("ratio", c.lim.Ratio)
	}
	return n, err
}

func newArchiveReader(in *bufio.Reader, src *sourceReader, limits Limits) *archiveReader {
	a := &archiveReader{limits: limits, src: src}
	a.raw = newReadAhead(&boundedReader{r: newUnxz(in, limits.Dictionary), lim: limits, src: src})
	a.at.r = a.raw
	a.tar = tar.NewReader(&a.at)
	return a
}

// Close ends the unpacking. It waits for a read of the source that is in progress.
func (a *archiveReader) Close() { a.raw.Close() }

// next goes to the next file; io.EOF after the last one, when the archive's end has been checked.
func (a *archiveReader) next() (Member, error) {
	for {
		h, err := a.tar.Next()
		if err == io.EOF {
			return Member{}, a.finish()
		}
		if err != nil {
			return Member{}, a.failed(err)
		}
		if a.members++; a.members > a.limits.Members {
			return Member{}, limitError("members", int64(a.limits.Members))
		}
		name, err := memberName(h.Name, a.limits.NameLength)
		if err != nil {
			return Member{}, err
		}
		if err := memberType(h); err != nil {
			return Member{}, inMember(err, name)
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		if h.Size > a.limits.MemberSize {
			return Member{}, inMember(limitError("member-size", a.limits.MemberSize), name)
		}
		a.last = name
		return Member{Name: name, Size: h.Size}, nil
	}
}

// memberType accepts plain files, and the directories of an archive that a person packed again.
func memberType(h *tar.Header) error {
	bad := func(what string) error { return &Error{Kind: BadType, Detail: "it is " + what} }
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return bad("a sparse file")
		}
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir:
		return nil
	case tar.TypeLink:
		return bad("a hard link")
	case tar.TypeSymlink:
		return bad("a symbolic link")
	case tar.TypeChar, tar.TypeBlock:
		return bad("a device")
	case tar.TypeFifo:
		return bad("a named pipe")
	case tar.TypeGNUSparse:
		return bad("a sparse file")
	}
	return bad(fmt.Sprintf("of tar's type %q", h.Typeflag))
}

// memberName checks a name and removes a leading "./" and a directory's slash.
func memberName(name string, max int) (string, error) {
	bad := func(why string) (string, error) {
		return "", &Error{Kind: BadPath, Member: name, Detail: why}
	}
	if len(name) > max {
		e := limitError("name-length", int64(max))
		e.Member = strings.ToValidUTF8(name[:64], "\uFFFD") + "…"
		return "", e
	}
	switch {
	case !utf8.ValidString(name):
		name = strings.ToValidUTF8(name, "\uFFFD")
		return bad("the name is not UTF-8")
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return bad("the name has control characters")
	case strings.Contains(name, `\`):
		return bad("the name has a backslash")
	case strings.HasPrefix(name, "/"):
		return bad("the name is absolute")
	}
	clean := strings.TrimPrefix(name, "./")
	clean = strings.TrimSuffix(clean, "/")
	if clean == "" {
		return ".", nil
	}
	if path.Clean(clean) != clean || clean == ".." || strings.HasPrefix(clean, "../") {
		return bad("the name is not a plain path")
	}
	return clean, nil
}

// finish checks that nothing follows the end of the tar archive but its padding, nor the end of the xz stream.
func (a *archiveReader) finish() error {
	buf := make([]byte, 32<<10)
	for {
		n, err := a.at.Read(buf)
		for _, b := range buf[:n] {
			if b != 0 {
				return &Error{Kind: TrailingData, Detail: "something follows the end of the tar archive"}
			}
		}
		if err == io.EOF {
			return io.EOF
		}
		if err != nil {
			return a.failed(err)
		}
	}
}

// failed makes an Error of what tar or xz said.
func (a *archiveReader) failed(err error) error {
	var e *Error
	switch {
	case a.src.err.Load() != nil:
		return a.src.err.Load()
	case errors.As(err, &e):
		return e
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &Error{Kind: Truncated, Detail: "the tar archive ends too early" + a.after(), Offset: a.at.n, Err: err}
	case errors.Is(err, tar.ErrHeader):
		detail := "what was packed is no tar archive"
		if a.members > 0 {
			detail = "the tar archive is damaged" + a.after()
		}
		return &Error{Kind: Corrupt, Detail: detail, Offset: a.at.n}
	}
	return &Error{Kind: Corrupt, Detail: "the tar archive is damaged" + a.after(), Offset: a.at.n, Err: err}
}

// after says where in the archive the reader is.
func (a *archiveReader) after() string {
	if a.last == "" {
		return ""
	}
	return " after the header of " + clip(a.last, maxQuoted/2)
}

// memberReader reads the current member; its errors are *Error.
type memberReader struct{ a *archiveReader }

func (m memberReader) Read(p []byte) (int, error) {
	n, err := m.a.tar.Read(p)
	if err != nil && err != io.EOF {
		err = m.a.failed(err)
	}
	return n, err
}

func readArchive(in *bufio.Reader, src *sourceReader, opts Options) (*Submission, error) {
	a := newArchiveReader(in, src, opts.Limits)
	defer a.Close()
	sub := new(Submission)
	held := &budget{left: opts.Limits.Held, max: opts.Limits.Held}
	seen := make(sightings)
	found := false
	for {
		m, err := a.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := held.take(len(m.Name) + memberCost); err != nil {
			return nil, err
		}
		if seen.add(m.Name) > 1 && !strings.HasPrefix(m.Name, outputDir) && !strings.HasPrefix(m.Name, attachmentDir) {
			return nil, duplicate(m.Name)
		}
		sub.Members = append(sub.Members, m)
		if m.Name == submissionName {
			found = true
			err = decodeJSON(memberReader{a}, opts, sub, held)
		} else {
			err = pass(memberReader{a}, m, opts.Member)
		}
		if err != nil {
			return nil, inMember(err, m.Name)
		}
	}
	if !found {
		return nil, &Error{Kind: NoSubmission, Detail: "the archive has no " + submissionName}
	}
	return sub, sub.assign(seen)
}

func duplicate(name string) error {
	return &Error{Kind: DuplicateMember, Member: name, Detail: "the archive has it twice"}
}

// pass reads a member to its end, into what sink gives for it.
func pass(r io.Reader, m Member, sink func(Member) io.Writer) error {
	var w io.Writer
	if sink != nil {
		w = sink(m)
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 && w != nil {
			if err := writeTo(w, buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// slug is the file name that Checkbox makes of a full id (runner.py:slugify). Two ids can have the same.
func slug(id string) string {
	var b strings.Builder
	b.Grow(len(id))
	for _, r := range id {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '.', r == '-':
			b.WriteRune(r)
		default:
			b.WriteByte('_')
		}
	}
	return b.String()
}

// sightings are the members of an archive by name.
type sightings map[string]*sighting

type sighting struct {
	name          string
	times, claims int // how often the archive has it, and how many jobs would have written it
}

func (s sightings) add(name string) (times int) {
	if s[name] == nil {
		s[name] = &sighting{name: name}
	}
	s[name].times++
	return s[name].times
}

// outputs are the members that Checkbox would have written for a job, nil those that are not there.
func (s sightings) outputs(section Section, r *Result) (stdout, stderr *sighting) {
	dir := outputDir
	if section == Attachments || r.Plugin == pluginAttachment {
		dir = attachmentDir
	}
	name := dir + slug(r.ID)
	return s[name], s[name+stderrSuffix]
}

// assign finds each job's output among the members, and judges members that came more than once: with jobs whose ids give the
// same name Checkbox writes such archives, without it is a trick.
func (s *Submission) assign(seen sightings) error {
	for section, r := range s.Records() {
		stdout, stderr := seen.outputs(section, r)
		for _, m := range []*sighting{stdout, stderr} {
			if m != nil {
				m.claims++
			}
		}
	}
	for _, m := range s.Members {
		if at := seen[m.Name]; at.times > 1 && at.claims < at.times {
			return duplicate(m.Name)
		}
	}
	for section, r := range s.Records() {
		stdout, stderr := seen.outputs(section, r)
		if stdout != nil {
			r.Stdout = stdout.name
			r.SharedOutput = stdout.claims > 1
		}
		if stderr != nil {
			r.Stderr = stderr.name
			r.SharedOutput = r.SharedOutput || stderr.claims > 1
		}
	}
	return nil
}
