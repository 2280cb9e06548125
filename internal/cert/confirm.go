package cert

import (
	"slices"
	"strings"

	"certlab/internal/order"
)

// A Placement is which of the provider's machines a unit sits on.
type Placement struct {
	Machine string // the provider's id; empty: it is none of its machines
	// Confirmed: the hardware says so too. Only then may the machine be touched for the unit, as by a power cycle.
	Confirmed bool
	Problem   string // one sentence for the operator, with what to do
}

// PlaceUnit finds the machine that a unit sits on. The unit's word for it is cloud-init's instance-id, which MAAS sets to the machine's system_id;
// it is a file on a disk, and disks are moved and cloned, and machines enlisted anew. So the hardware has to agree: the product UUID or one of
// the MAC addresses. One of both is enough, since boards are swapped, some firmware tells UUIDs in another byte order, and network cards move.
// Where neither agrees although both sides know one, they contradict.
//
// machines are the provider's, as it last listed them. Nil means that it was not read yet: then nothing is said.
func PlaceUnit(unit string, i order.Identity, machines []Provided) Placement {
	if i.SystemID == "" || machines == nil {
		return Placement{} // of another cloud, or put there by hand
	}
	var others []string // whose hardware it is
	var named *Provided
	for n := range machines {
		m := &machines[n]
		if m.ID == i.SystemID {
			named = m
		} else if sameHardware(i, m) == agrees {
			others = append(others, m.Hostname+" ("+m.ID+")")
		}
	}
	really := ""
	if len(others) > 0 {
		really = "; its hardware is that of " + strings.Join(others, ", ")
	}
	if named == nil {
		return Placement{Problem: unit + " is on machine " + i.SystemID + ", which MAAS does not know: it was deleted there, or belongs to another MAAS" + really +
			" (remove the unit and deploy the machine again, or leave it: it works, but nothing is switched or recovered over MAAS)"}
	}
	switch sameHardware(i, named) {
	case agrees:
		return Placement{Machine: named.ID, Confirmed: true}
	case contradicts:
		return Placement{Problem: unit + " says that it is on " + named.Hostname + " (" + named.ID + "), but neither the product UUID nor a MAC address agrees" + really +
			": the disk was moved or cloned, or the board was replaced (commission the machine in MAAS again, or deploy the unit anew; until then nothing is switched over MAAS)"}
	}
	return Placement{Machine: named.ID}
}

type agreement int

const (
	unknown agreement = iota // there is nothing that both sides know
	agrees
	contradicts
)

func sameHardware(i order.Identity, m *Provided) agreement {
	result := unknown
	if mine, theirs := hardwareUUID(i.ProductUUID), hardwareUUID(m.ProductUUID); mine != "" && theirs != "" {
		if mine == theirs || mine == swapped(theirs) {
			return agrees
		}
		result = contradicts
	}
	if len(i.MACs) > 0 && len(m.MACs) > 0 {
		for _, mac := range i.MACs {
			if slices.ContainsFunc(m.MACs, func(other string) bool { return strings.EqualFold(mac, other) }) {
				return agrees
			}
		}
		result = contradicts
	}
	return result
}

// hardwareUUID is a UUID without hyphens, or nothing for what makers leave in place of one, which is the same on many machines.
func hardwareUUID(text string) string {
	text = strings.ToLower(strings.ReplaceAll(strings.TrimSpace(text), "-", ""))
	if len(text) != 32 || strings.Trim(text, "0123456789abcdef") != "" || strings.Count(text, text[:1]) == 32 ||
		text == "03000200040005000006000700080009" || text == "0123456789abcdef0123456789abcdef" {
		return ""
	}
	return text
}

// swapped has the first three groups in the other byte order: the SMBIOS standard has changed it, and tools and firmware disagree.
func swapped(uuid string) string {
	turn := func(group string) string {
		var out strings.Builder
		for n := len(group); n > 0; n -= 2 {
			out.WriteString(group[n-2 : n])
		}
		return out.String()
	}
	return turn(uuid[:8]) + turn(uuid[8:12]) + turn(uuid[12:16]) + uuid[16:]
}
