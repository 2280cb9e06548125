package bootloader

import (
	"path"
	"regexp"
	"strconv"
	"strings"
)

// A menu is what grub.cfg offers.
type menu struct {
	preset  string // what it boots by default, as written there
	entries []*entry
}

// entry is a line of the menu, or a menu below one.
type entry struct {
	title, id string
	kernel    string // path of the image that it starts
	entries   []*entry
}

var (
	entryLine  = regexp.MustCompile(`^(menuentry|submenu)\s+(?:'([^']*)'|"([^"]*)")(.*)\{\s*$`)
	entryID    = regexp.MustCompile(`(?:\$\{?menuentry_id_option\}?|--id)[ =]+(?:'([^']*)'|"([^"]*)"|([^\s'"{]+))`)
	kernelLine = regexp.MustCompile(`^(?:linux|linux16|linuxefi)\s+(?:'([^']*)'|"([^"]*)"|(\S+))`)
	presetLine = regexp.MustCompile(`^set default=(?:"([^"]*)"|'([^']*)'|(\S+))$`)
)

func parseMenu(text string) menu {
	var m menu
	var open []*entry // nil for other blocks, such as functions
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if f := presetLine.FindStringSubmatch(line); f != nil && len(open) == 0 {
			// One of them takes what was chosen for this boot alone.
			if v := f[1] + f[2] + f[3]; v != "${next_entry}" {
				m.preset = v
			}
			continue
		}
		if f := entryLine.FindStringSubmatch(line); f != nil {
			e := &entry{title: f[2] + f[3]}
			if id := entryID.FindStringSubmatch(f[4]); id != nil {
				e.id = id[1] + id[2] + id[3]
			}
			if n := len(open); n == 0 {
				m.entries = append(m.entries, e)
			} else if open[n-1] != nil {
				open[n-1].entries = append(open[n-1].entries, e)
			}
			open = append(open, e)
			continue
		}
		switch {
		case strings.HasSuffix(line, "{"):
			open = append(open, nil)
		case line == "}" && len(open) > 0:
			open = open[:len(open)-1]
		case len(open) > 0 && open[len(open)-1] != nil:
			if f := kernelLine.FindStringSubmatch(line); f != nil {
				open[len(open)-1].kernel = f[1] + f[2] + f[3]
			}
		}
	}
	return m
}

// boots is the release of the kernel that an entry starts: of a submenu its first one, as GRUB has it.
func (e *entry) boots() string {
	for len(e.entries) > 0 {
		e = e.entries[0]
	}
	for _, prefix := range []string{"vmlinuz-", "vmlinux-", "kernel-"} {
		if release, ok := strings.CutPrefix(path.Base(e.kernel), prefix); ok {
			return release
		}
	}
	return ""
}

// find returns the entry that a default names: a number, a title or an id, and the same for each menu below, with > between.
func (m menu) find(name string) *entry {
	var found *entry
	level := m.entries
	for part := range strings.SplitSeq(name, ">") {
		found = nil
		if n, err := strconv.Atoi(part); err == nil && n >= 0 && n < len(level) {
			found = level[n]
		}
		for _, e := range level {
			if found == nil && (e.id == part || e.title == part) && part != "" {
				found = e
			}
		}
		if found == nil {
			return nil
		}
		level = found.entries
	}
	return found
}

// entryFor is what to set as default for a kernel: the ids of the entry that starts it, and that is named after it. The one that starts
// whichever kernel is newest would start another one day. Empty: there is none.
func (m menu) entryFor(release string) string {
	var look func(level []*entry, above string) string
	look = func(level []*entry, above string) string {
		for _, e := range level {
			if e.id == "" || strings.Contains(e.id, ">") {
				continue
			}
			if len(e.entries) > 0 {
				if found := look(e.entries, above+e.id+">"); found != "" {
					return found
				}
				continue
			}
			if e.boots() == release && strings.Contains(e.id, release) && !strings.Contains(e.id, "-recovery-") && !strings.Contains(e.id, "-init-") {
				return above + e.id
			}
		}
		return ""
	}
	return look(m.entries, "")
}
