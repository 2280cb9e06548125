package cli

import (
	"fmt"
	"net"
	"regexp"
	"sort"
	"strings"
)

// A statusView is what one `juju status` shows: the document that yaml and json print, and what only the tables have.
type statusView struct {
	doc       statusDoc
	relations []relationRow
	// filtered says that patterns were given.
	filtered bool
}

// A relationRow is a line of the table of integrations.
type relationRow struct{ provider, requirer, iface, kind, message string }

// unitHooks are the hooks whose names Juju shows in a unit's message; it shows those of relations, storage and secrets not.
var runningHook = regexp.MustCompile(`^running (install|start|config-changed|upgrade-charm|stop|remove|update-status|leader-elected|leader-deposed|leader-settings-changed|collect-metrics|meter-status-changed|pre-series-upgrade|post-series-upgrade) hook`)
var runningAction = regexp.MustCompile(`^running action (.*)`)

// unitMessage is the message column of a unit.
func unitMessage(u unitDoc) string {
	doing := ""
	if u.JujuStatus.Current == "executing" {
		if m := runningHook.FindStringSubmatch(u.JujuStatus.Message); m != nil {
			doing = m[1]
		} else if m := runningAction.FindStringSubmatch(u.JujuStatus.Message); m != nil {
			doing = m[1]
		}
	}
	message := u.WorkloadStatus.Message
	if doing != "" {
		message = strings.TrimSpace("(" + doing + ") " + message)
	}
	return message
}

// scale counts the units whose agents answer.
func scale(units map[string]unitDoc) string {
	up := 0
	for _, u := range units {
		switch u.JujuStatus.Current {
		case "allocating", "lost", "failed":
		default:
			up++
		}
	}
	if up == len(units) {
		return fmt.Sprint(up)
	}
	return fmt.Sprintf("%d/%d", up, len(units))
}

// tabular renders the tables of `juju status`.
func (v *statusView) tabular(colour, relations, storage bool) string {
	var sections []string
	model := table{}
	model.add(header("Model", "Controller", "Cloud/Region", "Version", "Timestamp")...)
	m := v.doc.Model
	model.add(plain(m.Name, m.Controller, m.Cloud+"/"+m.Region, m.Version, v.doc.Controller.Timestamp)...)
	sections = append(sections, model.render(colour))

	if len(v.doc.Applications) > 0 {
		apps := table{right: map[int]bool{3: true, 6: true}}
		apps.add(header("App", "Version", "Status", "Scale", "Charm", "Channel", "Rev", "Exposed", "Message")...)
		units := table{}
		units.add(header("Unit", "Workload", "Agent", "Machine", "Public address", "Ports", "Message")...)
		for _, name := range sortedNames(v.doc.Applications) {
			a := v.doc.Applications[name]
			exposed := "no"
			if a.Exposed {
				exposed = "yes"
			}
			apps.add(text(name), text(a.Version), state(a.Status.Current), text(scale(a.Units)), text(a.CharmName), text(""), text(fmt.Sprint(a.CharmRev)), text(exposed), note(a.Status.Message))
			for _, unit := range sortedNames(a.Units) {
				u := a.Units[unit]
				if u.Leader {
					unit += "*"
				}
				units.add(text(unit), state(u.WorkloadStatus.Current), state(u.JujuStatus.Current), text(u.Machine), place(u.PublicAddress), text(portsColumn(u.OpenedPorts)), note(unitMessage(u)))
			}
		}
		sections = append(sections, apps.render(colour))
		if len(units.rows) > 1 {
			sections = append(sections, units.render(colour))
		}
	}
	if len(v.doc.Machines) > 0 {
		machines := table{}
		machines.add(header("Machine", "State", "Address", "Inst id", "Base", "AZ", "Message")...)
		for _, id := range sortedNames(v.doc.Machines) {
			m := v.doc.Machines[id]
			base := ""
			if m.Base != nil {
				base = m.Base.Name + "@" + m.Base.Channel
			}
			machines.add(text(id), state(m.JujuStatus.Current), place(m.DNSName), text(m.InstanceID), text(base), text(""), note(m.MachineStatus.Message))
		}
		sections = append(sections, machines.render(colour))
	}
	if storage && len(v.doc.Storage.Storage) > 0 {
		t := table{}
		t.add(header("Storage Unit", "Storage ID", "Type", "Pool", "Mountpoint", "Size", "Status", "Message")...)
		storageRows(&t, v.doc.Storage, true)
		sections = append(sections, t.render(colour))
	}
	if relations && len(v.relations) > 0 {
		t := table{}
		t.add(header("Integration provider", "Requirer", "Interface", "Type", "Message")...)
		for _, r := range v.relations {
			row := plain(r.provider, r.requirer, r.iface, r.kind)
			if r.message != "" {
				row = append(row, note(r.message))
			}
			t.add(append(row, text(""))...)
		}
		sections = append(sections, t.render(colour))
	}
	return strings.Join(sections, "\n")
}

// storageRows adds a line for each storage instance of each unit.
func storageRows(t *table, doc storageDoc, mounts bool) {
	for _, id := range sortedNames(doc.Storage) {
		s := doc.Storage[id]
		pool, size, mount := "", "", ""
		for _, fs := range doc.Filesystems {
			if fs.Storage == id {
				pool, size = fs.Pool, sizeColumn(fs.Size)
			}
		}
		units := []string{""}
		if s.Attachments != nil && len(s.Attachments.Units) > 0 {
			units = sortedNames(s.Attachments.Units)
		}
		for _, unit := range units {
			if s.Attachments != nil {
				mount = s.Attachments.Units[unit].Location
			}
			row := plain(unit, id, s.Kind, pool)
			if mounts {
				row = append(row, text(mount))
			}
			row = append(row, text(size), state(s.Status.Current))
			if s.Status.Message != "" {
				row = append(row, note(s.Status.Message))
			}
			t.add(append(row, text(""))...)
		}
	}
}

