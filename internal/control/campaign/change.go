package campaign

import (
	"context"
	"fmt"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// mayRun fails where a person may not have things run.
func mayRun(role cert.Role, what string) error {
	if role.May(cert.Engineer) {
		return nil
	}
	return cert.Errorf(cert.Forbidden, "cannot %s: that needs the role engineer", what)
}

// maxReason bounds what people say, in bytes.
const maxReason = 2000

func oneReason(reason, what string) error {
	if strings.TrimSpace(reason) == "" {
		return cert.Errorf(cert.Invalid, "cannot %s without a reason: say in one sentence why (it is kept with your name)", what)
	}
	if len(reason) > maxReason || strings.ContainsAny(reason, "\n\r\x00") {
		return cert.Errorf(cert.Invalid, "cannot use the reason: it must be one line of at most %d bytes", maxReason)
	}
	return nil
}

// ChangeCampaign changes a campaign that is not final.
func (e *Engine) ChangeCampaign(ctx context.Context, name string, x cert.ChangeCampaign, by string, role cert.Role) (cert.Campaign, error) {
	if err := mayRun(role, "change a campaign"); err != nil {
		return cert.Campaign{}, err
	}
	now := e.Now()
	switch {
	case x.Priority != nil && (*x.Priority > 1000 || *x.Priority < -1000):
		return cert.Campaign{}, cert.Errorf(cert.Invalid, "cannot use priority %d: it is a number from -1000 to 1000", *x.Priority)
	case x.Priority != nil && *x.Priority > 0 && !role.May(cert.Admin):
		return cert.Campaign{}, cert.Errorf(cert.Forbidden, "cannot give a campaign priority %d: only an admin may go before others", *x.Priority)
	case x.AtOnce != nil && *x.AtOnce < 0:
		return cert.Campaign{}, cert.Errorf(cert.Invalid, "cannot have %d runs at once: it is a number from 1, or 0 for no cap", *x.AtOnce)
	case x.Due != nil && !x.Due.After(now):
		return cert.Campaign{}, cert.Errorf(cert.Invalid, "cannot have a verdict by %s: that is over (give a later due date)", x.Due.UTC().Format("2006-01-02 15:04 UTC"))
	case x.Reason != "":
		if err := oneReason(x.Reason, "change a campaign"); err != nil {
			return cert.Campaign{}, err
		}
	}
	return e.changed(ctx, name, "change", func(tx *sqlite.CampaignTx, c *cert.Campaign) error {
		var said []string
		if x.Priority != nil && *x.Priority != c.Priority {
			c.Priority = *x.Priority
			said = append(said, fmt.Sprintf("priority %d", c.Priority))
			if err := reprioritise(tx, c); err != nil {
				return err
			}
		}
		if x.AtOnce != nil && *x.AtOnce != c.AtOnce {
			c.AtOnce = *x.AtOnce
			said = append(said, fmt.Sprintf("%d at once", c.AtOnce))
		}
		if x.Due != nil && (c.Due == nil || !x.Due.Equal(*c.Due)) {
			due := x.Due.UTC()
			c.Due = &due
			said = append(said, "due "+due.Format("2006-01-02 15:04 UTC"))
		}
		kind := "changed"
		switch {
		case x.Paused == nil:
		case *x.Paused && c.State != cert.CampaignPaused:
			c.State, c.Ending, kind = cert.CampaignPaused, because("paused by "+by, x.Reason), "paused"
			said = append(said, "paused")
			if err := holdQueued(tx, c, true, now); err != nil {
				return err
			}
		case !*x.Paused && c.State == cert.CampaignPaused:
			c.State, c.Ending, c.Resumed, kind = cert.CampaignActive, "", &now, "resumed"
			said = append(said, "resumed")
			if err := holdQueued(tx, c, false, now); err != nil {
				return err
			}
		}
		if len(said) == 0 {
			return nil
		}
		if err := tx.PutCampaign(*c); err != nil {
			return err
		}
		return tx.Note(cert.CampaignEvent{Campaign: c.ID, At: now, Kind: kind, Who: by, Text: because(strings.Join(said, ", "), x.Reason)})
	})
}

func because(text, reason string) string {
	if reason != "" {
		text += ": " + reason
	}
	return text
}

// changed changes a campaign that is not final.
func (e *Engine) changed(ctx context.Context, name, verb string, fn func(*sqlite.CampaignTx, *cert.Campaign) error) (cert.Campaign, error) {
	id := ""
	err := e.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error {
		c, err := tx.Campaign(name)
		if err != nil {
			return err
		}
		id = c.ID
		if c.State.Final() {
			return cert.Errorf(cert.Conflict, "cannot %s campaign %s: it is %s already", verb, c.Name, c.State)
		}
		return fn(tx, &c)
	})
	if err != nil {
		return cert.Campaign{}, err
	}
	e.Wake()
	return e.DB.Campaign(ctx, id)
}

