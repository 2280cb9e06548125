package campaign

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// requestHash tells requests apart.
func requestHash(want cert.NewCampaign, by string) string {
	want.ID = ""
	text, err := json.Marshal([]any{want, by})
	if err != nil {
		return "" // it is made of texts, numbers and times
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// StartCampaign stores a campaign and its targets; the loop does the rest. One of the same id that was asked for in the same way is answered again, and
// false. A newer version or spin supersedes the open campaigns of the same kind whose subject it is a version of: what of them has not begun is
// cancelled, what runs goes on to its end and stays theirs.
func (e *Engine) StartCampaign(ctx context.Context, want cert.NewCampaign, by string, role cert.Role) (cert.Campaign, bool, error) {
	if !role.May(cert.Engineer) {
		return cert.Campaign{}, false, cert.Errorf(cert.Forbidden, "cannot start a campaign: that needs the role engineer")
	}
	if want.Priority > 0 && !role.May(cert.Admin) {
		return cert.Campaign{}, false, cert.Errorf(cert.Forbidden, "cannot start a campaign with priority %d: only an admin may go before others", want.Priority)
	}
	if want.ID != "" {
		have, err := e.DB.Campaign(ctx, want.ID)
		if err == nil {
			c, err := again(have, want, by)
			return c, false, err
		}
		if cert.CodeOf(err) != cert.NotFound {
			return cert.Campaign{}, false, err
		}
	}
	p, err := e.plan(ctx, want, by)
	if err != nil {
		return cert.Campaign{}, false, err
	}
	var repeated *cert.Campaign
	err = e.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error {
		repeated = nil
		if have, err := tx.Campaign(p.c.ID); err == nil {
			repeated = &have
			return nil
		} else if cert.CodeOf(err) != cert.NotFound {
			return err
		}
		if err := supersede(tx, &p.c); err != nil {
			return err
		}
		if err := freeName(tx, &p.c, want.Name != ""); err != nil {
			return err
		}
		if err := tx.AddCampaign(p.c, p.c.Subject.Key()); err != nil {
			return err
		}
		included, excluded := 0, 0
		for _, t := range p.targets {
			if t.State == cert.TargetExcluded {
				excluded++
			} else {
				included++
			}
			if err := tx.PutTarget(t); err != nil {
				return err
			}
		}
		return tx.Note(cert.CampaignEvent{Campaign: p.c.ID, At: p.c.Created, Kind: "created", Who: by,
			Text: fmt.Sprintf("%s: %s to be tested, %d excluded; policy %s, baseline %s", p.c.Subject.Title(), plural(included, "machine"), excluded, refText(p.c.Policy), baselineText(p.c.Baseline))})
	})
	if err != nil {
		return cert.Campaign{}, false, err
	}
	if repeated != nil {
		c, err := again(*repeated, want, by)
		return c, false, err
	}
	e.Wake()
	c, err := e.DB.Campaign(ctx, p.c.ID)
	return c, true, err
}

func refText(r cert.PolicyRef) string {
	if r.Version == 0 {
		return r.Name + " (Certlab's own)"
	}
	return fmt.Sprintf("%s@%d", r.Name, r.Version)
}

func baselineText(b cert.Baseline) string {
	if b.Version == "" {
		return "none"
	}
	return b.Version
}

// again answers a request whose id is known.
func again(have cert.Campaign, want cert.NewCampaign, by string) (cert.Campaign, error) {
	if have.Request != requestHash(want, by) {
		return cert.Campaign{}, cert.Errorf(cert.Conflict, "cannot start the campaign: %s is there already, and was asked for in another way", have.ID)
	}
	return have, nil
}

// supersede ends the open campaigns that a new one takes the place of. It fails if one of them is of a newer version or spin.
func supersede(tx *sqlite.CampaignTx, c *cert.Campaign) error {
	if c.Subject.Kind == cert.SubjectMachine {
		return nil
	}
	open, err := tx.OpenCampaignsOf(c.Kind, c.Subject.Key())
	if err != nil {
		return err
	}
	for _, old := range open {
		switch {
		case old.Subject.Newer(c.Subject):
			return cert.Errorf(cert.Conflict, "cannot start a campaign of %s: campaign %s is of a newer one (%s)", c.Subject.Title(), old.Name, old.Subject.Title())
		case !c.Subject.Newer(old.Subject):
			continue // the same once more: other machines, say
		}
		old.State, old.Finished, old.SupersededBy = cert.CampaignSuperseded, &c.Created, c.ID
		old.Ending = fmt.Sprintf("superseded by %s (%s), which %s started", c.Name, c.Subject.Title(), c.By)
		if err := tx.PutCampaign(old); err != nil {
			return err
		}
		if err := tx.Note(cert.CampaignEvent{Campaign: old.ID, At: c.Created, Kind: "superseded", Who: c.By, Text: old.Ending}); err != nil {
			return err
		}
		c.Supersedes = old.ID
	}
	return nil
}

// maxNamesakes bounds how many open campaigns have names that differ in their number only.
const maxNamesakes = 100

// freeName sees to it that no open campaign has the name. One that a person chose is not changed.
func freeName(tx *sqlite.CampaignTx, c *cert.Campaign, chosen bool) error {
	base := c.Name
	for n := 2; ; n++ {
		other, err := tx.Campaign(c.Name)
		if cert.CodeOf(err) == cert.NotFound || err == nil && other.State.Final() {
			return nil
		}
		if err != nil {
			return err
		}
		if chosen || n > maxNamesakes {
			return cert.Errorf(cert.Conflict, "cannot name the campaign %s: an open one is called that (choose another name, or cancel that one)", c.Name)
		}
		c.Name = fmt.Sprintf("%s-%d", base, n)
	}
}