// sizeColumn shows MiB as Juju does: 258019 is "252 GiB".
func sizeColumn(mib uint64) string {
	if mib == 0 {
		return ""
	}
	size := float64(mib)
	units := []string{"MiB", "GiB", "TiB", "PiB"}
	i := 0
	for size >= 1024 && i < len(units)-1 {
		size /= 1024
		i++
	}
	if size < 10 {
		return fmt.Sprintf("%.1f %s", size, units[i])
	}
	return fmt.Sprintf("%.0f %s", size, units[i])
}

// portsColumn joins the ports of one protocol: "80,443/tcp".
func portsColumn(ports []string) string {
	byProtocol := map[string][]string{}
	for _, p := range ports {
		number, protocol, ok := strings.Cut(p, "/")
		if !ok {
			byProtocol[""] = append(byProtocol[""], p)
			continue
		}
		byProtocol[protocol] = append(byProtocol[protocol], number)
	}
	var parts []string
	for _, protocol := range sortedNames(byProtocol) {
		part := strings.Join(byProtocol[protocol], ",")
		if protocol != "" {
			part += "/" + protocol
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, " ")
}

// oneline renders `juju status --format oneline`, alias line and short.
func (v *statusView) oneline() string {
	var out strings.Builder
	for _, app := range sortedNames(v.doc.Applications) {
		units := v.doc.Applications[app].Units
		for _, name := range sortedNames(units) {
			u := units[name]
			fmt.Fprintf(&out, "- %s: %s (agent:%s, workload:%s)", name, u.PublicAddress, u.JujuStatus.Current, u.WorkloadStatus.Current)
			if ports := portsColumn(u.OpenedPorts); ports != "" {
				fmt.Fprintf(&out, " %s", ports)
			}
			out.WriteByte('\n')
		}
	}
	return out.String()
}

// summary renders `juju status --format summary`, with the padding that was measured.
func (v *statusView) summary() string {
	var out strings.Builder
	var subnets []string
	seen := map[string]bool{}
	machineStates, unitStates := map[string]int{}, map[string]int{}
	units := 0
	ports := map[string]bool{}
	for _, id := range sortedNames(v.doc.Machines) {
		m := v.doc.Machines[id]
		machineStates[m.JujuStatus.Current]++
		ip := net.ParseIP(m.DNSName)
		if ip == nil || ip.To4() == nil {
			continue
		}
		mask := ip.DefaultMask()
		if key := ip.Mask(mask).String(); !seen[key] {
			seen[key] = true
			bits, _ := mask.Size()
			subnets = append(subnets, fmt.Sprintf("%s/%d", m.DNSName, bits))
		}
	}
	for _, a := range v.doc.Applications {
		for _, u := range a.Units {
			units++
			unitStates[u.WorkloadStatus.Current]++
			for _, p := range u.OpenedPorts {
				ports[p] = true
			}
		}
	}
	fmt.Fprintf(&out, "Running on subnets:  %s  \n", strings.Join(subnets, ", "))
	fmt.Fprintf(&out, " Utilizing ports:  %-16s\n", strings.Join(sortedNames(ports), ", "))
	count := func(title string, n int, states map[string]int) {
		fmt.Fprintf(&out, "%17s  (%d)\n", title+":", n)
		for _, s := range sortedNames(states) {
			fmt.Fprintf(&out, "%17s %3d \n", s+":", states[s])
		}
		fmt.Fprintf(&out, "%17s\n", "")
	}
	count("# Machines", len(v.doc.Machines), machineStates)
	count("# Units", units, unitStates)
	fmt.Fprintf(&out, "%17s  (%d)\n", "# Applications:", len(v.doc.Applications))
	for _, name := range sortedNames(v.doc.Applications) {
		exposed := "0/1"
		if v.doc.Applications[name].Exposed {
			exposed = "1/1"
		}
		fmt.Fprintf(&out, "%17s  %s  exposed\n", name, exposed)
	}
	fmt.Fprintf(&out, "%17s\n%17s  (0)\n", "", "# Remote:")
	return out.String()
}

// sortedNames are a map's keys as people count: worker/2 before worker/10.
func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Slice(names, func(i, j int) bool { return naturalLess(names[i], names[j]) })
	return names
}

func naturalLess(a, b string) bool {
	for a != "" && b != "" {
		if digit(a[0]) && digit(b[0]) {
			na, ra := number(a)
			nb, rb := number(b)
			if na != nb {
				if len(na) != len(nb) {
					return len(na) < len(nb)
				}
				return na < nb
			}
			a, b = ra, rb
			continue
		}
		if a[0] != b[0] {
			return a[0] < b[0]
		}
		a, b = a[1:], b[1:]
	}
	return len(a) < len(b)
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// number cuts the leading digits off s, without leading zeros.
func number(s string) (digits, rest string) {
	i := 0
	for i < len(s) && digit(s[i]) {
		i++
	}
	return strings.TrimLeft(s[:i], "0"), s[i:]
}
