package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"certlab/internal/hooks"
	"certlab/internal/order"
)

// secretsDir holds, in the service's directory, what comes from secrets, mode 0600. A file is named by what is in it: another key is
// another path, by which the service sees that there is one, and until it has applied that, the old path has the old key.
const secretsDir = "secrets"

// Keys of the secrets, and sources of a region's key as order.MAAS has them.
const (
	urlKey, keyKey, caKey = "maas-url", "maas-key", "maas-ca"
	webhookKey            = "webhook-key"
	bySecret, byTrust     = "secret", "trust"
	exampleURL            = "http://10.0.0.2:5240/MAAS"
	minWebhookKey         = 16 // bytes
	maxSecretText         = 4096
	maxCA                 = 256 << 10
)

// apiKey is consumer:token:secret.
var apiKey = regexp.MustCompile(`^[!-9;-~]{1,200}:[!-9;-~]{1,200}:[!-9;-~]{1,200}$`)

// credentials are what it takes to use a region. The zero value is none.
type credentials struct{ url, key, ca, source string }

// A problem is what an operator has to mend for what is wanted to work, without a secret's value; the rest works on. Empty: none.
type problem string

// withoutMAAS is the problem of a charm that is trusted where there is no MAAS to be had by that. It may be meant so: a bundle says trust
// once, for all clouds. So the unit works on, and says it.
func withoutMAAS(text string) problem { return noMAAS + problem(text) }

const noMAAS = "no MAAS: "

// maasCredentials finds the region and the key to it: in the secret, if there is one, or where Juju trusts the charm with the cloud's own.
func maasCredentials(ctx context.Context, u *hooks.Unit, id hooks.SecretID) (credentials, problem, error) {
	if id != "" {
		content, p, err := readSecret(ctx, u, "maas-credentials", id, []string{urlKey, keyKey}, caKey)
		if err != nil || p != "" {
			return credentials{}, p, err
		}
		c, p := checkCredentials(content[urlKey], content[keyKey], content[caKey])
		if p != "" {
			return credentials{}, "change the secret of maas-credentials: " + p, nil
		}
		c.source = bySecret
		return c, "", nil
	}
	cloud, err := u.CredentialGet(ctx)
	var refused *hooks.ToolError
	switch {
	case errors.Is(err, hooks.ErrNotAllowed):
		return credentials{}, "", nil
	case errors.As(err, &refused):
		return credentials{}, withoutMAAS(fmt.Sprintf("set maas-credentials (Juju hands over no credential: %s)", strings.TrimPrefix(refused.Stderr, "ERROR "))), nil
	case err != nil:
		return credentials{}, "", err
	}
	if cloud.Type != "maas" {
		return credentials{}, withoutMAAS(fmt.Sprintf("set maas-credentials (this model's cloud is of type %s)", hooks.Shown(cloud.Type))), nil
	}
	if cloud.Credential.AuthType != "oauth1" || cloud.Credential.Attributes["maas-oauth"] == "" {
		return credentials{}, problem(fmt.Sprintf("set maas-credentials, or mend the model's credential (juju update-credential): it is %s and not oauth1 with maas-oauth", hooks.Shown(cloud.Credential.AuthType))), nil
	}
	c, p := checkCredentials(cloud.Endpoint, cloud.Credential.Attributes["maas-oauth"], strings.Join(cloud.CAs, "\n"))
	if p != "" {
		names := strings.NewReplacer(urlKey, "its endpoint", keyKey, "its maas-oauth", caKey, "its CA certificate")
		return credentials{}, problem("set maas-credentials, or mend the cloud that Juju hands over: " + names.Replace(string(p))), nil
	}
	c.source = byTrust
	return c, "", nil
}

