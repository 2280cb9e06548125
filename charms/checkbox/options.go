package main

import (
	"path"
	"regexp"
	"strings"
	"unicode/utf8"

	"certlab/internal/hooks"
	"certlab/internal/order"
)

// options are the charm's, as charmcraft.yaml has them.
type options struct {
	Source            string         `config:"checkbox-source"`
	Channel           string         `config:"checkbox-channel"`
	Path              string         `config:"checkbox-path"`
	ExtraPackages     string         `config:"extra-packages"`
	DefaultPlan       string         `config:"default-plan"`
	Timeout           int64          `config:"timeout"`         // minutes
	SilenceTimeout    int64          `config:"silence-timeout"` // minutes
	ConsoleLimit      int64          `config:"console-limit"`   // MiB
	SessionLimit      int64          `config:"session-limit"`   // MiB
	MaxBoots          int64          `config:"max-boots"`
	NormalUser        string         `config:"normal-user"`
	Environment       string         `config:"environment"`
	SecretEnvironment hooks.SecretID `config:"secret-environment"`
	Manifest          string         `config:"manifest"`
}

// Limits of numbers.
const (
	maxMinutes = 43200   // 30 days
	maxMiB     = 1 << 20 // a TiB
	maxBoots   = 1000
	maxPlan    = 500 // bytes
	maxPath    = 4096
	maxWord    = 200 // bytes, of a channel or a package
	// maxPackages bounds apt's command line.
	maxPackages = 500
)

var (
	snapChannel = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*){0,2}$`)
	ppa         = regexp.MustCompile(`^ppa:[a-z0-9][a-z0-9.+-]*/[a-z0-9][a-z0-9.+-]*$`)
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9.+-]+$`)
	planID      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*::[^\s\x00-\x1f\x7f]+$`)
	userName    = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,30}\$?$`)
)

// desired translates the options into the part of the agent's desired state that they decide. What an operator has to mend
// comes back as a blocked status that names the option, and the line in it.
func (o options) desired() (order.AgentDesired, error) {
	d := order.AgentDesired{
		DefaultPlan:     strings.TrimSpace(o.DefaultPlan),
		TimeoutSeconds:  o.Timeout * 60,
		SilenceSeconds:  o.SilenceTimeout * 60,
		ConsoleMaxBytes: o.ConsoleLimit << 20,
		SessionMaxBytes: o.SessionLimit << 20,
		MaxBoots:        int(o.MaxBoots),
		NormalUser:      strings.TrimSpace(o.NormalUser),
	}
	for _, limit := range []struct {
		name       string
		value, max int64
	}{
		{"timeout", o.Timeout, maxMinutes},
		{"silence-timeout", o.SilenceTimeout, maxMinutes},
		{"console-limit", o.ConsoleLimit, maxMiB},
		{"session-limit", o.SessionLimit, maxMiB},
		{"max-boots", o.MaxBoots, maxBoots},
	} {
		if limit.value < 1 || limit.value > limit.max {
			return d, hooks.Blocked("set %s to a number from 1 to %d (it is %d)", limit.name, limit.max, limit.value)
		}
	}
	if d.DefaultPlan != "" && !validPlan(d.DefaultPlan) {
		return d, hooks.Blocked("set default-plan to a plan's full id, such as com.canonical.certification::sru, or reset it (it is %s)", hooks.Shown(o.DefaultPlan))
	}
	if d.NormalUser != "" && !userName.MatchString(d.NormalUser) {
		return d, hooks.Blocked("set normal-user to the name of a user, or reset it (it is %s)", hooks.Shown(o.NormalUser))
	}
	var err error
	if d.Checkbox, err = o.checkbox(); err != nil {
		return d, err
	}
	if d.Environment, err = parseEnvironment("environment", splitLines(o.Environment)); err != nil {
		return d, hooks.Blocked("set environment to NAME=value, one per line: %s", err)
	}
	if d.Manifest, err = parseManifest("manifest", splitLines(o.Manifest)); err != nil {
		return d, hooks.Blocked("set manifest to id=value, one per line: %s", err)
	}
	return d, nil
}

func validPlan(id string) bool {
	return len(id) <= maxPlan && planID.MatchString(id) && utf8.ValidString(id) && !strings.ContainsRune(id, utf8.RuneError)
}

// checkbox reads the options that say where Checkbox comes from.
func (o options) checkbox() (order.CheckboxSource, error) {
	c := order.CheckboxSource{
		Source:        strings.TrimSpace(o.Source),
		Channel:       strings.TrimSpace(o.Channel),
		Path:          strings.TrimSpace(o.Path),
		ExtraPackages: strings.FieldsFunc(o.ExtraPackages, func(r rune) bool { return strings.ContainsRune(" ,\t\r\n", r) }),
	}
	switch c.Source {
	case "snap":
		if c.Channel != "" && (!snapChannel.MatchString(c.Channel) || len(c.Channel) > maxWord) {
			return c, hooks.Blocked("set checkbox-channel to a snap's channel, such as 24.04/stable, or reset it (checkbox-source is snap, and it is %s)", hooks.Shown(o.Channel))
		}
	case "deb":
		if c.Channel != "" && (!ppa.MatchString(c.Channel) || len(c.Channel) > maxWord) {
			return c, hooks.Blocked("set checkbox-channel to a PPA, such as ppa:checkbox-dev/stable, or reset it (checkbox-source is deb, and it is %s)", hooks.Shown(o.Channel))
		}
	case "path":
		if !path.IsAbs(c.Path) || path.Clean(c.Path) != c.Path || hasControl(c.Path) || len(c.Path) > maxPath || !utf8.ValidString(c.Path) ||
			strings.ContainsRune(c.Path, utf8.RuneError) {
			return c, hooks.Blocked("set checkbox-path to the absolute path of checkbox-cli, such as /usr/bin/checkbox-cli (checkbox-source is path, and it is %s)", hooks.Shown(o.Path))
		}
	default:
		return c, hooks.Blocked("set checkbox-source to snap, deb or path (it is %s)", hooks.Shown(o.Source))
	}
	if len(c.ExtraPackages) > maxPackages {
		return c, hooks.Blocked("set extra-packages to at most %d names of Debian packages (it has %d)", maxPackages, len(c.ExtraPackages))
	}
	for i, name := range c.ExtraPackages {
		if !packageName.MatchString(name) || len(name) > maxWord {
			return c, hooks.Blocked("set extra-packages to names of Debian packages, separated by spaces (number %d is %s)", i+1, hooks.Shown(name))
		}
	}
	return c, nil
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
