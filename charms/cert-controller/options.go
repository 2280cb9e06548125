package main

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"certlab/internal/hooks"
	"certlab/internal/order"
)

// options are the charm's, as charmcraft.yaml has them.
type options struct {
	Port              int64  `config:"port"`
	BindAddress       string `config:"bind-address"`
	ExternalURL       string `config:"external-url"`
	SiteName          string `config:"site-name"`
	MinFreeSpace      int64  `config:"min-free-space"` // MiB
	RetentionDays     int64  `config:"retention-days"`
	MaxSubmissionSize int64  `config:"max-submission-size"` // MiB
	LogLevel          string `config:"log-level"`

	MAASCredentials    hooks.SecretID `config:"maas-credentials"`
	MAASPools          string         `config:"maas-pools"`
	MAASProtectedPools string         `config:"maas-protected-pools"`
	MAASQuarantinePool string         `config:"maas-quarantine-pool"`
	MAASQuarantineTag  string         `config:"maas-quarantine-tag"`
	MAASErase          string         `config:"maas-erase"`
	PowerUnits         bool           `config:"power-units"`

	DefaultRelease       string `config:"default-release"`
	MaxReservationHours  int64  `config:"max-reservation-hours"`
	MaxExtensions        int64  `config:"max-extensions"`
	MaxMachinesPerPerson int64  `config:"max-machines-per-person"`
	ReminderMinutes      int64  `config:"reminder-minutes"`
	SilenceMinutes       int64  `config:"silence-minutes"`
	PowerCycles          int64  `config:"power-cycles"`
	CheckHours           int64  `config:"check-hours"`
	QuarantineAfter      int64  `config:"quarantine-after"`
	AutoReturn           bool   `config:"auto-return"`
	FleetLimits          string `config:"fleet-limits"`

	WebhookURL    string         `config:"webhook-url"`
	WebhookSecret hooks.SecretID `config:"webhook-secret"`

	DeployedCheckboxSource   string `config:"deployed-checkbox-source"`
	DeployedCheckboxChannel  string `config:"deployed-checkbox-channel"`
	DeployedCheckboxPath     string `config:"deployed-checkbox-path"`
	DeployedCheckboxPackages string `config:"deployed-checkbox-packages"`
	APTMirror                string `config:"apt-mirror"`
	KernelStatusURL          string `config:"kernel-status-url"`
}

const (
	maxMiB  = 1 << 30 // a PiB
	maxDays = 36500
	maxName = 100 // bytes
	maxURL  = 1000
)

// desired translates the options into the part of certlabd's desired state that they decide. What an operator has to mend comes
// back as a blocked status that names the option.
func (o options) desired(model string) (order.ControllerDesired, error) {
	d := order.ControllerDesired{
		SiteName:           strings.TrimSpace(o.SiteName),
		Port:               int(o.Port),
		BindAddress:        strings.TrimSpace(o.BindAddress),
		MinFreeBytes:       o.MinFreeSpace << 20,
		RetentionDays:      int(o.RetentionDays),
		MaxSubmissionBytes: o.MaxSubmissionSize << 20,
		LogLevel:           strings.TrimSpace(o.LogLevel),
	}
	for _, limit := range []struct {
		name            string
		value, min, max int64
	}{
		{"port", o.Port, 1, 65535},
		{"min-free-space", o.MinFreeSpace, 0, maxMiB},
		{"retention-days", o.RetentionDays, 0, maxDays},
		{"max-submission-size", o.MaxSubmissionSize, 1, maxMiB},
		{"max-reservation-hours", o.MaxReservationHours, 1, 8760},
		{"max-extensions", o.MaxExtensions, 1, 1000},
		{"max-machines-per-person", o.MaxMachinesPerPerson, 1, 10000},
		{"reminder-minutes", o.ReminderMinutes, 1, 10080},
		{"silence-minutes", o.SilenceMinutes, 5, 1440},
		{"power-cycles", o.PowerCycles, 1, 100},
		{"check-hours", o.CheckHours, 0, 8760},
		{"quarantine-after", o.QuarantineAfter, 1, 100},
	} {
		if limit.value < limit.min || limit.value > limit.max {
			return d, hooks.Blocked("set %s to a number from %d to %d (it is %d)", limit.name, limit.min, limit.max, limit.value)
		}
	}
	if d.BindAddress != "" {
		address, err := netip.ParseAddr(d.BindAddress)
		if err != nil || address.Zone() != "" {
			return d, hooks.Blocked("set bind-address to an IP address of the machine, or reset it (it is %s)", hooks.Shown(o.BindAddress))
		}
		d.BindAddress = address.String()
	}
	var err error
	if d.ExternalURL, err = externalURL(o.ExternalURL); err != nil {
		return d, err
	}
	if d.KernelStatusURL, err = urlOption("kernel-status-url", "https://kernel.ubuntu.com/swm/status.json", o.KernelStatusURL, true); err != nil {
		return d, err
	}
	if d.SiteName == "" {
		d.SiteName = model
	}
	if len(d.SiteName) > maxName || strings.ContainsFunc(d.SiteName, unicode.IsControl) || !printable(d.SiteName) {
		return d, hooks.Blocked("set site-name to one line of at most %d bytes (it is %s)", maxName, hooks.Shown(o.SiteName))
	}
	switch d.LogLevel {
	case "debug", "info", "warning", "error":
	default:
		return d, hooks.Blocked("set log-level to debug, info, warning or error (it is %s)", hooks.Shown(o.LogLevel))
	}
	d.Fleet, err = o.fleet()
	return d, err
}

// externalURL returns the URL without a slash at its end, so that paths can be appended.
func externalURL(text string) (string, error) {
	return urlOption("external-url", "https://lab.example.com", text, false)
}

// urlOption reads an option that is a URL, and returns it without a slash at its end, or nothing.
func urlOption(name, example, text string, query bool) (string, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return "", nil
	}
	u, err := url.Parse(text)
	if err != nil || len(text) > maxURL || !printable(text) || !hostName.MatchString(u.Host) || (u.Scheme != "https" && u.Scheme != "http") || u.Hostname() == "" || u.User != nil ||
		u.RawQuery != "" && !query || u.Fragment != "" {
		parts := "user, query and fragment"
		if query {
			parts = "user and fragment"
		}
		return "", hooks.Blocked("set %s to a URL such as %s, without %s, or reset it (it is %s)", name, example, parts, hooks.Shown(withoutUser(text)))
	}
	if query {
		return u.String(), nil
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// withoutUser leaves out what may be a password.
func withoutUser(text string) string {
	if i := strings.LastIndexByte(text, '@'); i >= 0 {
		return "…" + text[i:]
	}
	return text
}

// hostName is a name or an address, with or without a port.
var hostName = regexp.MustCompile(`^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)

// printable reports whether text is UTF-8; Juju hands on the replacement character for what is not.
func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsRune(text, utf8.RuneError)
}

// agentURLs are the URLs at which agents reach the API, best first.
func agentURLs(addresses []string, port string) []string {
	urls := []string{} // not null
	for _, address := range addresses {
		urls = append(urls, "https://"+net.JoinHostPort(address, port))
	}
	return urls
}
