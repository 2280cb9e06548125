// Package certagents is the relation interface cert_agents between a cert-controller application and the machines under test.
//
// It carries trust and discovery only; work and results go over HTTPS. Each value is JSON. The controller's leader writes its
// application databag:
//
//	urls  ["https://10.0.0.11:8443"]       where the API is, best first
//	cas   ["-----BEGIN CERTIFICATE-----…"] certificates to trust for it, newest first
//
// and each checkbox unit writes its own unit databag, which Juju lets nobody else write:
//
//	public-key  "MFkwEwYHKoZIzj0CAQ…"      base64 of the agent's SubjectPublicKeyInfo
//	identity    {"hostname": …}             order.Identity
package certagents

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"reflect"
	"strings"
	"unicode"

	"certlab/internal/order"
)

// Interface and Endpoint are the relation's names in both charms' metadata.
const (
	Interface = "cert_agents"
	Endpoint  = "cert-agents"
)

// maxValue bounds one databag value, in bytes.
const maxValue = 64 << 10

// maxText bounds a text in a value, in bytes; maxEntries a list.
const (
	maxText    = 255
	maxEntries = 50
)

// ErrNotReady means that the other side has not written its part yet.
var ErrNotReady = errors.New("the other side of the relation has written nothing yet")

// Controller is the controller's application databag.
type Controller struct {
	URLs []string
	CAs  []string
}

// Encode returns the databag's settings.
func (c Controller) Encode() map[string]string {
	return map[string]string{"urls": mustJSON(c.URLs), "cas": mustJSON(c.CAs)}
}

// DecodeController reads the controller's application databag. It returns ErrNotReady if it is empty.
func DecodeController(bag map[string]string) (Controller, error) {
	var c Controller
	if bag["urls"] == "" || bag["cas"] == "" {
		return c, ErrNotReady
	}
	if err := decode(bag, "urls", &c.URLs); err != nil {
		return Controller{}, err
	}
	if err := decode(bag, "cas", &c.CAs); err != nil {
		return Controller{}, err
	}
	if len(c.URLs) == 0 || len(c.CAs) == 0 {
		return Controller{}, ErrNotReady
	}
	if len(c.URLs) > maxEntries || len(c.CAs) > maxEntries {
		return Controller{}, fmt.Errorf("cannot use databag: %d urls and %d cas, at most %d of each are allowed", len(c.URLs), len(c.CAs), maxEntries)
	}
	for _, u := range c.URLs {
		parsed, err := url.Parse(u)
		if err != nil || parsed.Scheme != "https" || parsed.Hostname() == "" || parsed.User != nil || len(u) > maxText {
			return Controller{}, fmt.Errorf("cannot use databag key %q: %.60q is not an https URL", "urls", u)
		}
	}
	for i, ca := range c.CAs {
		block, rest := pem.Decode([]byte(ca))
		if block == nil || block.Type != "CERTIFICATE" || len(rest) > 1 {
			return Controller{}, fmt.Errorf("cannot use databag key %q: entry %d is not one PEM certificate", "cas", i)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return Controller{}, fmt.Errorf("cannot use databag key %q: entry %d: %w", "cas", i, err)
		}
	}
	return c, nil
}

// Agent is a checkbox unit's databag.
type Agent order.AgentPublic

// Encode returns the databag's settings.
func (a Agent) Encode() map[string]string {
	return map[string]string{"public-key": mustJSON(a.PublicKey), "identity": mustJSON(a.Identity)}
}

// DecodeAgent reads a checkbox unit's databag. It returns ErrNotReady if the unit has not written its key yet.
func DecodeAgent(bag map[string]string) (Agent, error) {
	var a Agent
	if bag["public-key"] == "" || bag["identity"] == "" {
		return a, ErrNotReady
	}
	if err := decode(bag, "public-key", &a.PublicKey); err != nil {
		return Agent{}, err
	}
	if err := decode(bag, "identity", &a.Identity); err != nil {
		return Agent{}, err
	}
	der, err := base64.StdEncoding.DecodeString(a.PublicKey)
	if err != nil {
		return Agent{}, fmt.Errorf("cannot use databag key %q: not base64", "public-key")
	}
	if _, err := x509.ParsePKIXPublicKey(der); err != nil {
		return Agent{}, fmt.Errorf("cannot use databag key %q: not a public key: %w", "public-key", err)
	}
	if a.Identity.Hostname == "" {
		return Agent{}, fmt.Errorf("cannot use databag key %q: no hostname", "identity")
	}
	if err := plain(reflect.ValueOf(a.Identity), "identity"); err != nil {
		return Agent{}, err
	}
	if len(a.Identity.MACs) > maxEntries {
		return Agent{}, fmt.Errorf("cannot use databag key %q: %d MACs, at most %d are allowed", "identity", len(a.Identity.MACs), maxEntries)
	}
	for _, mac := range a.Identity.MACs {
		if _, err := net.ParseMAC(mac); err != nil || len(mac) > maxText {
			return Agent{}, fmt.Errorf("cannot use databag key %q: %.60q is not a MAC address", "identity", mac)
		}
	}
	return a, nil
}

// plain requires that each text is one line of a sensible length: what a machine says of itself is shown to people and becomes file names.
func plain(v reflect.Value, key string) error {
	for i := range v.NumField() {
		if v.Field(i).Kind() != reflect.String {
			continue
		}
		text := v.Field(i).String()
		if len(text) > maxText || strings.ContainsFunc(text, unicode.IsControl) {
			return fmt.Errorf("cannot use databag key %q: %s is not one line of at most %d bytes", key, v.Type().Field(i).Name, maxText)
		}
	}
	return nil
}

func decode(bag map[string]string, key string, into any) error {
	value := bag[key]
	if len(value) > maxValue {
		return fmt.Errorf("cannot use databag key %q: %d bytes, at most %d are allowed", key, len(value), maxValue)
	}
	if err := json.Unmarshal([]byte(value), into); err != nil {
		return fmt.Errorf("cannot use databag key %q: %w", key, err)
	}
	return nil
}

// mustJSON encodes strings, slices and structs of strings, which cannot fail.
func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}
