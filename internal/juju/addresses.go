package juju

import (
	"net/netip"
)

// parsePrefix returns the network of an address such as 10.0.0.11/24.
func parsePrefix(cidr string) (string, error) {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil {
		return "", err
	}
	return prefix.Masked().String(), nil
}

// hostSubnet is the network of one address alone: 10.0.0.11/32.
func hostSubnet(address string) string {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	return netip.PrefixFrom(addr, addr.BitLen()).String()
}