// reprioritise gives the reservations of a campaign that wait in the queue its new priority.
func reprioritise(tx *sqlite.CampaignTx, c *cert.Campaign) error {
	open, err := tx.OpenTries(c.ID)
	if err != nil {
		return err
	}
	for _, row := range open {
		if row.Reservation == "" {
			continue
		}
		r, err := tx.Reservation(row.Reservation)
		if cert.CodeOf(err) == cert.NotFound || err == nil && r.State != cert.ReservationQueued {
			continue
		}
		if err != nil {
			return err
		}
		r.Priority = min(max(c.Priority, -mostPriority), mostPriority)
		if err := tx.PutReservation(r); err != nil {
			return err
		}
	}
	return nil
}

// heldFor is how long the queue passes over what a paused campaign waits for, if nobody resumes it: long enough that somebody does before.
const heldFor = 10 * 365 * 24 * time.Hour

// holdQueued keeps the queue from giving machines to a campaign that is paused, or lets it. The places in the queue stay.
func holdQueued(tx *sqlite.CampaignTx, c *cert.Campaign, hold bool, now time.Time) error {
	open, err := tx.OpenTries(c.ID)
	if err != nil {
		return err
	}
	for _, row := range open {
		if row.Reservation == "" {
			continue
		}
		r, err := tx.Reservation(row.Reservation)
		if cert.CodeOf(err) == cert.NotFound || err == nil && (r.State != cert.ReservationQueued || hold == (r.NotBefore != nil)) {
			continue
		}
		if err != nil {
			return err
		}
		r.NotBefore, r.Blocked = nil, ""
		if hold {
			until := now.Add(heldFor)
			r.NotBefore, r.Blocked = &until, "campaign "+c.Name+" is paused"
		}
		if err := tx.PutReservation(r); err != nil {
			return err
		}
	}
	return nil
}

// CancelCampaign ends a campaign without a verdict, with all that goes on for it. It can be repeated.
func (e *Engine) CancelCampaign(ctx context.Context, name string, x cert.EndCampaign, by string, role cert.Role) (cert.Campaign, error) {
	if err := mayRun(role, "cancel a campaign"); err != nil {
		return cert.Campaign{}, err
	}
	if err := oneReason(x.Reason, "cancel a campaign"); err != nil {
		return cert.Campaign{}, err
	}
	if c, err := e.DB.Campaign(ctx, name); err != nil || c.State == cert.CampaignCancelled {
		return c, err
	}
	return e.changed(ctx, name, "cancel", func(tx *sqlite.CampaignTx, c *cert.Campaign) error {
		now := e.Now()
		c.State, c.Finished, c.Ending = cert.CampaignCancelled, &now, because("cancelled by "+by, x.Reason)
		if err := tx.PutCampaign(*c); err != nil {
			return err
		}
		return tx.Note(cert.CampaignEvent{Campaign: c.ID, At: now, Kind: "cancelled", Who: by, Text: c.Ending})
	})
}
