package juju

import (
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"github.com/juju/charm/v12"
)

var secretURI = regexp.MustCompile(`^secret:(//[0-9a-f-]{36}/)?[0-9a-v]{20}$`)

// normalOption reads an option's value as a person types it and returns the text that is stored: "True" is "true", "1e3" is
// "1000".
func normalOption(ch *Charm, name, value string) (string, error) {
	option, ok := ch.Config.Options[name]
	if !ok {
		return "", fmt.Errorf("unknown option %q", name)
	}
	bad := fmt.Errorf("option %q expected %s, got %q", name, option.Type, value)
	switch option.Type {
	case "int":
		n, err := strconv.ParseInt(strings.TrimSpace(value), 0, 64)
		if err != nil {
			return "", bad
		}
		return strconv.FormatInt(n, 10), nil
	case "float":
		f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			return "", bad
		}
		return strconv.FormatFloat(f, 'g', -1, 64), nil
	case "boolean":
		b, err := strconv.ParseBool(value)
		if err != nil {
			return "", bad
		}
		return strconv.FormatBool(b), nil
	case "secret":
		if value != "" && !secretURI.MatchString(value) {
			return "", fmt.Errorf("invalid secret URI for option %q: secret URI %q not valid", name, value)
		}
	}
	return value, nil
}

// SetOptions sets options of an application. Agents are told if a value differs from the one before.
func (s *State) SetOptions(application string, options map[string]string) error {
	app, ch := s.Applications[application], s.CharmOf(application)
	if app == nil || ch == nil {
		return fmt.Errorf("application %s not found (not found)", application)
	}
	names := make([]string, 0, len(options))
	for name := range options {
		names = append(names, name)
	}
	sort.Strings(names)
	changed := false
	for _, name := range names {
		text, err := normalOption(ch, name, options[name])
		if err != nil {
			if _, known := ch.Config.Options[name]; !known {
				return fmt.Errorf("invalid application config: %w", err)
			}
			return err
		}
		if old, ok := app.Config[name]; !ok || old != text {
			app.Config[name] = text
			changed = true
		}
	}
	if changed {
		app.ConfigVersion++
	}
	return nil
}

// ResetOptions takes options back to their defaults; unknown ones are passed over. On 4.x the units are not told (measured on
// 4.0.15), though config-get shows the default at once.
func (s *State) ResetOptions(application string, names []string) error {
	app := s.Applications[application]
	if app == nil {
		return fmt.Errorf("application %s not found (not found)", application)
	}
	changed := false
	for _, name := range names {
		if _, ok := app.Config[name]; ok {
			delete(app.Config, name)
			changed = true
		}
	}
	if changed && s.Model.Major() < 4 {
		app.ConfigVersion++
	}
	return nil
}

// SetTrust gives an application the cloud's credentials, or takes them away.
func (s *State) SetTrust(application string, trust bool) error {
	app := s.Applications[application]
	if app == nil {
		return fmt.Errorf("application %q not found", application)
	}
	if app.Trust != trust {
		app.Trust = trust
		app.ConfigVersion++
	}
	return nil
}

// OptionValue is an option's value as a charm sees it, nil if it has none, and where it comes from: user, default or unset.
func (s *State) OptionValue(application, name string) (value any, source string) {
	app, ch := s.Applications[application], s.CharmOf(application)
	if app == nil || ch == nil {
		return nil, "unset"
	}
	option := ch.Config.Options[name]
	if text, ok := app.Config[name]; ok {
		if value, err := ParseOption(option.Type, text); err == nil {
			return value, "user"
		}
	}
	if option.Default != nil {
		return option.Default, "default"
	}
	return nil, "unset"
}

// Options are the application's options by name.
func (s *State) Options(application string) map[string]charm.Option {
	if ch := s.CharmOf(application); ch != nil {
		return ch.Config.Options
	}
	return nil
}
