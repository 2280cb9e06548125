package juju

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
)

const portArgs = "<port>[/<protocol>] or <from>-<to>[/<protocol>] or icmp"

// The types of network-get's answer have each name in the order, and in YAML also in the old spelling, that Juju prints.
type (
	networkAddress struct {
		Hostname string `json:"hostname" yaml:"hostname"`
		Value    string `json:"value" yaml:"value"`
		CIDR     string `json:"cidr" yaml:"cidr"`
		Address  string `json:"-" yaml:"address"`
	}
	networkDevice struct {
		MAC       string           `json:"mac-address" yaml:"mac-address"`
		Name      string           `json:"interface-name" yaml:"interface-name"`
		Addresses []networkAddress `json:"addresses" yaml:"addresses"`
		OldMAC    string           `json:"-" yaml:"macaddress"`
		OldName   string           `json:"-" yaml:"interfacename"`
	}
	networkInfo struct {
		Bind    []networkDevice `json:"bind-addresses,omitempty" yaml:"bind-addresses,omitempty"`
		Egress  []string        `json:"egress-subnets,omitempty" yaml:"egress-subnets,omitempty"`
		Ingress []string        `json:"ingress-addresses,omitempty" yaml:"ingress-addresses,omitempty"`
	}
)

func networkGet(i *invocation) error {
	if len(i.args) == 0 {
		return usagef("no arguments specified")
	}
	if i.args[0] == "" {
		return usagef("no binding name specified")
	}
	if err := noMore(i.args[1:]); err != nil {
		return err
	}
	info := i.network()
	if !i.bindable(i.args[0]) || len(info.Bind) == 0 {
		return fmt.Errorf("no network config found for binding %q", i.args[0])
	}
	address := info.Bind[0].Addresses[0].Value
	wanted := map[string]any{}
	if i.flag("bind-address") {
		wanted["bind-address"] = address
	}
	if i.flag("ingress-address") {
		wanted["ingress-address"] = info.Ingress[0]
	}
	if i.flag("egress-subnets") {
		wanted["egress-subnets"] = info.Egress
	}
	switch {
	case i.flag("primary-address") && len(wanted) > 0:
		return errors.New("--primary-address must be the only flag specified")
	case i.flag("primary-address"):
		return i.write(address)
	case len(wanted) == 0:
		return i.write(info)
	case len(wanted) == 1:
		for _, value := range wanted {
			return i.write(value)
		}
	}
	return i.write(wanted)
}

// bindable reports whether the charm has an endpoint or extra binding of the name.
func (i *invocation) bindable(name string) bool {
	ch := i.state.CharmOf(i.app)
	if ch == nil {
		return false
	}
	_, endpoint := ch.Endpoint(name)
	return endpoint || has(ch.Meta.ExtraBindings, name) || name == "juju-info"
}

func (i *invocation) network() networkInfo {
	var info networkInfo
	machine := i.machine()
	for _, device := range machine.Interfaces {
		shown := networkDevice{MAC: device.MAC, Name: device.Name, OldMAC: device.MAC, OldName: device.Name}
		for _, cidr := range device.Addresses {
			address, _, _ := strings.Cut(cidr, "/")
			shown.Addresses = append(shown.Addresses, networkAddress{Hostname: address, Value: address, CIDR: subnet(cidr), Address: address})
		}
		if len(shown.Addresses) > 0 {
			info.Bind = append(info.Bind, shown)
		}
	}
	if address := machine.Address(); address != "" {
		info.Ingress = []string{address}
		info.Egress = []string{hostSubnet(address)}
		if len(info.Bind) == 0 {
			info.Bind = []networkDevice{{Addresses: []networkAddress{{Hostname: address, Value: address, CIDR: hostSubnet(address), Address: address}}}}
		}
	} else {
		info.Bind = nil
	}
	return info
}

func openPort(i *invocation) error  { return i.changePort(true) }
func closePort(i *invocation) error { return i.changePort(false) }

func (i *invocation) changePort(open bool) error {
	if len(i.args) == 0 {
		return usagef("no port or range specified")
	}
	port, err := parsePort(strings.ToLower(i.args[0]))
	if err != nil {
		return err
	}
	if err := noMore(i.args[1:]); err != nil {
		return err
	}
	if i.ports == nil {
		i.ports = slices.Clone(i.state.Units[i.unit].Ports)
		makeSlice(&i.ports)
	}
	endpoints := []string{""}
	if text := i.flags["endpoints"]; text != "" {
		endpoints = strings.Split(text, ",")
	}
	for _, endpoint := range endpoints {
		port.Endpoint = strings.TrimSpace(endpoint)
		i.ports = slices.DeleteFunc(i.ports, func(p Port) bool { return p == port })
		if open {
			i.ports = append(i.ports, port)
		}
	}
	sortPorts(i.ports)
	return nil
}

func makeSlice[E any](s *[]E) {
	if *s == nil {
		*s = []E{}
	}
}

func parsePort(text string) (Port, error) {
	if text == "icmp" {
		return Port{Protocol: "icmp"}, nil
	}
	bounds, protocol, ok := strings.Cut(text, "/")
	if !ok {
		protocol = "tcp"
	}
	from, to, ok := strings.Cut(bounds, "-")
	if !ok {
		to = from
	}
	first, err := strconv.Atoi(from)
	if err != nil {
		return Port{}, usagef("invalid port %q: %v", from, err)
	}
	last, err := strconv.Atoi(to)
	if err != nil {
		return Port{}, usagef("invalid port %q: %v", to, err)
	}
	switch {
	case first > last:
		return Port{}, usagef("invalid port range %d-%d", first, last)
	case first < 0 || last > 65535:
		return Port{}, usagef("port range bounds must be between 0 and 65535, got %d-%d", first, last)
	case protocol != "tcp" && protocol != "udp":
		return Port{}, usagef("invalid protocol %q, expected \"tcp\", \"udp\", or \"icmp\"", protocol)
	}
	return Port{Protocol: protocol, From: first, To: last}, nil
}

func sortPorts(ports []Port) {
	sort.Slice(ports, func(a, b int) bool {
		x, y := ports[a], ports[b]
		if x.Protocol != y.Protocol {
			return x.Protocol < y.Protocol
		}
		if x.From != y.From {
			return x.From < y.From
		}
		if x.To != y.To {
			return x.To < y.To
		}
		return x.Endpoint < y.Endpoint
	})
}

// openedPorts shows the unit's ports as they will be when the hook has ended well.
func openedPorts(i *invocation) error {
	if err := noMore(i.args); err != nil {
		return err
	}
	ports := i.ports
	if ports == nil {
		ports = i.state.Units[i.unit].Ports
	}
	lines, endpoints := []string{}, map[string][]string{}
	for _, p := range ports {
		name := p.Endpoint
		if name == "" {
			name = "*"
		}
		if !has(endpoints, p.String()) {
			lines = append(lines, p.String())
		}
		endpoints[p.String()] = append(endpoints[p.String()], name)
	}
	if i.flag("endpoints") {
		for n, text := range lines {
			lines[n] = fmt.Sprintf("%s (%s)", text, strings.Join(endpoints[text], ", "))
		}
	}
	return i.write(lines)
}

// subnet is the network that an address with prefix length is in.
func subnet(cidr string) string {
	if prefix, err := parsePrefix(cidr); err == nil {
		return prefix
	}
	return cidr
}
