package sqlite

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"certlab/internal/cert"
)

// findingRank orders findings in lists.
func findingRank(f *cert.Finding) int {
	rank := 0
	for _, low := range []bool{!f.Attention, !f.Blocker, !f.New} {
		rank <<= 1
		if low {
			rank++
		}
	}
	place := slices.Index(findingOrder, f.Class)
	if place < 0 {
		place = len(findingOrder)
	}
	return rank*(len(findingOrder)+1) + place
}

// findingOrder are classes, the gravest first.
var findingOrder = []string{cert.FindKernelBoot, cert.FindMachineLost, cert.FindUnproved, cert.FindUnreadable, cert.ClassRegression, cert.ClassNewFailure,
	cert.FindFalsePass, cert.ClassMissing, cert.FindManifest, cert.FindFlaky, cert.ClassStillFailing, cert.ClassSkipChanged, cert.ClassAppeared,
	cert.ClassFixed, cert.ClassNewlyPassing}

func scanFinding(s scanner) (f cert.Finding, err error) { return f, s.Scan(jsonColumn{&f}) }

// PutFinding stores a finding, or what has become known of it since.
func (t *CampaignTx) PutFinding(f cert.Finding) error {
	_, err := t.tx.ExecContext(t.ctx, `INSERT INTO findings (id, campaign, target, machine, class, job, signature, blocker, new, attention, open, excused, waived, late,
		rank, issue, submission, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET machine = excluded.machine, class = excluded.class, job = excluded.job, signature = excluded.signature,
		blocker = excluded.blocker, new = excluded.new, attention = excluded.attention, open = excluded.open, excused = excluded.excused,
		waived = excluded.waived, late = excluded.late, rank = excluded.rank, issue = excluded.issue, submission = excluded.submission, data = excluded.data`,
		f.ID, f.Campaign, f.Target, f.Machine, f.Class, f.Job, f.Signature, f.Blocker, f.New, f.Attention, f.Open(), f.Excused, f.Waived, f.Late,
		findingRank(&f), f.Issue, f.Submission, mustJSON(f))
	if err != nil {
		return fmt.Errorf("cannot store a finding: %w", err)
	}
	t.move(f.Campaign, f.Target)
	return nil
}

// DropFinding removes a finding that comparing again does not make any more.
func (t *CampaignTx) DropFinding(id string) error {
	var campaign, target string
	err := t.tx.QueryRowContext(t.ctx, "DELETE FROM findings WHERE id = ? RETURNING campaign, target", id).Scan(&campaign, &target)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot remove a finding: %w", err)
	}
	t.move(campaign, target)
	return nil
}

// TargetFindings returns a target's findings.
func (t *CampaignTx) TargetFindings(target string) ([]cert.Finding, error) {
	return list(t.ctx, t.tx, scanFinding, "SELECT data FROM findings WHERE target = ? ORDER BY id", target)
}

// FindingsByID returns those findings of a campaign that are there.
func (t *CampaignTx) FindingsByID(campaign string, ids []string) ([]cert.Finding, error) {
	return list(t.ctx, t.tx, scanFinding, "SELECT data FROM findings WHERE id IN (SELECT value FROM json_each(?)) AND campaign = ? ORDER BY id", mustJSON(ids), campaign)
}

// WaivedBy returns the findings that a decision waives now.
func (t *CampaignTx) WaivedBy(decision int64) ([]cert.Finding, error) {
	return list(t.ctx, t.tx, scanFinding, "SELECT data FROM findings WHERE waived = ? AND waived > 0 ORDER BY id", decision)
}

// Finding returns a finding. It fails as NotFound.
func (t *CampaignTx) Finding(id string) (cert.Finding, error) {
	return one(t.ctx, t.tx, scanFinding, notFound("finding", id), "SELECT data FROM findings WHERE id = ?", id)
}

// Finding returns a finding. It fails as NotFound.
func (db *DB) Finding(ctx context.Context, id string) (cert.Finding, error) {
	return one(ctx, db.r, scanFinding, notFound("finding", id), "SELECT data FROM findings WHERE id = ?", id)
}

