package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"certlab/internal/hooks"
	"certlab/internal/order"
	"certlab/internal/workload"
)

// An outfit is what the service works with besides its options: secrets, the site's programs, what is brought to machines that it deploys.
// outfitFile remembers, in the unit's directory, what is wrong with it, since not every hook looks at all of it. It may be lost without harm.
const outfitFile = "outfit.json"

type outfit struct {
	MAAS     problem `json:"maas"`
	Webhook  problem `json:"webhook"`
	Site     problem `json:"site"`
	Resource string  `json:"resource"` // where Juju has put site-programs
	Missed   bool    `json:"missed"`   // Juju did not answer when it was asked for that

	Asked time.Time `json:"asked"` // when Juju was asked for the model's credential last; zero: it is to be, soon
}

// askAgain is after what time an update-status, which comes every few minutes, asks for the model's credential again. Of one that was changed Juju does
// not tell; of trust, options and secrets it does.
const askAgain = time.Hour

// asksCloud says whether an event's hook asks for the model's credential where there is no secret.
func (o outfit) asksCloud(kind hooks.Kind, now time.Time) bool {
	age := now.Sub(o.Asked)
	return kind != hooks.UpdateStatus || o.MAAS != "" && o.note() == "" || age < 0 || age >= askAgain
}

// problem is what makes the unit blocked, and note what it says while it is active.
func (o outfit) problem() string {
	if o.note() != "" {
		o.MAAS = ""
	}
	return string(cmp.Or(o.MAAS, o.Webhook, o.Site))
}

func (o outfit) note() string {
	if strings.HasPrefix(string(o.MAAS), noMAAS) {
		return string(o.MAAS)
	}
	return ""
}

// shelves are where trees of files are kept that the service uses.
func (s service) providers() workload.Shelf { return s.Shelf("providers") }
func (s service) site() workload.Shelf      { return s.Shelf("site") }

// equip adds to what the options say of the fleet. What cannot be had is told, and the one that was good goes on. Secrets and credentials are
// asked for in the hooks that may bring another one; a relation's, of which there may be one per machine, and what the service itself asks for
// take what is there; so does an update-status for the model's credential, but once an hour and while something is wrong.
func (s service) equip(ctx context.Context, u *hooks.Unit, opts options, f *order.Fleet, old order.Fleet, charmDir string) (outfit, error) {
	var o outfit
	path := filepath.Join(s.Base(), outfitFile)
	data, err := os.ReadFile(path)
	known := err == nil && json.Unmarshal(data, &o) == nil
	if !known {
		o = outfit{}
	}
	proxy := u.Env.Proxy
	f.Proxy = order.Proxy{HTTP: proxy.HTTP, HTTPS: proxy.HTTPS, FTP: proxy.FTP, No: proxy.No}
	f.Agents = s.Current("agents")
	if f.Providers, err = s.shipped(ctx, charmDir); err != nil {
		return o, err
	}
	keepSecrets(f, old)
	anew := !known || old.Agents == "" || f.MAAS.KeyFile != old.MAAS.KeyFile || f.Webhook.SecretFile != old.Webhook.SecretFile // something of it was lost
	if anew || !u.Event.IsRelation() && u.Event.Kind != hooks.Exec {
		now := time.Now()
		if anew || opts.MAASCredentials != "" || f.MAAS.Source == bySecret || o.asksCloud(u.Event.Kind, now) {
			if o.MAAS, err = s.equipMAAS(ctx, u, opts.MAASCredentials, f); err != nil {
				return o, err
			}
			o.Asked = now.UTC()
		}
		if o.Webhook, err = s.equipWebhook(ctx, u, opts.WebhookSecret, f); err != nil {
			return o, err
		}
	}
	if f.Webhook.URL == "" || f.Webhook.SecretFile == "" {
		f.Webhook = order.Webhook{} // nothing is sent unsigned
	}
	f.Problem = string(o.MAAS)
	if !known || o.Missed || u.Event.Kind == hooks.Install || u.Event.Kind == hooks.UpgradeCharm { // which attaching one leads to
		if err := o.askResource(ctx, u); err != nil {
			return o, err
		}
	}
	if f.Site, o.Site, err = s.sitePrograms(ctx, o.Resource, old.Site); err != nil {
		return o, err
	}
	return o, s.remember(o)
}

func (s service) remember(o outfit) error {
	data, err := json.Marshal(o)
	if err != nil {
		return err
	}
	_, err = s.WriteFile(filepath.Join(s.Base(), outfitFile), data, 0o600)
	return err
}

// suspect has the next update-status ask for the model's credential: the service is in trouble, and a key that the region refuses may be the reason.
func (s service) suspect(o outfit) error {
	if o.Asked.IsZero() {
		return nil
	}
	o.Asked = time.Time{}
	return s.remember(o)
}

