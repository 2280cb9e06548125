package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"certlab/internal/cert"
)

// A secure id is in a column of its own, which no query but SecureID reads: it is in no answer, no log and no history.
const dossierColumns = "m.id, m.hostname, coalesce(d.version, 0), coalesce(d.secure_id, '') <> '', coalesce(d.data, '{}')"

const dossierTables = " FROM machines m LEFT JOIN dossiers d ON d.machine = m.id"

func scanDossier(s scanner) (d cert.Dossier, err error) {
	var id, hostname string
	var version int64
	var secure bool
	err = s.Scan(&id, &hostname, &version, &secure, jsonColumn{&d})
	d = d.Tidy()
	d.Machine, d.Hostname, d.Version, d.SecureIDSet = id, hostname, version, secure
	return d, err
}

// Dossier returns a machine's dossier, empty and of version 0 if it has none. It fails as NotFound if there is no such machine.
func (db *DB) Dossier(ctx context.Context, machine string) (cert.Dossier, error) {
	return dossier(ctx, db.r, machine)
}

func dossier(ctx context.Context, q query, machine string) (cert.Dossier, error) {
	return one(ctx, q, scanDossier, notFound("machine", machine), "SELECT "+dossierColumns+dossierTables+" WHERE m.id = ?", machine)
}

// Dossiers returns the dossiers of all machines, the first known first. Those without one are there with an empty one.
func (db *DB) Dossiers(ctx context.Context) ([]cert.Dossier, error) {
	return list(ctx, db.r, scanDossier, "SELECT "+dossierColumns+dossierTables+" ORDER BY m.seq")
}

// PutDossier replaces a machine's dossier. Version is the one that the change began with: another one is there, it fails as Conflict. It
// returns the dossier as stored.
func (db *DB) PutDossier(ctx context.Context, d cert.Dossier, who string, now time.Time) (out cert.Dossier, err error) {
	d = d.Tidy()
	if err := d.Validate(); err != nil {
		return out, cert.Errorf(cert.Invalid, "cannot change the dossier: %v", err)
	}
	err = db.write(ctx, func(tx *sql.Tx) error {
		before, err := dossier(ctx, tx, d.Machine)
		if err != nil {
			return err
		}
		if before.Version != d.Version {
			return cert.Errorf(cert.Conflict, "cannot change the dossier of %s: it was changed by %s since (version %d is now %d; read it again)", before.Hostname, before.UpdatedBy, d.Version, before.Version)
		}
		if _, err := putDossier(ctx, tx, before, d, who, now); err != nil {
			return err
		}
		if err := oneEach(ctx, tx); err != nil {
			return err
		}
		out, err = dossier(ctx, tx, d.Machine)
		return err
	})
	return out, err
}

// putDossier stores a dossier and what has changed, if anything has.
func putDossier(ctx context.Context, tx *sql.Tx, before, after cert.Dossier, who string, now time.Time) ([]cert.DossierChange, error) {
	changes := cert.Changes(before.Fields(), after.Fields())
	if len(changes) == 0 {
		return nil, nil
	}
	after.Machine, after.Hostname, after.SecureIDSet, after.Version = before.Machine, "", false, 0 // in columns, or the machine's
	at := now.UTC()
	after.Updated, after.UpdatedBy = &at, who
	if _, err := tx.ExecContext(ctx, `INSERT INTO dossiers (machine, version, secure_id, data) VALUES (?, 1, '', ?)
		ON CONFLICT (machine) DO UPDATE SET version = version + 1, data = excluded.data`, before.Machine, mustJSON(after)); err != nil {
		return nil, fmt.Errorf("cannot store the dossier of %s: %w", before.Hostname, err)
	}
	for n := range changes {
		changes[n].Machine, changes[n].Hostname = before.Machine, before.Hostname
		if err := logChange(ctx, tx, changes[n], "", who, now); err != nil {
			return nil, err
		}
	}
	return changes, nil
}

func logChange(ctx context.Context, tx *sql.Tx, c cert.DossierChange, zone, who string, now time.Time) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO dossier_changes (at, who, machine, zone, field, before, after) VALUES (?, ?, ?, ?, ?, ?, ?)",
		micros(now), who, c.Machine, zone, c.Field, c.Before, c.After)
	if err != nil {
		return fmt.Errorf("cannot store a dossier's change: %w", err)
	}
	return nil
}

// oneEach fails as Conflict if a certification id is that of two machines.
func oneEach(ctx context.Context, tx *sql.Tx) error {
	type double struct{ cid, names string }
	found, err := list(ctx, tx, func(s scanner) (d double, err error) { return d, s.Scan(&d.cid, &d.names) },
		`SELECT d.data ->> '$.cid' AS cid, group_concat(m.hostname, ' and ') FROM dossiers d JOIN machines m ON m.id = d.machine WHERE cid <> ''
		GROUP BY lower(cid) HAVING count(*) > 1 ORDER BY cid LIMIT 1`)
	if err != nil || len(found) == 0 {
		return err
	}
	return cert.Errorf(cert.Conflict, "cannot give two machines the certification id %s: %s", found[0].cid, found[0].names)
}

