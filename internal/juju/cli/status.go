package cli

import (
	"fmt"
	"io"
	"sort"
	"strings"
	"time"

	"certlab/internal/juju"
)

// A timeFormat writes ages as one command shows them.
type timeFormat struct {
	location *time.Location
	utc      bool
}

func (f timeFormat) since(t time.Time) string {
	switch {
	case t.IsZero():
		return ""
	case f.utc:
		return t.UTC().Format("2006-01-02 15:04:05Z")
	}
	return t.In(f.location).Format("02 Jan 2006 15:04:05Z07:00")
}

func (f timeFormat) clock(t time.Time) string {
	if f.utc {
		return t.UTC().Format("15:04:05")
	}
	return t.In(f.location).Format("15:04:05Z07:00")
}

func (f timeFormat) status(s juju.Status) statusOne {
	return statusOne{Current: s.Status, Message: s.Message, Since: f.since(s.Since)}
}

func statusCommand(c *call) func([]string) (func() error, error) {
	var relations, storage, integrations, colour, noColour, utc bool
	c.flags.boolean(&relations, "relations", "The same as '--integrations'")
	c.flags.boolean(&integrations, "integrations", "Show 'integrations' section in tabular output")
	c.flags.boolean(&storage, "storage", "Show 'storage' section in tabular output")
	c.flags.boolean(&colour, "color", "Use ANSI color codes in tabular output")
	c.flags.boolean(&noColour, "no-color", "Disable ANSI color codes in tabular output")
	c.flags.boolean(&utc, "utc", "Display timestamps in the UTC timezone")
	lines := func(v any) (string, error) { return v.(*statusView).oneline(), nil }
	c.out.options("tabular", map[string]func(any) (string, error){
		"tabular": func(v any) (string, error) {
			return v.(*statusView).tabular((colour || c.Terminal) && !noColour, relations || integrations, storage), nil
		},
		"oneline": lines, "line": lines, "short": lines,
		"summary": func(v any) (string, error) { return v.(*statusView).summary(), nil },
	})
	return func(patterns []string) (func() error, error) {
		return func() error {
			view := newStatusView(c.Env.Model.Snapshot(), patterns, timeFormat{location: c.Location, utc: utc}, c.Env.Model.Now())
			var err error
			if c.out.machine() {
				err = c.out.write(view.doc)
			} else {
				err = c.out.write(view)
			}
			if err != nil {
				return err
			}
			if len(view.doc.Machines)+len(view.doc.Applications) == 0 {
				if view.filtered {
					io.WriteString(c.Stderr, "Nothing matched specified filter.\n")
				} else {
					fmt.Fprintf(c.Stderr, "\nModel %q is empty.\n", view.doc.Model.Controller+":"+view.doc.Model.Name)
				}
			}
			return nil
		}, nil
	}
}

