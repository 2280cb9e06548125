package checkbox

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// A Version is a Checkbox version such as 7.3.0; what follows the third number is not kept.
type Version struct{ Major, Minor, Patch int }

// ParseVersion finds the version in what `checkbox-cli --version` prints: `checkbox-ng: 1.18.1` and another line before 2.0, the
// bare version, perhaps with a suffix such as .dev12, after.
func ParseVersion(text string) (Version, error) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "checkbox-support") || strings.HasPrefix(line, "$PROVIDERPATH") {
			continue
		}
		if m := versionPattern.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			var v Version
			for i, part := range []*int{&v.Major, &v.Minor, &v.Patch} {
				if m[i+1] == "" {
					continue
				}
				n, err := strconv.Atoi(m[i+1])
				if err != nil {
					return Version{}, fmt.Errorf("cannot read Checkbox's version from %q", line)
				}
				*part = n
			}
			return v, nil
		}
	}
	return Version{}, fmt.Errorf("cannot find Checkbox's version in %q", clip(text, 200))
}

var versionPattern = regexp.MustCompile(`^(?:checkbox-ng:?\s+)?v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,6}))?(?:[^0-9].*)?$`)

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// AtLeast reports whether v is major.minor or newer.
func (v Version) AtLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

// A ResumeMode is how an interrupted session goes on.
type ResumeMode string

const (
	// ResumeByID starts `launcher FILE --resume SESSION`. Whatever job was running becomes a pass, unless __result in the session's
	// share says otherwise. Without --resume a silent launcher starts afresh.
	ResumeByID ResumeMode = "id"
	// ResumeByLauncher starts the same launcher again: the newest incomplete session goes on, whatever it is of; a noreturn job has
	// passed, any other crashed. --resume would run the interrupted job again.
	ResumeByLauncher ResumeMode = "launcher"
)

// Capabilities are what a version of Checkbox can and cannot do.
type Capabilities struct {
	Resume         ResumeMode
	CommentPrompt  bool // resuming after a blocker job asks for a comment on standard input
	CheckConfig    bool // check-config FILE exits 1 for a launcher with unknown keys
	ListJSON       bool // list-bootstrapped -f json
	Match          bool // [test selection] match
	QuotedCommas   bool // commas within quotes do not split a list
	AgentSection   bool // [agent] normal_user; [daemon] before
	NeedsUser      bool // as root, unprivileged jobs need a normal user: ubuntu, uid 1000 or 1001 where none is named
	LooseRestart   bool // fails for want of a restart strategy where there is no desktop and no snap
	OnlySubmission bool // stock report submission_json is not known
}

// table has one line for each version that brought a change, oldest first; a line says what holds from that version on.
var table = []struct {
	major, minor int
	change       func(*Capabilities)
}{
	{0, 0, func(c *Capabilities) {
		*c = Capabilities{Resume: ResumeByID, LooseRestart: true, OnlySubmission: true}
	}},
	{2, 0, func(c *Capabilities) { c.QuotedCommas, c.OnlySubmission = true, false }},
	{3, 3, func(c *Capabilities) { c.CheckConfig, c.ListJSON = true, true }},
	{4, 0, func(c *Capabilities) {
		c.Resume, c.CommentPrompt, c.Match, c.AgentSection = ResumeByLauncher, true, true, true
	}},
	{6, 0, func(c *Capabilities) { c.NeedsUser = true }},
}

// CapabilitiesOf returns what version v can do. Versions newer than any that is known are taken to be like the newest.
func CapabilitiesOf(v Version) Capabilities {
	var c Capabilities
	for _, line := range table {
		if v.AtLeast(line.major, line.minor) {
			line.change(&c)
		}
	}
	return c
}

// OneLine is text from elsewhere, fit for a message: on one line, without what a terminal would misunderstand, and its first max
// bytes at most.
func OneLine(text string, max int) string { return clip(text, max) }

func clip(s string, n int) string {
	s = strings.TrimSpace(printable(s))
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// printable replaces what a terminal or a log would misunderstand: what Checkbox and its jobs print ends in messages.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\r':
			return ' '
		case r < ' ', r >= 0x7f && r < 0xa0, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			return '\uFFFD'
		}
		return r
	}, s)
}