// A FindingFilter selects findings of a campaign.
type FindingFilter struct {
	cert.Filter
	MachineID string   // instead of Filter.Machine
	Machines  []string // ids: any of these; nil: any
	Targets   []string // the same of targets
	NoGood    bool     // only what needs attention
}

// terms adds the filter's conditions.
func (f *FindingFilter) terms(w *where) {
	w.equal("class", f.Class)
	if strings.Contains(f.Job, "*") {
		w.add("job GLOB ?", globOf(f.Job))
	} else {
		w.equal("job", f.Job)
	}
	w.equal("issue", f.Issue)
	w.equal("signature", f.Signature)
	w.equal("target", f.Filter.Target)
	w.equal("machine", f.MachineID)
	for column, want := range map[string]*bool{"open": f.Open, "blocker": f.Blocker, "new": f.New} {
		if want != nil {
			w.add(column+" = ?", *want)
		}
	}
	if f.NoGood {
		w.add("attention = 1")
	}
	if f.Targets != nil {
		w.add("target IN (SELECT value FROM json_each(?))", mustJSON(f.Targets))
	}
	if f.Machines != nil {
		w.add("machine IN (SELECT value FROM json_each(?))", mustJSON(f.Machines))
	}
}

// globOf makes a GLOB of a pattern in which only * is special.
func globOf(pattern string) string {
	return strings.NewReplacer("[", "[[]", "?", "[?]").Replace(pattern)
}

// Findings lists a campaign's findings, those that need a look first.
func (db *DB) Findings(ctx context.Context, campaign string, f FindingFilter, p Page) ([]cert.Finding, string, error) {
	if _, err := (Page{Limit: p.Limit}).parse("f"); err != nil {
		return nil, "", err
	}
	var w where
	w.add("campaign = ?", campaign)
	f.terms(&w)
	if p.Cursor != "" {
		id, err := base64.RawURLEncoding.DecodeString(p.Cursor)
		if err != nil || !strings.HasPrefix(string(id), "f.") {
			return nil, "", errCursor()
		}
		type place struct {
			rank int
			job  string
		}
		last, err := one(ctx, db.r, func(s scanner) (v place, err error) { return v, s.Scan(&v.rank, &v.job) }, errGone,
			"SELECT rank, job FROM findings WHERE id = ? AND campaign = ?", string(id[2:]), campaign)
		if errors.Is(err, errGone) {
			return nil, "", errCursor()
		}
		if err != nil {
			return nil, "", err
		}
		w.add("(rank, job, id) > (?, ?, ?)", last.rank, last.job, string(id[2:]))
	}
	rows, err := list(ctx, db.r, scanFinding, "SELECT data FROM findings"+w.String()+" ORDER BY rank, job, id LIMIT ?", append(w.args, p.Limit+1)...)
	if err != nil || len(rows) <= p.Limit {
		return rows, "", err
	}
	rows = rows[:p.Limit]
	return rows, base64.RawURLEncoding.EncodeToString([]byte("f." + rows[p.Limit-1].ID)), nil
}

var errGone = errors.New("it is gone")

func errCursor() error {
	return cert.Errorf(cert.Invalid, "cannot continue the list: the cursor is not one that this list gave, or what it named is gone (begin anew)")
}

