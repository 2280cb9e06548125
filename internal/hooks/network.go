package hooks

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Network is how the unit is reached on an endpoint's space.
type Network struct {
	BindAddresses    []Interface `json:"bind-addresses"`
	IngressAddresses []string    `json:"ingress-addresses"` // for others to connect to: addresses or names
	EgressSubnets    []string    `json:"egress-subnets"`    // where the unit's connections come from
}

// An Interface is one of the machine's network interfaces.
type Interface struct {
	Name       string    `json:"interface-name"`
	MACAddress string    `json:"mac-address"`
	Addresses  []Address `json:"addresses"`
}

// An Address is one of an Interface's.
type Address struct {
	Hostname string `json:"hostname"`
	Value    string `json:"value"`
	CIDR     string `json:"cidr"`
}

// BindAddress is the first address to listen on, empty if there is none.
func (n Network) BindAddress() string {
	for _, i := range n.BindAddresses {
		for _, a := range i.Addresses {
			if a.Value != "" {
				return a.Value
			}
		}
	}
	return ""
}

// IngressAddress is the first address for others to connect to, empty if there is none.
func (n Network) IngressAddress() string {
	if len(n.IngressAddresses) == 0 {
		return ""
	}
	return n.IngressAddresses[0]
}

// NetworkGet returns the network of an endpoint or extra binding.
func (u *Unit) NetworkGet(ctx context.Context, binding string) (Network, error) {
	network, ok := u.networks[binding]
	if !ok {
		if err := u.read(ctx, &network, "network-get", "--format", "json", "--", binding); err != nil {
			return Network{}, err
		}
		u.networks[binding] = network
	}
	return network, nil
}

// OpenedPorts returns the port ranges that the unit has opened, such as 8443/tcp, 9000-9010/udp or icmp, sorted.
func (u *Unit) OpenedPorts(ctx context.Context) ([]string, error) {
	if !u.portsKnown {
		var ports []string
		if err := u.read(ctx, &ports, "opened-ports", "--format", "json"); err != nil {
			return nil, err
		}
		slices.Sort(ports)
		u.ports, u.portsKnown = ports, true
	}
	return slices.Clone(u.ports), nil
}

// OpenPort opens a port or range, such as 8443/tcp (the default protocol), 9000-9010/udp or icmp, to who may reach an exposed
// application, unless it is open already.
func (u *Unit) OpenPort(ctx context.Context, port string) error {
	return u.changePort(ctx, port, true)
}

// ClosePort closes what OpenPort has opened, unless it is closed already.
func (u *Unit) ClosePort(ctx context.Context, port string) error {
	return u.changePort(ctx, port, false)
}

// SetPorts opens the ports and closes all others.
func (u *Unit) SetPorts(ctx context.Context, ports ...string) error {
	opened, err := u.OpenedPorts(ctx)
	if err != nil {
		return err
	}
	want := make(map[string]bool, len(ports))
	for _, port := range ports {
		port, err := normalPort(port)
		if err != nil {
			return err
		}
		want[port] = true
	}
	// Closed first: a range that overlaps one that is still open is refused.
	for _, port := range opened {
		if !want[port] {
			if err := u.ClosePort(ctx, port); err != nil {
				return err
			}
		}
	}
	for _, port := range sortedKeys(want) {
		if err := u.OpenPort(ctx, port); err != nil {
			return err
		}
	}
	return nil
}

func (u *Unit) changePort(ctx context.Context, port string, open bool) error {
	port, err := normalPort(port)
	if err != nil {
		return err
	}
	opened, err := u.OpenedPorts(ctx)
	if err != nil {
		return err
	}
	at, is := slices.BinarySearch(opened, port)
	if is == open {
		return nil
	}
	name := "close-port"
	if open {
		name = "open-port"
	}
	if _, err := u.run(ctx, Command{Name: name, Args: []string{"--", port}}); err != nil {
		return err
	}
	if open {
		u.ports = slices.Insert(opened, at, port)
	} else {
		u.ports = slices.Delete(opened, at, at+1)
	}
	return nil
}

// normalPort writes a port as opened-ports does.
func normalPort(text string) (string, error) {
	if text == "icmp" {
		return text, nil
	}
	ports, protocol, ok := strings.Cut(text, "/")
	if !ok {
		protocol = "tcp"
	}
	first, last, isRange := strings.Cut(ports, "-")
	if !isRange {
		last = first
	}
	from, err1 := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || from == 0 || from > to || (protocol != "tcp" && protocol != "udp") {
		return "", fmt.Errorf("cannot open or close port %q: want such as 8443/tcp, 9000-9010/udp or icmp", text)
	}
	if from == to {
		return fmt.Sprintf("%d/%s", from, protocol), nil
	}
	return fmt.Sprintf("%d-%d/%s", from, to, protocol), nil
}
