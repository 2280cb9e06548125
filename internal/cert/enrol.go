package cert

import (
	"crypto/ecdsa"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"net"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"certlab/internal/order"
)

// Bounds of an enrolment.
const (
	maxEnrolKey  = 4096 // bytes of the public key's text
	maxEnrolMACs = 256
	maxEnrolText = 300 // bytes of each other text
)

// CheckBooted decides whether a machine that shows token may have an agent for deployment d. It fails as Unauthorized.
func CheckBooted(d Deployment, token string) error {
	if !IsSecret(order.EnrolPrefix, token) || d.TokenHash == "" || subtle.ConstantTimeCompare([]byte(HashSecret(token)), []byte(d.TokenHash)) != 1 {
		return Errorf(Unauthorized, "the token is not that of a deployment that is under way (deploy the machine again)")
	}
	// A deployment that is ready is still under way: a machine that is reset by hand asks again.
	if d.Finished != nil || d.Phase == PhaseRelease || d.Phase == PhaseRecover || d.Phase == PhaseOver {
		return Errorf(Unauthorized, "the deployment %s is over: its token is not good any more (deploy the machine again)", d.ID)
	}
	return nil
}

// CheckEnrolment decides whether the agent behind e may act for machine m in deployment d. It fails
//
//   - as Rejected if e is not one at all;
//   - as Unauthorized if the token is not d's, or d is over;
//   - as Forbidden if the token is good and the machine is another one, or another key has used it up: somebody has a token that is not
//     theirs, which belongs into the machine's log.
//
// The same key may come again with the same token: an answer can be lost. So d.TokenHash stays until the deployment is over, and
// d.AgentKey says that the token is used up.
func CheckEnrolment(d Deployment, m Provided, e order.Enrolment) error {
	if err := checkEnrolmentForm(e); err != nil {
		return err
	}
	if e.Deployment != d.ID {
		return Errorf(Unauthorized, "the token is not that of deployment %q", e.Deployment)
	}
	if err := CheckBooted(d, e.Token); err != nil {
		return err
	}
	if err := confirmMachine(m, e); err != nil {
		return err
	}
	if d.AgentKey != "" && d.AgentKey != e.PublicKey {
		return Errorf(Forbidden, "cannot enrol another agent for %s: the token of deployment %s has been used, and another key came with it this time "+
			"(if the machine's disk was wiped since, release it and deploy it again)", m.Hostname, d.ID)
	}
	return nil
}

// confirmMachine fails unless e comes from m: by the provider's own id, which cloud-init has told the machine, and by its hardware.
func confirmMachine(m Provided, e order.Enrolment) error {
	if e.Identity.SystemID != m.ID {
		told := e.Identity.SystemID
		if told == "" {
			told = "none"
		}
		return Errorf(Forbidden, "cannot enrol an agent for %s: the machine that asks has the system_id %s, the one that was deployed has %s", m.Hostname, told, m.ID)
	}
	if u := e.Identity.ProductUUID; u != "" && strings.EqualFold(u, m.ProductUUID) {
		return nil
	}
	known := knownMACs(m)
	for _, mac := range e.MACs {
		if slices.Contains(known, plainMAC(mac)) {
			return nil
		}
	}
	return Errorf(Forbidden, "cannot enrol an agent for %s: neither its product UUID nor any of its MAC addresses is one that its provider knows "+
		"(was its mainboard or network card replaced? Commission it again)", m.Hostname)
}

func knownMACs(m Provided) []string {
	var known []string
	for _, mac := range m.MACs {
		known = append(known, plainMAC(mac))
	}
	for _, nic := range m.NICs {
		known = append(known, plainMAC(nic.MAC))
	}
	return slices.DeleteFunc(known, func(mac string) bool { return mac == "" })
}

// plainMAC is a MAC address in one form; empty for what is none, or is the same on many machines.
func plainMAC(text string) string {
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 && len(mac) != 8 && len(mac) != 20 {
		return ""
	}
	if !slices.ContainsFunc(mac, func(b byte) bool { return b != 0 }) || !slices.ContainsFunc(mac, func(b byte) bool { return b != 0xff }) {
		return ""
	}
	return mac.String()
}

// checkEnrolmentForm fails as Rejected if e cannot be an agent's.
func checkEnrolmentForm(e order.Enrolment) error {
	if !ValidID(DeploymentID, e.Deployment) {
		return Errorf(Rejected, "cannot enrol an agent: %q is no deployment", clipText(e.Deployment))
	}
	if len(e.PublicKey) > maxEnrolKey || !validAgentKey(e.PublicKey) {
		return Errorf(Rejected, "cannot enrol an agent: its public_key is no key of an agent")
	}
	if len(e.MACs) > maxEnrolMACs {
		return Errorf(Rejected, "cannot enrol an agent: it names %d MAC addresses, at most %d are read", len(e.MACs), maxEnrolMACs)
	}
	if e.BootID == "" {
		return Errorf(Rejected, "cannot enrol an agent: it does not say its boot_id")
	}
	i := e.Identity
	for _, text := range append([]string{e.BootID, i.Hostname, i.Architecture, i.SystemID, i.ProductUUID, i.Base, i.Kernel, i.Unit, i.ModelUUID}, e.MACs...) {
		if len(text) > maxEnrolText || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			return Errorf(Rejected, "cannot enrol an agent: %q is no name", clipText(text))
		}
	}
	return nil
}

func clipText(text string) string {
	if len(text) > 100 {
		text = text[:100] + "…"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// validAgentKey reports whether text is a public key as agents have them: order.AgentPublic.
func validAgentKey(text string) bool {
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return false
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return false
	}
	_, ok := key.(*ecdsa.PublicKey)
	return ok
}