// PutSecureID stores a machine's secure id, or removes it if it is empty. The history says only that.
func (db *DB) PutSecureID(ctx context.Context, machine, secret, who string, now time.Time) (cert.Dossier, error) {
	var out cert.Dossier
	if err := cert.ValidateSecureID(secret); err != nil {
		return out, err
	}
	err := db.write(ctx, func(tx *sql.Tx) error {
		before, err := dossier(ctx, tx, machine)
		if err != nil {
			return err
		}
		if _, err := putSecureID(ctx, tx, before, secret, who, now); err != nil {
			return err
		}
		out, err = dossier(ctx, tx, machine)
		return err
	})
	return out, err
}

func putSecureID(ctx context.Context, tx *sql.Tx, before cert.Dossier, secret, who string, now time.Time) ([]cert.DossierChange, error) {
	same := 0
	if err := tx.QueryRowContext(ctx, "SELECT coalesce((SELECT secure_id FROM dossiers WHERE machine = ?), '') = ?", before.Machine, secret).Scan(&same); err != nil {
		return nil, errors.New("cannot read the dossier") // the driver's error might repeat what was compared
	}
	if same == 1 {
		return nil, nil
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO dossiers (machine, version, secure_id, data) VALUES (?, 1, ?, '{}')
		ON CONFLICT (machine) DO UPDATE SET version = version + 1, secure_id = excluded.secure_id`, before.Machine, secret); err != nil {
		return nil, fmt.Errorf("cannot store the secure id of %s", before.Hostname)
	}
	c := cert.DossierChange{Machine: before.Machine, Hostname: before.Hostname, Field: "secure_id"}
	if before.SecureIDSet {
		c.Before = "set"
	}
	if secret != "" {
		c.After = "set"
		if before.SecureIDSet {
			c.After = "set anew"
		}
	}
	return []cert.DossierChange{c}, logChange(ctx, tx, c, "", who, now)
}

// SecureID returns a machine's secure id, for the certification site and for nobody else; empty if it has none.
func (db *DB) SecureID(ctx context.Context, machine string) (string, error) {
	var secret string
	err := db.r.QueryRowContext(ctx, "SELECT secure_id FROM dossiers WHERE machine = ?", machine).Scan(&secret)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return secret, err
}

// errDry ends a transaction that was only to be tried.
var errDry = errors.New("dry run")

// ImportDossiers changes dossiers as the rows say, all of them or none. With dry, nothing is stored and the answer is what would be. It
// fails as NotFound, naming them, if there are rows about machines that are not known.
func (db *DB) ImportDossiers(ctx context.Context, rows []cert.DossierRow, who string, now time.Time, dry bool) (cert.DossierImport, error) {
	out := cert.DossierImport{Lines: len(rows), DryRun: dry, Changes: []cert.DossierChange{}}
	err := db.write(ctx, func(tx *sql.Tx) error {
		all, err := list(ctx, tx, scanDossier, "SELECT "+dossierColumns+dossierTables+" ORDER BY m.seq")
		if err != nil {
			return err
		}
		systems, err := list(ctx, tx, func(s scanner) (id string, err error) { return id, s.Scan(&id) }, "SELECT system_id FROM machines ORDER BY seq")
		if err != nil {
			return err
		}
		named, err := resolveRows(rows, all, systems)
		if err != nil {
			return err
		}
		for n, row := range rows {
			before := named[n]
			after, err := row.Apply(before)
			if err != nil {
				return err
			}
			changes, err := putDossier(ctx, tx, before, after, who, now)
			if err != nil {
				return err
			}
			if row.SecureID != "" {
				more, err := putSecureID(ctx, tx, before, row.SecureID, who, now)
				if err != nil {
					return err
				}
				changes = append(changes, more...)
			}
			if len(changes) > 0 {
				out.Changed++
				out.Changes = append(out.Changes, changes...)
			}
		}
		if err := oneEach(ctx, tx); err != nil {
			return err
		}
		if dry {
			return errDry
		}
		return nil
	})
	if errors.Is(err, errDry) {
		err = nil
	}
	return out, err
}

// resolveRows finds the machine of each row. A name that is one machine's id is not taken for another's hostname.
func resolveRows(rows []cert.DossierRow, all []cert.Dossier, systems []string) ([]cert.Dossier, error) {
	byID := make(map[string]cert.Dossier, len(all))
	names := make(map[string][]string, len(all)) // lower case → ids
	exact := make(map[string]string, 2*len(all))
	for n, d := range all {
		byID[d.Machine] = d
		exact[d.Machine] = d.Machine
		if systems[n] != "" {
			exact[systems[n]] = d.Machine
		}
		for _, name := range []string{d.Hostname, d.CID} {
			if key := strings.ToLower(name); key != "" {
				names[key] = append(names[key], d.Machine)
			}
		}
	}
	out := make([]cert.Dossier, len(rows))
	lines := map[string]int{}
	var unknown []string
	for n, row := range rows {
		id, ok := exact[row.Machine]
		if found := names[strings.ToLower(row.Machine)]; !ok && len(found) > 1 {
			return nil, cert.Errorf(cert.Conflict, "cannot import dossiers: line %d: several machines are called %s: name one by its id (%s)", row.Line, row.Machine, strings.Join(found, ", "))
		} else if !ok && len(found) == 1 {
			id, ok = found[0], true
		}
		if !ok {
			unknown = append(unknown, fmt.Sprintf("%s (line %d)", row.Machine, row.Line))
			continue
		}
		if first, twice := lines[id]; twice {
			return nil, cert.Errorf(cert.Invalid, "cannot import dossiers: lines %d and %d are both about %s (leave one of them)", first, row.Line, byID[id].Hostname)
		}
		lines[id], out[n] = row.Line, byID[id]
	}
	if len(unknown) > 0 {
		more := ""
		if n := len(unknown); n > 20 {
			more = fmt.Sprintf(" and %d more", n-20)
			unknown = unknown[:20]
		}
		return nil, cert.Errorf(cert.NotFound, "cannot import dossiers: no machine is called %s%s (nothing was changed; machines are known once their provider lists them, or by certlab machine add)",
			strings.Join(unknown, ", "), more)
	}
	return out, nil
}

func scanZone(s scanner) (z cert.ZoneDossier, err error) {
	var version int64
	var zone string
	err = s.Scan(&zone, &version, jsonColumn{&z})
	z = z.Tidy()
	z.Zone, z.Version = zone, version
	return z, err
}

func zoneDossier(ctx context.Context, q query, zone string) (cert.ZoneDossier, error) {
	z, err := one(ctx, q, scanZone, notFound("zone", zone), "SELECT zone, version, data FROM zone_dossiers WHERE zone = ?", zone)
	if cert.CodeOf(err) == cert.NotFound {
		return cert.ZoneDossier{Zone: zone}.Tidy(), nil
	}
	return z, err
}

// ZoneDossier returns what holds for all machines of a zone; nothing, and version 0, if nothing was said.
func (db *DB) ZoneDossier(ctx context.Context, zone string) (cert.ZoneDossier, error) {
	return zoneDossier(ctx, db.r, zone)
}

// PutZoneDossier is PutDossier for a zone.
func (db *DB) PutZoneDossier(ctx context.Context, z cert.ZoneDossier, who string, now time.Time) (out cert.ZoneDossier, err error) {
	z = z.Tidy()
	if err := z.Validate(); err != nil {
		return out, cert.Errorf(cert.Invalid, "cannot change the dossier: %v", err)
	}
	err = db.write(ctx, func(tx *sql.Tx) error {
		before, err := zoneDossier(ctx, tx, z.Zone)
		if err != nil {
			return err
		}
		if before.Version != z.Version {
			return cert.Errorf(cert.Conflict, "cannot change the dossier of zone %s: it was changed by %s since (version %d is now %d; read it again)", z.Zone, before.UpdatedBy, z.Version, before.Version)
		}
		changes := cert.Changes(before.Fields(), z.Fields())
		if len(changes) > 0 {
			stored, at := z, now.UTC()
			stored.Updated, stored.UpdatedBy, stored.Version = &at, who, 0
			if _, err := tx.ExecContext(ctx, `INSERT INTO zone_dossiers (zone, version, data) VALUES (?, 1, ?)
				ON CONFLICT (zone) DO UPDATE SET version = version + 1, data = excluded.data`, z.Zone, mustJSON(stored)); err != nil {
				return fmt.Errorf("cannot store the dossier of zone %s: %w", z.Zone, err)
			}
		}
		for _, c := range changes {
			if err := logChange(ctx, tx, c, z.Zone, who, now); err != nil {
				return err
			}
		}
		out, err = zoneDossier(ctx, tx, z.Zone)
		return err
	})
	return out, err
}

// DossierChanges lists what was changed in a machine's or a zone's dossier, the newest first.
func (db *DB) DossierChanges(ctx context.Context, machine, zone string, p Page) ([]cert.LoggedChange, string, error) {
	var w where
	w.add("c.machine = ? AND c.zone = ?", machine, zone)
	var before int64
	if more, err := p.parse("c", &before); err != nil {
		return nil, "", err
	} else if more {
		w.add("c.seq < ?", before)
	}
	rows, err := list(ctx, db.r, func(s scanner) (c cert.LoggedChange, err error) {
		return c, s.Scan(&c.Seq, timeColumn{&c.At}, &c.Who, &c.Machine, &c.Hostname, &c.Zone, &c.Field, &c.Before, &c.After)
	}, "SELECT c.seq, c.at, c.who, c.machine, coalesce((SELECT hostname FROM machines WHERE id = c.machine), ''), c.zone, c.field, c.before, c.after FROM dossier_changes c"+
		w.String()+" ORDER BY c.seq DESC LIMIT ?", append(w.args, p.Limit+1)...)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > p.Limit {
		rows = rows[:p.Limit]
		next = cursor("c", rows[p.Limit-1].Seq)
	}
	return rows, next, nil
}
