package client

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"certlab/internal/cert"
)

// Dossier returns a machine's dossier.
func (c *Client) Dossier(ctx context.Context, machine string) (out cert.Dossier, err error) {
	return out, c.get(ctx, machinePath(machine, "dossier"), nil, &out)
}

// PutDossier replaces a machine's dossier, with the version that the change began with.
func (c *Client) PutDossier(ctx context.Context, machine string, d cert.Dossier) (out cert.Dossier, err error) {
	return out, c.call(ctx, http.MethodPut, machinePath(machine, "dossier"), nil, d, &out)
}

// PutSecureID sets a machine's secure id, or removes it if it is empty.
func (c *Client) PutSecureID(ctx context.Context, machine, secret string) (out cert.Dossier, err error) {
	return out, c.call(ctx, http.MethodPut, machinePath(machine, "dossier", "secure-id"), nil, cert.NewSecureID{SecureID: secret}, &out)
}

// DossierHistory lists up to limit changes (0: all) of a machine's dossier, the newest first.
func (c *Client) DossierHistory(ctx context.Context, machine string, limit int) (out []cert.LoggedChange, err error) {
	err = pages(nil, limit, func(q url.Values) (string, int, error) {
		var page cert.DossierHistory
		err := c.get(ctx, machinePath(machine, "dossier", "history"), q, &page)
		out = append(out, page.Changes...)
		return page.Next, len(out), err
	})
	return out, err
}

func zonePath(zone string) string { return "/api/v1/zones/" + url.PathEscape(zone) + "/dossier" }

// ZoneDossier returns what holds for all machines of a zone.
func (c *Client) ZoneDossier(ctx context.Context, zone string) (out cert.ZoneDossier, err error) {
	return out, c.get(ctx, zonePath(zone), nil, &out)
}

// PutZoneDossier replaces a zone's dossier.
func (c *Client) PutZoneDossier(ctx context.Context, zone string, z cert.ZoneDossier) (out cert.ZoneDossier, err error) {
	return out, c.call(ctx, http.MethodPut, zonePath(zone), nil, z, &out)
}

// ExportDossiers writes all dossiers as CSV.
func (c *Client) ExportDossiers(ctx context.Context, w io.Writer) error {
	return c.copy(ctx, "/api/v1/dossiers.csv", nil, w)
}

// ImportDossiers changes dossiers by a CSV, or with dry only says what it would change.
func (c *Client) ImportDossiers(ctx context.Context, csv io.Reader, dry bool) (out cert.DossierImport, err error) {
	q := url.Values{}
	if dry {
		q.Set("dry_run", "true")
	}
	resp, err := c.request(ctx, http.MethodPost, "/api/v1/dossiers", q, http.Header{"Content-Type": {"text/csv"}}, csv, -1)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	return out, decode(&stalling{resp.Body, c.stall}, &out)
}
