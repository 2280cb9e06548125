package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"certlab/internal/hooks"
	"certlab/internal/order"
	"certlab/internal/source"
)

// Bounds of what options list.
const (
	maxNames  = 200
	maxLimits = 4096 // bytes of fleet-limits
)

var (
	// maasName is what MAAS takes for a pool or a tag; pools may have spaces.
	maasName    = regexp.MustCompile(`^[A-Za-z0-9_](?:[A-Za-z0-9 _.-]{0,98}[A-Za-z0-9_])?$`)
	maasTag     = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}$`)
	releaseName = regexp.MustCompile(`^[a-z0-9][a-z0-9./-]{0,98}$`)
)

// erasures are the ways in which MAAS erases disks.
var erasures = []string{"none", "quick", "secure", "full"}

// fleet reads the options that say how machines are taken from a provider, but for the secrets.
func (o options) fleet() (order.Fleet, error) {
	f := order.Fleet{Limits: order.FleetLimits{
		Release: strings.TrimSpace(o.DefaultRelease), MaxHours: float64(o.MaxReservationHours), MaxExtensions: int(o.MaxExtensions),
		MaxPerPerson: int(o.MaxMachinesPerPerson), ReminderMinutes: int(o.ReminderMinutes), SilenceMinutes: int(o.SilenceMinutes),
		PowerCycles: int(o.PowerCycles), CheckHours: int(o.CheckHours), QuarantineAfter: int(o.QuarantineAfter), AutoReturn: o.AutoReturn,
	}}
	if f.Limits.Release != "" && !releaseName.MatchString(f.Limits.Release) {
		return f, hooks.Blocked("set default-release to a release as MAAS names it, such as noble, or reset it (it is %s)", hooks.Shown(o.DefaultRelease))
	}
	if err := fleetLimits(o.FleetLimits, &f.Limits); err != nil {
		return f, hooks.Blocked("set fleet-limits to YAML such as boot-minutes: 30, one per line, or reset it: %s", err)
	}
	var err error
	if f.MAAS, err = o.maas(); err != nil {
		return f, err
	}
	if f.Webhook.URL, err = urlOption("webhook-url", "https://chat.example.com/hooks/certlab", o.WebhookURL, true); err != nil {
		return f, err
	}
	if f.Mirror, err = urlOption("apt-mirror", "http://mirror.lab/ubuntu", o.APTMirror, false); err != nil {
		return f, err
	}
	f.Checkbox, err = source.Read(
		source.Options{Source: o.DeployedCheckboxSource, Channel: o.DeployedCheckboxChannel, Path: o.DeployedCheckboxPath, Packages: o.DeployedCheckboxPackages},
		source.Names{Source: "deployed-checkbox-source", Channel: "deployed-checkbox-channel", Path: "deployed-checkbox-path", Packages: "deployed-checkbox-packages"})
	return f, err
}

// maas reads the options that say which of a region's machines are taken, and how.
func (o options) maas() (order.MAAS, error) {
	m := order.MAAS{QuarantinePool: strings.TrimSpace(o.MAASQuarantinePool), QuarantineTag: strings.TrimSpace(o.MAASQuarantineTag), PowerUnits: o.PowerUnits}
	for _, list := range []struct {
		name, text string
		into       *[]string
	}{{"maas-pools", o.MAASPools, &m.Pools}, {"maas-protected-pools", o.MAASProtectedPools, &m.ProtectedPools}} {
		var err error
		if *list.into, err = pools(list.name, list.text); err != nil {
			return m, err
		}
	}
	for _, pool := range m.Pools {
		if slices.Contains(m.ProtectedPools, pool) {
			return m, hooks.Blocked("take the pool %s out of maas-pools or out of maas-protected-pools: it is in both", hooks.Shown(pool))
		}
	}
	switch {
	case m.QuarantinePool != "" && !maasName.MatchString(m.QuarantinePool):
		return m, hooks.Blocked("set maas-quarantine-pool to the name of a resource pool, or reset it (it is %s)", hooks.Shown(o.MAASQuarantinePool))
	case slices.Contains(m.Pools, m.QuarantinePool) && m.QuarantinePool != "":
		return m, hooks.Blocked("set maas-quarantine-pool to a pool that is not among maas-pools: machines in %s would be taken again", hooks.Shown(m.QuarantinePool))
	case m.QuarantineTag != "" && !maasTag.MatchString(m.QuarantineTag):
		return m, hooks.Blocked("set maas-quarantine-tag to a tag of letters, digits, '_', '.' and '-', or to nothing (it is %s)", hooks.Shown(o.MAASQuarantineTag))
	}
	var err error
	m.Erase, err = erase(o.MAASErase)
	return m, err
}

func pools(option, text string) ([]string, error) {
	var names []string
	for _, name := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if !maasName.MatchString(name) || len(names) >= maxNames {
			return nil, hooks.Blocked("set %s to at most %d names of resource pools, separated by commas (number %d is %s)", option, maxNames, len(names)+1, hooks.Shown(name))
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// erase reads maas-erase: POOL=HOW, and HOW alone for all other pools.
func erase(text string) (map[string]string, error) {
	byPool := map[string]string{}
	for _, entry := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		pool, how, named := strings.Cut(entry, "=")
		if !named {
			pool, how = "", pool
		}
		pool, how = strings.TrimSpace(pool), strings.TrimSpace(how)
		_, twice := byPool[pool]
		if !slices.Contains(erasures, how) || named && !maasName.MatchString(pool) || twice || len(byPool) >= maxNames {
			return nil, hooks.Blocked("set maas-erase to POOL=HOW, separated by commas, each pool once, HOW being none, quick, secure or full (it has %s)", hooks.Shown(entry))
		}
		byPool[pool] = how
	}
	if len(byPool) == 0 {
		return nil, nil
	}
	return byPool, nil
}

// seldomLimits are the keys of fleet-limits.
var seldomLimits = map[string]struct {
	min, max int
	into     func(*order.FleetLimits) *int
}{
	"max-queue":         {1, 100_000, func(l *order.FleetLimits) *int { return &l.MaxQueue }},
	"max-tries":         {1, 100, func(l *order.FleetLimits) *int { return &l.MaxTries }},
	"deploy-minutes":    {1, 1440, func(l *order.FleetLimits) *int { return &l.DeployMinutes }},
	"boot-minutes":      {1, 1440, func(l *order.FleetLimits) *int { return &l.BootMinutes }},
	"enrol-minutes":     {1, 1440, func(l *order.FleetLimits) *int { return &l.EnrolMinutes }},
	"release-minutes":   {1, 10080, func(l *order.FleetLimits) *int { return &l.ReleaseMinutes }},
	"incident-machines": {2, 10_000, func(l *order.FleetLimits) *int { return &l.IncidentMachines }},
	"incident-percent":  {1, 100, func(l *order.FleetLimits) *int { return &l.IncidentPercent }},
	"incident-minutes":  {1, 1440, func(l *order.FleetLimits) *int { return &l.IncidentMinutes }},
	"silence-seconds":   {1, 86_400, func(l *order.FleetLimits) *int { return &l.SilenceSeconds }},
	"boot-seconds":      {1, 86_400, func(l *order.FleetLimits) *int { return &l.BootSeconds }},
	"max-deploying":     {1, 10_000, func(l *order.FleetLimits) *int { return &l.MaxDeploying }},
}

// fleetLimits reads fleet-limits. The text is looked at as it is written, so that a key that is not known, or is there twice, is told.
func fleetLimits(text string, limits *order.FleetLimits) error {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	var document yaml.Node
	if len(text) > maxLimits || !printable(text) || yaml.Unmarshal([]byte(text), &document) != nil || len(document.Content) != 1 ||
		document.Content[0].Kind != yaml.MappingNode {
		return fmt.Errorf("it is not that (it is %s)", hooks.Shown(text))
	}
	seen := map[string]bool{}
	for pairs := document.Content[0].Content; len(pairs) > 1; pairs = pairs[2:] {
		key, value := pairs[0].Value, pairs[1]
		limit, ok := seldomLimits[key]
		if !ok || seen[key] {
			what := "is not known"
			if ok {
				what = "is there twice"
			}
			return fmt.Errorf("line %d: %s %s (there are %s)", pairs[0].Line, hooks.Shown(key), what, strings.Join(seldomNames(), ", "))
		}
		seen[key] = true
		n, err := strconv.Atoi(value.Value)
		if value.Kind != yaml.ScalarNode || value.Tag != "!!int" || err != nil || n < limit.min || n > limit.max {
			return fmt.Errorf("line %d: %s is a whole number from %d to %d (it is %s)", value.Line, key, limit.min, limit.max, hooks.Shown(value.Value))
		}
		*limit.into(limits) = n
	}
	return nil
}

func seldomNames() []string {
	names := make([]string, 0, len(seldomLimits))
	for name := range seldomLimits {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