// EachFinding calls fn with each finding of a campaign, in the order of lists; the database is not held meanwhile.
func (db *DB) EachFinding(ctx context.Context, campaign string, f FindingFilter, fn func(cert.Finding) error) error {
	p := Page{Limit: MaxLimit}
	for {
		page, next, err := db.Findings(ctx, campaign, f, p)
		if err != nil {
			return err
		}
		for _, one := range page {
			if err := fn(one); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		p.Cursor = next
	}
}

// FindingIDs returns the ids of the findings of a campaign that the filter fits, in the transaction.
func (t *CampaignTx) FindingIDs(campaign string, f FindingFilter) ([]string, error) {
	var w where
	w.add("campaign = ?", campaign)
	f.terms(&w)
	return list(t.ctx, t.tx, func(s scanner) (id string, err error) { return id, s.Scan(&id) }, "SELECT id FROM findings"+w.String()+" ORDER BY id", w.args...)
}

// scanFact reads of a finding what assessing needs.
func scanFact(s scanner) (f cert.Finding, err error) {
	err = s.Scan(&f.ID, &f.Campaign, &f.Target, &f.Machine, &f.Class, &f.Job, &f.Signature, &f.Blocker, &f.New, &f.Attention, &f.Excused, &f.Waived, &f.Late, &f.Issue, &f.Submission)
	return f, err
}

const factColumns = "id, campaign, target, machine, class, job, signature, blocker, new, attention, excused, waived, late, issue, submission"

// FindingFacts returns of a campaign's findings that need attention what assessing needs: not their texts.
func (db *DB) FindingFacts(ctx context.Context, campaign string) ([]cert.Finding, error) {
	return findingFacts(ctx, db.r, campaign)
}

// FindingFacts is DB.FindingFacts in the transaction.
func (t *CampaignTx) FindingFacts(campaign string) ([]cert.Finding, error) {
	return findingFacts(t.ctx, t.tx, campaign)
}

func findingFacts(ctx context.Context, q query, campaign string) ([]cert.Finding, error) {
	return list(ctx, q, scanFact, "SELECT "+factColumns+" FROM findings WHERE campaign = ? AND attention = 1", campaign)
}

// OpenFindings counts the findings that stand between a campaign and an approval, and the blockers among them.
func (db *DB) OpenFindings(ctx context.Context, campaign string) (open, blockers int, err error) {
	const text = "SELECT count(*), coalesce(sum(blocker), 0) FROM findings INDEXED BY findings_groups WHERE campaign = ? AND attention = 1 AND open = 1"
	if err := db.r.QueryRowContext(ctx, text, campaign).Scan(&open, &blockers); err != nil {
		return 0, 0, noted(db.r, text, fmt.Errorf("cannot count findings: %w", err))
	}
	return open, blockers, nil
}

// FindingCounts counts a campaign's findings by class.
func (db *DB) FindingCounts(ctx context.Context, campaign string) (map[string]int, error) {
	return findingCounts(ctx, db.r, campaign)
}

// FindingCounts is DB.FindingCounts in the transaction.
func (t *CampaignTx) FindingCounts(campaign string) (map[string]int, error) {
	return findingCounts(t.ctx, t.tx, campaign)
}

func findingCounts(ctx context.Context, q query, campaign string) (map[string]int, error) {
	type pair struct {
		class string
		n     int
	}
	rows, err := list(ctx, q, func(s scanner) (p pair, err error) { return p, s.Scan(&p.class, &p.n) },
		"SELECT class, count(*) FROM findings INDEXED BY findings_groups WHERE campaign = ? GROUP BY class", campaign)
	out := make(map[string]int, len(rows))
	for _, r := range rows {
		out[r.class] = r.n
	}
	return out, err
}

// MachineFacts is FindingFacts of one machine.
func (t *CampaignTx) MachineFacts(campaign, machine string) ([]cert.Finding, error) {
	return list(t.ctx, t.tx, scanFact, "SELECT "+factColumns+" FROM findings WHERE target IN (SELECT id FROM targets WHERE campaign = ? AND machine = ?) AND attention = 1", campaign, machine)
}

// FindingMachines returns the machines with findings of a campaign that the filter fits.
func (t *CampaignTx) FindingMachines(campaign string, f FindingFilter) ([]string, error) {
	var w where
	w.add("campaign = ?", campaign)
	f.terms(&w)
	return list(t.ctx, t.tx, func(s scanner) (id string, err error) { return id, s.Scan(&id) }, "SELECT DISTINCT machine FROM findings"+w.String()+" ORDER BY machine", w.args...)
}

// AllFacts is FindingFacts of all findings, those among them that are good.
func (t *CampaignTx) AllFacts(campaign string) ([]cert.Finding, error) {
	return list(t.ctx, t.tx, scanFact, "SELECT "+factColumns+" FROM findings WHERE campaign = ? ORDER BY id", campaign)
}

// FindingTargets returns the targets with findings of a campaign that the filter fits.
func (db *DB) FindingTargets(ctx context.Context, campaign string, f FindingFilter) ([]string, error) {
	var w where
	w.add("campaign = ?", campaign)
	f.terms(&w)
	return list(ctx, db.r, func(s scanner) (id string, err error) { return id, s.Scan(&id) }, "SELECT DISTINCT target FROM findings"+w.String(), w.args...)
}
