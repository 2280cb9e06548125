// Package source reads the options that say where Checkbox comes from. Both charms have them: one for its own machine, one for machines that
// are deployed.
package source

import (
	"path"
	"regexp"
	"strings"
	"unicode/utf8"

	"certlab/internal/hooks"
	"certlab/internal/order"
)

// Options are what an operator has set.
type Options struct{ Source, Channel, Path, Packages string }

// Names are the options' names, for messages.
type Names Options

const (
	maxPath = 4096
	maxWord = 200 // bytes, of a channel or a package
	// maxPackages bounds apt's command line.
	maxPackages = 500
)

var (
	snapChannel = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*){0,2}$`)
	ppa         = regexp.MustCompile(`^ppa:[a-z0-9][a-z0-9.+-]*/[a-z0-9][a-z0-9.+-]*$`)
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9.+-]+$`)
)

// Read checks the options. What an operator has to mend comes back as a blocked status that names the option.
func Read(o Options, n Names) (order.CheckboxSource, error) {
	c := order.CheckboxSource{
		Source:        strings.TrimSpace(o.Source),
		Channel:       strings.TrimSpace(o.Channel),
		Path:          strings.TrimSpace(o.Path),
		ExtraPackages: strings.FieldsFunc(o.Packages, func(r rune) bool { return strings.ContainsRune(" ,\t\r\n", r) }),
	}
	switch c.Source {
	case "snap":
		if c.Channel != "" && (!snapChannel.MatchString(c.Channel) || len(c.Channel) > maxWord) {
			return c, hooks.Blocked("set %s to a snap's channel, such as 24.04/stable, or reset it (%s is snap, and it is %s)", n.Channel, n.Source, hooks.Shown(o.Channel))
		}
	case "deb":
		if c.Channel != "" && (!ppa.MatchString(c.Channel) || len(c.Channel) > maxWord) {
			return c, hooks.Blocked("set %s to a PPA, such as ppa:checkbox-dev/stable, or reset it (%s is deb, and it is %s)", n.Channel, n.Source, hooks.Shown(o.Channel))
		}
	case "path":
		if !path.IsAbs(c.Path) || path.Clean(c.Path) != c.Path || hasControl(c.Path) || len(c.Path) > maxPath || !utf8.ValidString(c.Path) ||
			strings.ContainsRune(c.Path, utf8.RuneError) {
			return c, hooks.Blocked("set %s to the absolute path of checkbox-cli, such as /usr/bin/checkbox-cli (%s is path, and it is %s)", n.Path, n.Source, hooks.Shown(o.Path))
		}
	default:
		return c, hooks.Blocked("set %s to snap, deb or path (it is %s)", n.Source, hooks.Shown(o.Source))
	}
	if len(c.ExtraPackages) > maxPackages {
		return c, hooks.Blocked("set %s to at most %d names of Debian packages (it has %d)", n.Packages, maxPackages, len(c.ExtraPackages))
	}
	for i, name := range c.ExtraPackages {
		if !packageName.MatchString(name) || len(name) > maxWord {
			return c, hooks.Blocked("set %s to names of Debian packages, separated by spaces (number %d is %s)", n.Packages, i+1, hooks.Shown(name))
		}
	}
	return c, nil
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