// readSecret reads the secret of an option. It has all of the keys in needed, and besides them nothing but those in more.
func readSecret(ctx context.Context, u *hooks.Unit, option string, id hooks.SecretID, needed []string, more ...string) (map[string]string, problem, error) {
	content, err := u.SecretGet(ctx, hooks.SecretRead{ID: id, Refresh: true})
	switch {
	case errors.Is(err, hooks.ErrNotAllowed):
		return nil, problem(fmt.Sprintf("type: juju grant-secret %s %s (%s cannot be read)", id.Bare(), u.App, option)), nil
	case errors.Is(err, hooks.ErrNotFound):
		return nil, problem(fmt.Sprintf("set %s to a secret that exists, or reset it (there is no secret %s)", option, id.Bare())), nil
	case err != nil:
		return nil, "", err
	}
	for _, key := range needed {
		if strings.TrimSpace(content[key]) == "" {
			return nil, problem(fmt.Sprintf("change the secret of %s: %s is missing (juju update-secret %s %s=…)", option, key, id.Bare(), strings.Join(needed, "=… "))), nil
		}
	}
	known := append(slices.Clone(needed), more...)
	for _, key := range sortedKeys(content) {
		if !slices.Contains(known, key) {
			return nil, problem(fmt.Sprintf("change the secret of %s: key %s is not known (it has %s)", option, hooks.Shown(key), strings.Join(known, ", "))), nil
		}
	}
	return content, "", nil
}

// checkCredentials says what is wrong with them, if anything is, without showing them.
func checkCredentials(region, key, ca string) (credentials, problem) {
	c := credentials{key: strings.TrimSpace(key), ca: strings.TrimSpace(ca)}
	var p problem
	if c.url, p = regionURL(region); p != "" {
		return credentials{}, p
	}
	if !apiKey.MatchString(c.key) {
		return credentials{}, keyKey + " is not a MAAS API key: want three parts with colons between them, as MAAS shows it below a user's preferences"
	}
	if c.ca == "" {
		return c, ""
	}
	if !strings.HasPrefix(c.url, "https:") {
		return credentials{}, caKey + " is given, but " + urlKey + " begins with http: want https, or no " + caKey
	}
	if len(c.ca) > maxCA || !pemCertificates(c.ca) {
		return credentials{}, caKey + " is not one or more PEM certificates (-----BEGIN CERTIFICATE-----)"
	}
	c.ca += "\n"
	return c, ""
}

// regionURL returns a region's URL without a slash at its end. People copy the API's own URL, which has more.
func regionURL(text string) (string, problem) {
	text = strings.TrimSuffix(strings.TrimRight(strings.TrimSpace(text), "/"), "/api/2.0")
	parsed, err := url.Parse(text)
	wrong := ""
	switch {
	case err != nil || len(text) > maxURL || !printable(text):
		wrong = "it is no URL"
	case parsed.Scheme != "http" && parsed.Scheme != "https":
		wrong = "it does not begin with http:// or https://"
	case !hostName.MatchString(parsed.Host) || parsed.Hostname() == "":
		wrong = "it names no host"
	case parsed.User != nil || parsed.RawQuery != "" || parsed.Fragment != "":
		wrong = "it has a user, a query or a fragment"
	case !strings.HasSuffix(parsed.Path, "/MAAS"):
		wrong = "it does not end in /MAAS"
	default:
		return parsed.String(), ""
	}
	return "", problem(fmt.Sprintf("%s is not a region's: want http(s)://HOST:5240/MAAS, such as %s (%s)", urlKey, exampleURL, wrong))
}

func pemCertificates(text string) bool {
	rest, found := []byte(text), false
	for len(strings.TrimSpace(string(rest))) > 0 {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return false
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return false
		}
		found = true
	}
	return found
}

// writeSecret puts a secret's text into a file of its own, and returns the file's path.
func (s service) writeSecret(name, text string) (string, error) {
	dir := filepath.Join(s.Dir(), secretsDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("cannot keep a secret: %w", err)
	}
	sum := sha256.Sum256([]byte(name + "\n" + text))
	path := filepath.Join(dir, name+"-"+hex.EncodeToString(sum[:8]))
	_, err := s.WriteFile(path, []byte(text), 0o600)
	return path, err
}

// removeOldSecrets deletes what the service has no use for any more.
func (s service) removeOldSecrets(f order.Fleet) error {
	dir := filepath.Join(s.Dir(), secretsDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot remove old secrets: %w", err)
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if slices.Contains([]string{f.MAAS.KeyFile, f.MAAS.CAFile, f.Webhook.SecretFile}, path) {
			continue
		}
		s.Step("remove old secret")
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove old secrets: %w", err)
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
