package sqlite

import (
	"context"
	"fmt"

	"certlab/internal/cert"
)

type incidentRow struct {
	cert.Incident
	seq int64
}

func scanIncident(s scanner) (i incidentRow, err error) {
	err = s.Scan(&i.seq, jsonColumn{&i.Incident})
	return i, err
}

// PutIncident stores an incident, new or changed.
func (t *FleetTx) PutIncident(i cert.Incident) error {
	_, err := t.tx.ExecContext(t.ctx, "INSERT INTO incidents (id, closed, data) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET closed = excluded.closed, data = excluded.data",
		i.ID, microsPtr(i.Closed), mustJSON(i))
	if err != nil {
		return fmt.Errorf("cannot store incident %s: %w", i.ID, err)
	}
	return nil
}

// OpenIncidents returns those that are not closed, the oldest first.
func (db *DB) OpenIncidents(ctx context.Context) ([]cert.Incident, error) {
	rows, err := list(ctx, db.r, scanIncident, "SELECT seq, data FROM incidents INDEXED BY incidents_open WHERE closed IS NULL ORDER BY seq")
	return onlyIncidents(rows), err
}

// Incidents lists incidents, the newest first; with open only those that are not closed.
func (db *DB) Incidents(ctx context.Context, open bool, p Page) ([]cert.Incident, string, error) {
	var w where
	if open {
		w.add("closed IS NULL")
	}
	var before int64
	if more, err := p.parse("i", &before); err != nil {
		return nil, "", err
	} else if more {
		w.add("seq < ?", before)
	}
	rows, err := list(ctx, db.r, scanIncident, "SELECT seq, data FROM incidents"+w.String()+" ORDER BY seq DESC LIMIT ?", append(w.args, p.Limit+1)...)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > p.Limit {
		rows = rows[:p.Limit]
		next = cursor("i", rows[p.Limit-1].seq)
	}
	return onlyIncidents(rows), next, nil
}

func onlyIncidents(rows []incidentRow) []cert.Incident {
	out := make([]cert.Incident, len(rows))
	for n, r := range rows {
		out[n] = r.Incident
	}
	return out
}

// SuspectAttempts marks the attempts that go on on these machines as ones that an incident overlaps. Those that another one overlaps
// already stay as they are.
func (t *FleetTx) SuspectAttempts(incident string, machines []string) error {
	_, err := t.tx.ExecContext(t.ctx, `UPDATE attempts SET suspect = ? WHERE suspect = '' AND state IN ('queued', 'running')
		AND run IN (SELECT id FROM runs INDEXED BY runs_open WHERE machine IN (SELECT value FROM json_each(?)) AND state IN ('queued', 'running'))`, incident, mustJSON(machines))
	if err != nil {
		return fmt.Errorf("cannot mark the attempts that incident %s overlaps: %w", incident, err)
	}
	return nil
}

// Racks returns the rack of each machine of which it is known, by machine.
func (db *DB) Racks(ctx context.Context) (map[string]string, error) {
	type row struct{ machine, rack string }
	rows, err := list(ctx, db.r, func(s scanner) (r row, err error) { return r, s.Scan(&r.machine, &r.rack) },
		"SELECT machine, coalesce(json_extract(data, '$.rack'), '') FROM dossiers")
	out := make(map[string]string, len(rows))
	for _, r := range rows {
		out[r.machine] = r.rack
	}
	return out, err
}
