package main

import (
	"regexp"
	"strings"
	"unicode/utf8"

	"certlab/internal/hooks"
	"certlab/internal/order"
	"certlab/internal/source"
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
)

var (
	planID   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*::[^\s\x00-\x1f\x7f]+$`)
	userName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,30}\$?$`)
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
	return source.Read(source.Options{Source: o.Source, Channel: o.Channel, Path: o.Path, Packages: o.ExtraPackages},
		source.Names{Source: "checkbox-source", Channel: "checkbox-channel", Path: "checkbox-path", Packages: "extra-packages"})
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
