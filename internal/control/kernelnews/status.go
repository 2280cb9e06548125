package kernelnews

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"certlab/internal/cert"
)

// Bounds of a status. The public one has some hundred trackers and a few MB.
const (
	MaxBytes    = 32 << 20
	maxTrackers = 20_000
	maxUnread   = 20
)

// A Status is what one reading of the kernel team's status came to.
type Status struct {
	Kernels  []cert.KernelNews // ready for certification testing, by series, source and version
	Trackers int               // that there were, of whatever state
	Unread   []string          // why a tracker was left out that names a kernel for certification testing; the first of them
	Left     int               // how many were left out
}

// Problem says what was not understood; nothing if all was.
func (s Status) Problem() string {
	if s.Left == 0 {
		return ""
	}
	text := strings.Join(s.Unread, "; ")
	if more := s.Left - len(s.Unread); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return fmt.Sprintf("not understood in the kernel team's status: %s", text)
}

// Read reads a status. now is when it was seen. It fails as cert.Invalid where what r has is no status at all: cut off, too large, no JSON, without
// trackers.
func Read(r io.Reader, now time.Time) (Status, error) {
	s, err := parse(r, now)
	if err != nil {
		return s, cert.Errorf(cert.Invalid, "cannot read the kernel team's status: %s", err)
	}
	return s, nil
}

func parse(r io.Reader, now time.Time) (Status, error) {
	limited := &bounded{r: r, left: MaxBytes}
	s, err := read(json.NewDecoder(limited), now)
	switch {
	case limited.full:
		return Status{}, fmt.Errorf("it has more than %d MiB", MaxBytes>>20)
	case limited.err != nil:
		return Status{}, limited.err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Status{}, errors.New("it is cut off")
	case err != nil:
		return Status{}, err
	}
	slices.SortStableFunc(s.Kernels, func(a, b cert.KernelNews) int { return slices.Compare(kernelOf(a), kernelOf(b)) })
	return s, nil
}

// kernelOf is what two trackers of the same kernel have in common.
func kernelOf(n cert.KernelNews) []string {
	return []string{n.Subject.Series, n.Subject.Source, n.Subject.Version}
}

var errNoStatus = errors.New("it is not one (want a JSON object with trackers, such as https://kernel.ubuntu.com/swm/status.json)")

func read(d *json.Decoder, now time.Time) (Status, error) {
	var s Status
	if err := open(d); err != nil {
		return s, err
	}
	found := false
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return s, plain(err)
		}
		if key != "trackers" || found {
			var skipped json.RawMessage
			if err := d.Decode(&skipped); err != nil {
				return s, plain(err)
			}
			continue
		}
		found = true
		if err := s.trackers(d, now); err != nil {
			return s, err
		}
	}
	if _, err := d.Token(); err != nil {
		return s, plain(err)
	}
	if !found {
		return s, errNoStatus
	}
	return s, nil
}

func (s *Status) trackers(d *json.Decoder, now time.Time) error {
	if err := open(d); err != nil {
		return err
	}
	byKernel := map[string]int{} // index in Kernels
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return plain(err)
		}
		if s.Trackers++; s.Trackers > maxTrackers {
			return fmt.Errorf("it has more than %d trackers", maxTrackers)
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return plain(err)
		}
		number, _ := key.(string)
		news, wanted, err := tracker(number, raw, now)
		if err != nil {
			if s.Left++; len(s.Unread) < maxUnread {
				s.Unread = append(s.Unread, fmt.Sprintf("tracker %s: %s", clip(number), err))
			}
			continue
		}
		if !wanted {
			continue
		}
		// Of two trackers for one kernel the newer one counts: a respin without a change, or a bug that was opened twice.
		kernel := strings.Join(kernelOf(news), "/")
		if i, twice := byKernel[kernel]; twice {
			if newer(news.Subject.Tracker, s.Kernels[i].Subject.Tracker) {
				s.Kernels[i] = news
			}
			continue
		}
		byKernel[kernel] = len(s.Kernels)
		s.Kernels = append(s.Kernels, news)
	}
	_, err := d.Token()
	return plain(err)
}

// newer compares trackers' addresses, which end in their numbers.
func newer(a, b string) bool {
	if len(a) != len(b) {
		return len(a) > len(b)
	}
	return a > b
}

// open reads the brace that an object begins with.
func open(d *json.Decoder) error {
	token, err := d.Token()
	if err != nil {
		return plain(err)
	}
	if token != json.Delim('{') {
		return errNoStatus
	}
	return nil
}

// plain says what is wrong with JSON as people understand it.
func plain(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		if strings.HasPrefix(syntax.Error(), "unexpected end") {
			return io.ErrUnexpectedEOF
		}
		return fmt.Errorf("it is not JSON at byte %d: %s", syntax.Offset, syntax.Error())
	}
	return err
}

// bounded ends with full at a byte too many.
type bounded struct {
	r    io.Reader
	left int64
	full bool
	err  error // of r
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.full || b.err != nil {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		b.full = true
		return 0, io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}
