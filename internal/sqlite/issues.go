package sqlite

import (
	"context"
	"fmt"
	"time"

	"certlab/internal/cert"
)

func scanIssue(s scanner) (k cert.KnownIssue, err error) { return k, s.Scan(jsonColumn{&k}) }

// AddIssue stores a version of a known issue, which is the one in force from then on. It fails as Conflict if there is that version already.
func (t *CampaignTx) AddIssue(k cert.KnownIssue, now time.Time) error {
	if _, err := t.tx.ExecContext(t.ctx, "UPDATE issues SET active = 0 WHERE id = ?", k.ID); err != nil {
		return fmt.Errorf("cannot store a known issue: %w", err)
	}
	k.Hits, k.LastHit = 0, nil // are counted
	if _, err := t.tx.ExecContext(t.ctx, "INSERT INTO issues (id, version, job, active, expires, data) VALUES (?, ?, ?, ?, ?, ?)",
		k.ID, k.Version, k.Match.Job, k.Closed == nil && (k.Expires == nil || k.Expires.After(now)), microsPtr(k.Expires), mustJSON(k)); err != nil {
		return fmt.Errorf("cannot store a known issue: %w", err)
	}
	return nil
}

// EndIssue notes that a known issue has run out: it recognises nothing any more.
func (t *CampaignTx) EndIssue(id string) error {
	if _, err := t.tx.ExecContext(t.ctx, "UPDATE issues SET active = 0 WHERE id = ?", id); err != nil {
		return fmt.Errorf("cannot store a known issue: %w", err)
	}
	return nil
}

// Issue is DB.Issue in the transaction, without its hits.
func (t *CampaignTx) Issue(id string) (cert.KnownIssue, error) {
	return one(t.ctx, t.tx, scanIssue, notFound("known issue", id), "SELECT data FROM issues WHERE id = ? ORDER BY version DESC LIMIT 1", id)
}

// ActiveIssues returns the known issues that recognise something, as they are in force.
func (t *CampaignTx) ActiveIssues() ([]cert.KnownIssue, error) {
	return list(t.ctx, t.tx, scanIssue, "SELECT data FROM issues WHERE active = 1 ORDER BY id")
}

// ActiveIssues is CampaignTx.ActiveIssues.
func (db *DB) ActiveIssues(ctx context.Context) ([]cert.KnownIssue, error) {
	return list(ctx, db.r, scanIssue, "SELECT data FROM issues WHERE active = 1 ORDER BY id")
}

// IssuesEnded returns the active known issues whose end has come.
func (db *DB) IssuesEnded(ctx context.Context, now time.Time) ([]cert.KnownIssue, error) {
	return list(ctx, db.r, scanIssue, "SELECT data FROM issues WHERE active = 1 AND expires IS NOT NULL AND expires <= ? ORDER BY id", micros(now))
}

const issueHits = `(SELECT count(*) FROM findings f WHERE f.issue = i.id AND f.issue <> ''),
	(SELECT max(f.data ->> '$.found') FROM findings f WHERE f.issue = i.id AND f.issue <> '')`

func scanIssueHits(s scanner) (k cert.KnownIssue, err error) {
	var last *string
	if err := s.Scan(jsonColumn{&k}, &k.Hits, &last); err != nil {
		return k, err
	}
	if last != nil {
		at, err := time.Parse(time.RFC3339Nano, *last)
		if err != nil {
			return k, err
		}
		k.LastHit = &at
	}
	return k, nil
}

// Issue returns a known issue as it is in force, with what it has recognised. It fails as NotFound.
func (db *DB) Issue(ctx context.Context, id string) (cert.KnownIssue, error) {
	return one(ctx, db.r, scanIssueHits, notFound("known issue", id), "SELECT i.data, "+issueHits+" FROM issues i WHERE i.id = ? ORDER BY i.version DESC LIMIT 1", id)
}

// IssueVersion returns a version of a known issue. It fails as NotFound.
func (db *DB) IssueVersion(ctx context.Context, id string, version int) (cert.KnownIssue, error) {
	return one(ctx, db.r, scanIssue, notFound("known issue", fmt.Sprintf("%s version %d", id, version)), "SELECT data FROM issues WHERE id = ? AND version = ?", id, version)
}

// Issues lists known issues as they are in force, the newest first. With quiet, only those that have recognised nothing since then, or do not
// recognise anything any more because they have run out.
func (db *DB) Issues(ctx context.Context, quiet *time.Time, now time.Time, p Page) ([]cert.KnownIssue, string, error) {
	var w where
	w.add("i.version = (SELECT max(o.version) FROM issues o WHERE o.id = i.id)")
	var skip int64
	if _, err := p.parse("k", &skip); err != nil {
		return nil, "", err
	}
	rows, err := list(ctx, db.r, scanIssueHits, "SELECT i.data, "+issueHits+" FROM issues i"+w.String()+" ORDER BY i.id DESC")
	if err != nil {
		return nil, "", err
	}
	kept := []cert.KnownIssue{}
	for _, k := range rows {
		if quiet != nil && (k.Closed != nil || !stale(k, *quiet, now)) {
			continue
		}
		kept = append(kept, k)
	}
	kept = kept[min(int(skip), len(kept)):]
	if len(kept) > p.Limit {
		return kept[:p.Limit], cursor("k", skip+int64(p.Limit)), nil
	}
	return kept, "", nil
}

func stale(k cert.KnownIssue, quiet, now time.Time) bool {
	if k.Expires != nil && !k.Expires.After(now) {
		return true
	}
	last := k.Updated
	if k.LastHit != nil && k.LastHit.After(last) {
		last = *k.LastHit
	}
	return last.Before(quiet)
}

// Relink is how far known issues were applied to the findings that there are, after one of them has changed.
type Relink struct {
	After string `json:"after"` // id of the last finding that was looked at
}

const metaRelink = "relink"

// BeginRelink has known issues applied to all findings of campaigns that are not final, from the beginning.
func (t *CampaignTx) BeginRelink() error { return t.RelinkedTo("") }

// RelinkedTo stores how far they were applied.
func (t *CampaignTx) RelinkedTo(after string) error {
	_, err := t.tx.ExecContext(t.ctx, "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", metaRelink, mustJSON(Relink{after}))
	if err != nil {
		return fmt.Errorf("cannot store how far known issues were applied: %w", err)
	}
	return nil
}

// EndRelink stores that they were applied to all.
func (t *CampaignTx) EndRelink() error {
	if _, err := t.tx.ExecContext(t.ctx, "DELETE FROM meta WHERE name = ?", metaRelink); err != nil {
		return fmt.Errorf("cannot store how far known issues were applied: %w", err)
	}
	return nil
}

// Relinking returns how far they were applied; false: to all.
func (db *DB) Relinking(ctx context.Context) (r Relink, under bool, err error) {
	under, err = db.Meta(ctx, metaRelink, &r)
	return r, under, err
}
