package sqlite

import (
	"context"
	"slices"
	"sync"

	"certlab/internal/cert"
)

// moves are the targets of campaigns that have changed, or of which a finding has, since the database was opened: who has read them all before need
// not read all of them again. They are noted before the transaction that changes them is durable, so whoever reads a campaign's version finds all that
// led to it; a target that is noted although the transaction came to nothing is only read once more.
type moves struct {
	mu   sync.Mutex
	all  map[string]map[string]int64 // campaign → target → the campaign's version with it
	from int64                       // how often they were forgotten
}

// movesKept bounds the campaigns of which they are kept.
const movesKept = 64

func (m *moves) note(campaign string, version int64, targets map[string]bool) {
	if len(targets) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.all == nil || m.all[campaign] == nil && len(m.all) >= movesKept {
		m.all = make(map[string]map[string]int64)
		m.from++
	}
	if m.all[campaign] == nil {
		m.all[campaign] = make(map[string]int64)
	}
	for id := range targets {
		m.all[campaign][id] = max(version, m.all[campaign][id])
	}
}

// A Mark is a state of a campaign's targets and findings that somebody has read.
type Mark struct {
	version, from int64
}

// MarkOf returns what is to be remembered with what is read of a campaign from now on. c was read before.
func (db *DB) MarkOf(c *cert.Campaign) Mark {
	db.moves.mu.Lock()
	defer db.moves.mu.Unlock()
	return Mark{c.Version, db.moves.from}
}

// MovedTargets returns the targets of which more is to be read since a mark was taken. It returns false if that is not known: then all of them are.
func (db *DB) MovedTargets(campaign string, since Mark) ([]string, bool) {
	db.moves.mu.Lock()
	defer db.moves.mu.Unlock()
	if since.from != db.moves.from || since == (Mark{}) {
		return nil, false
	}
	var out []string
	for id, version := range db.moves.all[campaign] {
		if version > since.version {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out, true
}

// TargetsByID returns targets by their ids, in no order.
func (db *DB) TargetsByID(ctx context.Context, ids []string) (map[string]cert.Target, error) {
	all, err := list(ctx, db.r, scanTarget, "SELECT data FROM targets WHERE id IN (SELECT value FROM json_each(?))", mustJSON(ids))
	out := make(map[string]cert.Target, len(all))
	for n := range all {
		out[all[n].ID] = all[n]
	}
	return out, err
}

// TargetFacts is FindingFacts of some targets.
func (db *DB) TargetFacts(ctx context.Context, targets []string) ([]cert.Finding, error) {
	return list(ctx, db.r, scanFact, "SELECT "+factColumns+" FROM findings INDEXED BY findings_target WHERE target IN (SELECT value FROM json_each(?)) AND attention = 1", mustJSON(targets))
}
