package maas

import (
	"errors"
	"net/http"
	"strings"
)

// errKey does not show the key.
var errKey = errors.New("MAAS's key is not of the form consumer:token:secret (copy it whole, as MAAS shows it under the user's API keys)")

// checkKey checks a key's form, so that gomaasapi does not: its error shows the key.
func checkKey(key string) error {
	parts := strings.Split(key, ":")
	if key == "" {
		return errors.New("there is no key for MAAS (give one: juju trust, or the secret maas-credentials)")
	}
	if len(parts) != 3 {
		return errKey
	}
	for _, part := range parts {
		if part == "" || strings.ContainsAny(part, " \t\r\n\"") {
			return errKey
		}
	}
	return nil
}

// hidden returns text without the key's parts, should MAAS or something before it have repeated them.
func (p *Provider) hidden(text string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, part := range strings.Split(p.key, ":") {
		if len(part) >= 8 {
			text = strings.ReplaceAll(text, part, "…")
		}
	}
	return text
}

func httpClient(x *exchange) *http.Client { return &http.Client{Transport: x} }
