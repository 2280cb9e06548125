package api

import (
	"encoding/base64"
	"net/http"
)

// AgentKey returns the public key that a client has proved to hold in the TLS handshake, as order.AgentPublic has it; empty if it
// showed no certificate. Nothing else of the certificate counts: who it is comes from the relation.
func AgentKey(r *http.Request) string {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return ""
	}
	return base64.StdEncoding.EncodeToString(r.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo)
}