// keepSecrets takes over what the service has, as far as it is there.
func keepSecrets(f *order.Fleet, old order.Fleet) {
	there := func(path string) string {
		if _, err := os.Stat(path); path == "" || err != nil {
			return ""
		}
		return path
	}
	if key := there(old.MAAS.KeyFile); key != "" && there(old.MAAS.CAFile) == old.MAAS.CAFile {
		f.MAAS.URL, f.MAAS.KeyFile, f.MAAS.CAFile, f.MAAS.Source = old.MAAS.URL, key, old.MAAS.CAFile, old.MAAS.Source
	}
	f.Webhook.SecretFile = there(old.Webhook.SecretFile)
}

// equipMAAS finds the region. Where that fails, what f has stays.
func (s service) equipMAAS(ctx context.Context, u *hooks.Unit, id hooks.SecretID, f *order.Fleet) (problem, error) {
	c, p, err := maasCredentials(ctx, u, id)
	unwanted := strings.HasPrefix(string(p), noMAAS) && f.MAAS.Source == bySecret // the secret was taken away
	if err != nil || p != "" && !unwanted {
		return p, err
	}
	f.MAAS.URL, f.MAAS.Source, f.MAAS.KeyFile, f.MAAS.CAFile = c.url, c.source, "", ""
	if c.url == "" {
		return p, nil
	}
	if c.ca != "" {
		if f.MAAS.CAFile, err = s.writeSecret("maas-ca", c.ca); err != nil {
			return "", err
		}
	}
	f.MAAS.KeyFile, err = s.writeSecret("maas-key", c.key)
	return "", err
}

func (s service) equipWebhook(ctx context.Context, u *hooks.Unit, id hooks.SecretID, f *order.Fleet) (problem, error) {
	switch {
	case f.Webhook.URL == "":
		f.Webhook = order.Webhook{}
		return "", nil
	case id == "":
		f.Webhook = order.Webhook{}
		return "set webhook-secret too, or reset webhook-url: nothing is sent unsigned", nil
	}
	content, p, err := readSecret(ctx, u, "webhook-secret", id, []string{webhookKey})
	if err != nil || p != "" {
		return p, err
	}
	key := strings.TrimSpace(content[webhookKey])
	if len(key) < minWebhookKey || len(key) > maxSecretText {
		return problem(fmt.Sprintf("change the secret of webhook-secret: want a %s of %d to %d bytes", webhookKey, minWebhookKey, maxSecretText)), nil
	}
	f.Webhook.SecretFile, err = s.writeSecret("webhook-key", key)
	return "", err
}

// shipped puts the Checkbox providers that the charm brings in place: a directory with one directory for each.
func (s service) shipped(ctx context.Context, charmDir string) (string, error) {
	from := filepath.Join(charmDir, "providers")
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	dir, err := s.providers().Tree(ctx, "shipped", from)
	if err != nil {
		return "", fmt.Errorf("cannot put the charm's Checkbox providers in place: %w", err)
	}
	return dir, nil
}

// askResource asks Juju for the site's programs. The controller's store may be down for a moment: what is there goes on.
func (o *outfit) askResource(ctx context.Context, u *hooks.Unit) error {
	path, err := u.ResourceGet(ctx, "site-programs")
	var refused *hooks.ToolError
	switch {
	case errors.Is(err, hooks.ErrNotFound):
		path = ""
	case errors.As(err, &refused):
		u.Log.Warn("cannot get the resource site-programs", "error", err)
		o.Missed = true
		return nil
	case err != nil:
		return err
	}
	o.Resource, o.Missed = path, false
	return nil
}

// sitePrograms unpacks the resource, and returns the directory. A bad archive leaves the old one.
func (s service) sitePrograms(ctx context.Context, resource, old string) (string, problem, error) {
	if info, err := os.Stat(resource); resource == "" || err != nil || info.Size() == 0 {
		return "", "", nil
	}
	dir, err := s.site().Archive(ctx, "programs", resource)
	var bad workload.BadArchive
	switch {
	case errors.As(err, &bad):
		return old, problem("attach a proper archive as resource site-programs, or an empty file: " + bad.Error()), nil
	case err != nil:
		return old, "", fmt.Errorf("cannot put the site's programs in place: %w", err)
	}
	return dir, "", nil
}

// removeOld deletes what the service, which has applied the desired state, has no use for any more.
func (s service) removeOld(f order.Fleet) error {
	if err := s.removeOldSecrets(f); err != nil {
		return err
	}
	if err := errors.Join(s.providers().Keep(f.Providers), s.site().Keep(f.Site)); err != nil {
		return fmt.Errorf("cannot remove old files: %w", err)
	}
	return nil
}
