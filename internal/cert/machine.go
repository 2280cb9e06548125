package cert

import (
	"strings"
	"time"
)

// Origins of a machine.
const (
	OriginJuju   = "juju"   // a unit was placed on it
	OriginManual = "manual" // a person named it, to add submissions that were made by hand
	OriginMAAS   = "maas"   // its provider lists it, and no unit was placed on it
)

// Origins lists every origin.
var Origins = []string{OriginJuju, OriginManual, OriginMAAS}

// A Machine is a computer under test. It stays, with its results, when its unit goes.
type Machine struct {
	ID           string     `json:"id"`
	Key          string     `json:"key"` // what makes it this machine: see Identity.Key
	Origin       string     `json:"origin"`
	Hostname     string     `json:"hostname"`
	Architecture string     `json:"architecture"`
	SystemID     string     `json:"system_id"`
	ProductUUID  string     `json:"product_uuid"`
	Base         string     `json:"base"`
	Kernel       string     `json:"kernel"`
	Unit         string     `json:"unit"` // the unit that may act for it now; empty: none
	ModelUUID    string     `json:"model_uuid"`
	Created      time.Time  `json:"created"`
	Seen         *time.Time `json:"seen"`        // the agent's last contact
	CurrentRun   string     `json:"current_run"` // id of the run that is on it now; empty: idle

	ClockSkewSeconds *float64 `json:"clock_skew_seconds,omitempty"` // how far its clock is ahead of the controller's; null: not known
	Problem          string   `json:"problem,omitempty"`            // one sentence for the operator, with what to do
}

// Identity is what a unit says of the machine that it is on. See order.Identity.
type Identity struct {
	Hostname     string
	Architecture string
	SystemID     string
	ProductUUID  string
	Base         string
	Kernel       string
	Unit         string
	ModelUUID    string
	MACs         []string
}

// Key returns what tells this machine from all others: MAAS's system_id; else the product UUID with the hostname, within the
// Juju model, because boards of one batch have been seen to share a product UUID, and mixing two machines' results is worse than
// listing a renamed machine twice; else the hostname within the model. It is empty when there is nothing to go by.
func (i Identity) Key() string {
	host := strings.ToLower(i.Hostname)
	switch {
	case i.SystemID != "":
		return "maas:" + i.SystemID
	case host == "":
		return ""
	case i.ProductUUID != "":
		return "dmi:" + i.ModelUUID + ":" + strings.ToLower(i.ProductUUID) + ":" + host
	default:
		return "host:" + i.ModelUUID + ":" + host
	}
}

// An Enrolment lets the holder of a key act for a machine.
type Enrolment struct {
	Relation  string
	Unit      string
	PublicKey string // base64 of the SubjectPublicKeyInfo
	Identity  Identity
}

// A Refusal says why an enrolment was not accepted.
type Refusal struct {
	Enrolment Enrolment
	Reason    string
}

// A Claim is an enrolment that holds, and the key of the machine that it holds for.
type Claim struct {
	Enrolment
	MachineKey string
}

// Claims decides which enrolments hold. One unit may act for a machine: where two claim it, the one that holder says has it already
// keeps it, else the first in the list. holder maps a machine's key to "model-uuid/unit" of the unit that has it.
func Claims(enrolments []Enrolment, holder map[string]string) (claims []Claim, refusals []Refusal) {
	winner := make(map[string]int)
	keys := make(map[string]int)
	for n, e := range enrolments {
		key := e.Identity.Key()
		if key == "" {
			continue
		}
		if w, ok := winner[key]; !ok || (holder[key] == unitName(e) && holder[key] != unitName(enrolments[w])) {
			winner[key] = n
		}
	}
	for n, e := range enrolments {
		key := e.Identity.Key()
		switch {
		case key == "":
			refusals = append(refusals, Refusal{e, "it names no machine: neither a MAAS system_id nor a hostname"})
			continue
		case e.PublicKey == "":
			refusals = append(refusals, Refusal{e, "it has no public key"})
			continue
		case winner[key] != n:
			refusals = append(refusals, Refusal{e, "machine " + e.Identity.Hostname + " (" + key + ") is already held by unit " +
				enrolments[winner[key]].Unit + ": remove one of the two units"})
			continue
		}
		if other, ok := keys[e.PublicKey]; ok {
			refusals = append(refusals, Refusal{e, "it has the same public key as unit " + enrolments[other].Unit +
				": remove the key file of one of the two agents (was a disk cloned?)"})
			continue
		}
		keys[e.PublicKey] = n
		claims = append(claims, Claim{e, key})
	}
	return claims, refusals
}

func unitName(e Enrolment) string { return e.Identity.ModelUUID + "/" + e.Unit }