// newStatusView reads a state for `juju status`. With patterns, only what matches one is there: an application, a unit, a machine
// or a workload state; * stands for anything.
func newStatusView(s *juju.State, patterns []string, f timeFormat, now time.Time) *statusView {
	v := &statusView{filtered: len(patterns) > 0}
	info := s.Model
	v.doc = statusDoc{
		Model: modelDoc{Name: info.Name, Type: info.Type, Controller: info.Controller, Cloud: info.Cloud, Region: info.Region,
			Version: info.Version, Status: statusOne{Current: info.Status.Status, Since: f.since(now)}},
		Machines: map[string]machineDoc{}, Applications: map[string]applicationDoc{}, Controller: controllerDoc{Timestamp: f.clock(now)},
	}
	units := map[string]bool{}
	apps := map[string]bool{}
	machines := map[string]bool{}
	for name, u := range s.Units {
		if len(patterns) == 0 || unitMatches(s, u, patterns) {
			units[name], apps[u.Application], machines[u.Machine] = true, true, true
		}
	}
	for name := range s.Applications {
		if len(patterns) == 0 || anyMatches(patterns, name) {
			apps[name] = true
		}
	}
	for id := range s.Machines {
		if len(patterns) == 0 || anyMatches(patterns, id) {
			machines[id] = true
		}
	}
	for id, m := range s.Machines {
		if machines[id] {
			v.doc.Machines[id] = newMachineDoc(m, f)
		}
	}
	for name := range apps {
		if app := s.Applications[name]; app != nil {
			v.doc.Applications[name] = newApplicationDoc(s, app, units, apps, f)
		}
	}
	v.doc.Storage = newStorageDoc(s, units, len(patterns) == 0, timeFormat{location: f.location}, false)
	for _, r := range s.Relations {
		shown := true
		for _, e := range r.Endpoints {
			shown = shown && apps[e.Application]
		}
		if !shown {
			continue
		}
		row := relationRow{kind: "regular", message: relationMessage(r)}
		for _, e := range r.Endpoints {
			row.iface = e.Interface
			if e.Role == juju.Requirer || r.Peer() {
				row.requirer = e.String()
			}
			if e.Role == juju.Provider || r.Peer() {
				row.provider = e.String()
			}
		}
		if r.Peer() {
			row.kind = "peer"
		}
		v.relations = append(v.relations, row)
	}
	sort.Slice(v.relations, func(i, j int) bool {
		a, b := v.relations[i], v.relations[j]
		if a.provider != b.provider {
			return a.provider < b.provider
		}
		return a.requirer < b.requirer
	})
	return v
}

func relationMessage(r *juju.Relation) string {
	if r.Status.Status == "joined" {
		return r.Status.Message
	}
	return strings.TrimSuffix(r.Status.Status+" - "+r.Status.Message, " - ")
}

func unitMatches(s *juju.State, u *juju.Unit, patterns []string) bool {
	names := []string{u.Name, u.Application, u.WorkloadStatus().Status, u.AgentStatus().Status}
	if app := s.Applications[u.Application]; app != nil && app.Leader == u.Name {
		names = append(names, u.Application+"/leader")
	}
	if u.Machine != "" {
		names = append(names, u.Machine)
	}
	return anyMatches(patterns, names...)
}

func anyMatches(patterns []string, names ...string) bool {
	for _, p := range patterns {
		for _, n := range names {
			if matches(p, n) {
				return true
			}
		}
	}
	return false
}

// matches compares with * standing for any text.
func matches(pattern, name string) bool {
	before, after, ok := strings.Cut(pattern, "*")
	if !ok {
		return pattern == name
	}
	if !strings.HasPrefix(name, before) {
		return false
	}
	for rest := name[len(before):]; ; rest = rest[1:] {
		if matches(after, rest) {
			return true
		}
		if rest == "" {
			return false
		}
	}
}

func newMachineDoc(m *juju.Machine, f timeFormat) machineDoc {
	doc := machineDoc{
		JujuStatus: f.status(m.Agent), Hostname: m.Hostname, DNSName: m.Address(), IPAddresses: m.Addresses, InstanceID: m.InstanceID,
		MachineStatus: f.status(m.Instance), ModificationStatus: f.status(m.Modify), Constraints: m.Constraints,
	}
	doc.JujuStatus.Life, doc.MachineStatus.Life = string(m.Life), string(m.Life)
	if doc.InstanceID == "" {
		doc.InstanceID = "pending"
	}
	if m.Base != (juju.Base{}) {
		doc.Base = &baseDoc{Name: m.Base.Name, Channel: m.Base.Channel}
	}
	if len(m.Interfaces) > 0 {
		doc.Interfaces = map[string]networkDoc{}
		for _, n := range m.Interfaces {
			doc.Interfaces[n.Name] = networkDoc{IPAddresses: n.Addresses, MAC: n.MAC, Gateway: n.Gateway, Space: n.Space, Up: true}
		}
	}
	var hardware []string
	if m.Arch != "" {
		hardware = append(hardware, "arch="+m.Arch)
	}
	if m.Cores > 0 {
		hardware = append(hardware, fmt.Sprintf("cores=%d", m.Cores))
	}
	if m.MemoryMiB > 0 {
		hardware = append(hardware, fmt.Sprintf("mem=%dM", m.MemoryMiB))
	}
	if m.Zone != "" {
		hardware = append(hardware, "availability-zone="+m.Zone)
	}
	doc.Hardware = strings.Join(hardware, " ")
	return doc
}

