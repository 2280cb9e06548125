package review

import (
	"slices"
	"strings"

	"certlab/internal/cert"
	"certlab/internal/judge"
	"certlab/internal/sqlite"
)

// weighty are the kinds of events that change what a decision rests on.
var weighty = []string{"compared", "approved", "rejected", "waived", "reopened", "waiver-ended", "linked", "verdict", "superseded", "cancelled", "missing", "blocked", "retried", "attached"}

const maxEvents = 10_000

// unchanged refuses a decision that was made upon an older version of the campaign, if what has happened since matters to it: to one of its machines
// or to the machine of one of its findings, or to any if it is about the campaign as a whole.
func unchanged(tx *sqlite.CampaignTx, facts *judge.Facts, d cert.NewDecision, machines, findings []string) error {
	c := &facts.Campaign
	if d.Version == 0 || d.Version == c.Version {
		return nil
	}
	if d.Version > c.Version {
		return cert.Errorf(cert.Conflict, "cannot %s: campaign %s is at version %d, not %d (it was restored from a backup; look at it again)", d.Action, c.Name, c.Version, d.Version)
	}
	about := make(map[string]bool) // targets
	whole := len(machines) == 0 && len(findings) == 0
	chosen := make(map[string]bool, len(findings))
	for _, id := range findings {
		chosen[id] = true
	}
	for n := range facts.Findings {
		if chosen[facts.Findings[n].ID] {
			about[facts.Findings[n].Target] = true
		}
	}
	for n := range facts.Targets {
		if slices.Contains(machines, facts.Targets[n].Machine) {
			about[facts.Targets[n].ID] = true
		}
	}
	events, err := tx.EventsSince(c.ID, d.Version, maxEvents)
	if err != nil {
		return err
	}
	var said []string
	more := 0
	for _, e := range events {
		if !slices.Contains(weighty, e.Kind) || !whole && e.Target != "" && !about[e.Target] {
			continue
		}
		if len(said) == 3 {
			more++
			continue
		}
		said = append(said, e.Text)
	}
	if len(said) == 0 {
		return nil
	}
	text := strings.Join(said, "; ")
	if more > 0 {
		text += "; and more"
	}
	return cert.Errorf(cert.Conflict, "cannot %s: %s has changed since you looked at it (version %d, now %d): %s (look again, and decide then)", d.Action, c.Name, d.Version, c.Version, text)
}
