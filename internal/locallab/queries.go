package locallab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"
)

// state returns the unit's active state, and whether there is such a unit at all.
func (m *manager) state(name string) (state string, known bool) {
	m.mu.Lock()
	s := m.services[name]
	m.mu.Unlock()
	if s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.state, true
	}
	if name == "multi-user.target" || name == "basic.target" || name == "default.target" {
		return stateActive, true
	}
	_, err := loadUnit(name)
	return stateInactive, !errors.Is(err, errNoUnit)
}

// is prints each unit's state; it is 0 when one of them is in the wanted one.
func (c *systemctl) is(units []string, no int, wanted string) {
	code := codeNoUnit
	if wanted == stateFailed {
		code = no
	}
	found := false
	for _, name := range units {
		state, known := c.m.state(unitName(name))
		fmt.Fprintln(&c.stdout, state)
		if known && code == codeNoUnit {
			code = no
		}
		found = found || state == wanted
	}
	if found {
		code = 0
	}
	c.code = code
}

// unitFileState is what is-enabled prints; empty if there is no such unit.
func unitFileState(name string) string {
	file, err := loadUnit(name)
	switch {
	case errors.Is(err, errMasked):
		return "masked"
	case errors.Is(err, errNoUnit):
		return ""
	case err != nil:
		return "bad"
	}
	links, _ := filepath.Glob(filepath.Join(unitDirs[0], "*.wants", name))
	switch {
	case len(links) > 0:
		return "enabled"
	case len(file.wantedBy) == 0:
		return "static"
	}
	return "disabled"
}

func (c *systemctl) isEnabled(units []string) {
	c.code = 1
	for _, name := range units {
		name = unitName(name)
		state := unitFileState(name)
		if state == "" {
			fmt.Fprintf(&c.stderr, "Failed to get unit file state for %s: No such file or directory\n", name)
			continue
		}
		fmt.Fprintln(&c.stdout, state)
		if state == "enabled" || state == "static" {
			c.code = 0
		}
	}
}

func (c *systemctl) isSystemRunning(_ []string) {
	state := "running"
	for _, s := range c.m.list() {
		s.mu.Lock()
		if s.state == stateFailed {
			state = "degraded"
		}
		s.mu.Unlock()
	}
	if c.m.isEnding() {
		state = "stopping"
	}
	fmt.Fprintln(&c.stdout, state)
	if state != "running" {
		c.code = 1
	}
}

func (c *systemctl) status(units []string) {
	if len(units) == 0 {
		host, _ := os.Hostname()
		fmt.Fprintf(&c.stdout, "● %s\n    State: running\n    Units: %d loaded\n", host, len(c.m.list()))
		return
	}
	for i, name := range units {
		name = unitName(name)
		p, known := c.m.propertiesOf(name)
		if !known {
			c.fail(codeNoUnit, "Unit %s could not be found.", name)
			continue
		}
		if i > 0 {
			c.stdout.WriteString("\n")
		}
		dot := map[string]string{stateActive: "●", stateFailed: "×"}[p["ActiveState"]]
		if dot == "" {
			dot = "○"
		}
		fmt.Fprintf(&c.stdout, "%s %s - %s\n", dot, name, p["Description"])
		fmt.Fprintf(&c.stdout, "     Loaded: %s (%s; %s)\n", p["LoadState"], p["FragmentPath"], p["UnitFileState"])
		active := fmt.Sprintf("%s (%s)", p["ActiveState"], p["SubState"])
		if p["ActiveState"] == stateFailed {
			active = fmt.Sprintf("failed (Result: %s)", p["Result"])
		}
		if p["StateChangeTimestamp"] != "" {
			active += " since " + p["StateChangeTimestamp"]
		}
		fmt.Fprintf(&c.stdout, "     Active: %s\n", active)
		if p["MainPID"] != "0" {
			fmt.Fprintf(&c.stdout, "   Main PID: %s\n", p["MainPID"])
		}
		if p["ActiveState"] != stateActive && c.code == 0 {
			c.code = codeNotActive
		}
	}
}