func newApplicationDoc(s *juju.State, app *juju.Application, units, apps map[string]bool, f timeFormat) applicationDoc {
	doc := applicationDoc{
		Charm: app.Charm, CharmOrigin: "local", Exposed: app.Exposed, Life: string(app.Life), Bindings: app.Bindings,
		Base: &baseDoc{Name: app.Base.Name, Channel: app.Base.Channel}, Units: map[string]unitDoc{}, Relations: map[string][]relationDoc{},
		Status: f.status(s.ApplicationStatus(app.Name)),
	}
	if ch := s.CharmOf(app.Name); ch != nil {
		doc.CharmName, doc.CharmRev = ch.Name, ch.Revision
	}
	for _, u := range s.UnitsOf(app.Name) {
		doc.Version = u.WorkloadVersion // the newest unit's
		if units[u.Name] {
			doc.Units[u.Name] = newUnitDoc(s, u, f)
		}
	}
	for _, r := range s.RelationsOf(app.Name) {
		local, _ := r.Endpoint(app.Name)
		remote, _ := r.Remote(app.Name)
		if !apps[remote.Application] {
			continue
		}
		doc.Relations[local.Name] = append(doc.Relations[local.Name], relationDoc{Application: remote.Application, Interface: local.Interface, Scope: "global"})
	}
	return doc
}

func newUnitDoc(s *juju.State, u *juju.Unit, f timeFormat) unitDoc {
	doc := unitDoc{WorkloadStatus: f.status(u.WorkloadStatus()), JujuStatus: f.status(u.AgentStatus()), Machine: u.Machine}
	doc.JujuStatus.Version = u.AgentVersion
	if m := s.Machines[u.Machine]; m != nil {
		doc.PublicAddress = m.Address()
	}
	if app := s.Applications[u.Application]; app != nil {
		doc.Leader = app.Leader == u.Name
	}
	for _, p := range u.Ports {
		doc.OpenedPorts = append(doc.OpenedPorts, p.String())
	}
	return doc
}

// newStorageDoc lists the storage of the units, and with unowned also what is attached to none. Plain `juju storage` leaves the
// filesystem's attachment bare of location and life, which short asks for.
func newStorageDoc(s *juju.State, units map[string]bool, unowned bool, f timeFormat, short bool) storageDoc {
	doc := storageDoc{}
	for id, st := range s.Storage {
		if !units[st.Unit] && (st.Unit != "" || !unowned) {
			continue
		}
		if doc.Storage == nil {
			doc.Storage = map[string]storageInstanceDoc{}
		}
		instance := storageInstanceDoc{Kind: st.Kind, Life: string(st.Life), Status: f.status(st.Status), Persistent: st.Persistent}
		machine := ""
		if u := s.Units[st.Unit]; u != nil {
			machine = u.Machine
			instance.Attachments = &attachmentsDoc{Units: map[string]attachDoc{st.Unit: {Machine: machine, Location: st.Location, Life: string(st.Life)}}}
		}
		doc.Storage[id] = instance
		if st.Filesystem == "" {
			continue
		}
		if doc.Filesystems == nil {
			doc.Filesystems = map[string]filesystemDoc{}
		}
		fs := filesystemDoc{Storage: id, Pool: st.Pool, Life: string(st.Life), Status: f.status(st.Status)}
		if st.Attached {
			fs.ProviderID, fs.Size = st.Filesystem, st.SizeMiB
		}
		if machine != "" {
			attached := attachDoc{Machine: machine, Location: st.Location, Life: string(st.Life)}
			if short {
				attached = attachDoc{Machine: machine}
			}
			fs.Attachments = &attachmentsDoc{
				Machines: map[string]mountDoc{machine: {MountPoint: st.Location, ReadOnly: st.ReadOnly, Life: string(st.Life)}},
				Units:    map[string]attachDoc{st.Unit: attached},
			}
		}
		doc.Filesystems[st.Filesystem] = fs
	}
	return doc
}