// propertiesOf returns what show knows of the unit; a unit that does not exist has properties too.
func (m *manager) propertiesOf(name string) (properties map[string]string, known bool) {
	p := map[string]string{
		"Id": name, "Names": name, "Description": name, "LoadState": "loaded", "ActiveState": stateInactive, "SubState": "dead", "MainPID": "0",
		"ExecMainPID": "0", "ExecMainStatus": "0", "ExecMainCode": "0", "Result": "success", "NRestarts": "0", "FragmentPath": "", "UnitFileState": "",
		"InvocationID": "", "StateChangeTimestamp": "", "NeedDaemonReload": "no",
	}
	file, err := loadUnit(name)
	switch {
	case err == nil:
		p["Description"], p["FragmentPath"] = file.description, file.path
		p["Type"], p["Restart"], p["KillMode"], p["User"] = file.kind, file.restart, file.killMode, file.user
		p["OOMScoreAdjust"] = "0"
		if file.oom != nil {
			p["OOMScoreAdjust"] = strconv.Itoa(*file.oom)
		}
	case errors.Is(err, errMasked):
		p["LoadState"] = "masked"
	case errors.Is(err, errNoUnit):
		p["LoadState"] = "not-found"
	default:
		p["LoadState"] = "bad-setting"
	}
	p["UnitFileState"] = unitFileState(name)
	m.mu.Lock()
	s := m.services[name]
	if m.stale[name] {
		p["NeedDaemonReload"] = "no" // daemon-reload was asked for; the file is read at the next use
	}
	m.mu.Unlock()
	if s == nil {
		state, known := m.state(name)
		p["ActiveState"] = state
		if state == stateActive {
			p["SubState"] = "active"
		}
		return p, known
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p["ActiveState"], p["SubState"], p["Result"], p["InvocationID"] = s.state, s.sub, s.result, s.invocation
	p["NRestarts"] = strconv.Itoa(s.restarts)
	p["Description"] = s.file.description
	if s.main != nil {
		p["MainPID"] = strconv.Itoa(s.main.pid)
		p["ExecMainPID"] = p["MainPID"]
	}
	p["ExecMainStatus"] = strconv.Itoa(s.code)
	if s.signal != 0 {
		p["ExecMainStatus"], p["ExecMainCode"] = strconv.Itoa(int(s.signal)), "2"
	} else if s.code != 0 {
		p["ExecMainCode"] = "1"
	}
	if !s.since.IsZero() {
		p["StateChangeTimestamp"] = s.since.UTC().Format("Mon 2006-01-02 15:04:05 UTC")
	}
	return p, true
}

func (c *systemctl) show(units []string) {
	if len(units) == 0 {
		p := map[string]string{"Version": "255", "SystemState": "running"}
		c.print(p)
		return
	}
	for i, name := range units {
		if i > 0 {
			c.stdout.WriteString("\n")
		}
		p, _ := c.m.propertiesOf(unitName(name))
		c.print(p)
	}
}

func (c *systemctl) print(p map[string]string) {
	names := c.properties
	if len(names) == 0 {
		for name := range p {
			names = append(names, name)
		}
		sort.Strings(names)
	}
	for _, name := range names {
		value, ok := p[name]
		switch {
		case !ok:
		case c.value:
			fmt.Fprintln(&c.stdout, value)
		default:
			fmt.Fprintf(&c.stdout, "%s=%s\n", name, value)
		}
	}
}

func (c *systemctl) cat(units []string) {
	for _, name := range units {
		name = unitName(name)
		file, err := loadUnit(name)
		if err != nil {
			c.fail(1, "No files found for %s.", name)
			continue
		}
		data, err := os.ReadFile(file.path)
		if err != nil {
			c.fail(1, "Failed to read %s: %v", file.path, err)
			continue
		}
		fmt.Fprintf(&c.stdout, "# %s\n%s", file.path, data)
	}
}

func (c *systemctl) listUnits(patterns []string) {
	var lines []string
	for _, s := range c.m.list() {
		s.mu.Lock()
		state, sub, description := s.state, s.sub, s.file.description
		s.mu.Unlock()
		if (state == stateInactive && !c.all) || !matches(patterns, s.name) {
			continue
		}
		lines = append(lines, fmt.Sprintf("  %s loaded %s %s %s", s.name, state, sub, description))
	}
	if !c.noLegend {
		c.stdout.WriteString("  UNIT LOAD ACTIVE SUB DESCRIPTION\n")
	}
	for _, line := range lines {
		fmt.Fprintln(&c.stdout, line)
	}
	if !c.noLegend {
		fmt.Fprintf(&c.stdout, "\n%d loaded units listed.\n", len(lines))
	}
}

func (c *systemctl) listUnitFiles(patterns []string) {
	seen := map[string]bool{}
	for _, dir := range unitDirs {
		entries, _ := os.ReadDir(dir)
		for _, entry := range entries {
			if validUnitName.MatchString(entry.Name()) && matches(patterns, entry.Name()) {
				seen[entry.Name()] = true
			}
		}
	}
	var names []string
	for name := range seen {
		names = append(names, name)
	}
	sort.Strings(names)
	if len(names) == 0 {
		c.code = 1
	}
	if !c.noLegend {
		c.stdout.WriteString("UNIT FILE STATE PRESET\n")
	}
	for _, name := range names {
		fmt.Fprintf(&c.stdout, "%s %s -\n", name, unitFileState(name))
	}
	if !c.noLegend {
		fmt.Fprintf(&c.stdout, "\n%d unit files listed.\n", len(names))
	}
}

func matches(patterns []string, name string) bool {
	if len(patterns) == 0 {
		return true
	}
	for _, pattern := range patterns {
		if ok, err := filepath.Match(strings.TrimSpace(pattern), name); err == nil && ok || unitName(pattern) == name {
			return true
		}
	}
	return false
}

// endAfter asks for the machine's end, now or later; a later request replaces one that is waiting.
func (m *manager) endAfter(kind string, delay time.Duration) {
	m.cancelEnd()
	if delay <= 0 {
		m.end(kind)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.scheduled = time.AfterFunc(delay, func() { m.end(kind) })
}

func (m *manager) cancelEnd() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.scheduled != nil {
		m.scheduled.Stop()
		m.scheduled = nil
	}
}
