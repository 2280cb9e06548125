package sqlite

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

func TestADossierIsKeptWithItsHistory(t *testing.T) {
	t.Parallel()
	db := open1(t)
	m := machine(t, db, "node1")
	d, err := db.Dossier(t.Context(), m.ID)
	require.NoError(t, err)
	require.Equal(t, cert.Dossier{Machine: m.ID, Hostname: "node1"}.Tidy(), d, "none yet")
	d.Rack, d.Abilities = "r4", map[string]bool{"bmc": true}
	stored, err := db.PutDossier(t.Context(), d, "ada", epoch)
	require.NoError(t, err)
	require.Equal(t, int64(1), stored.Version)
	require.Equal(t, "ada", stored.UpdatedBy)
	same, err := db.PutDossier(t.Context(), stored, "bob", epoch.Add(time.Hour))
	require.NoError(t, err)
	require.Equal(t, stored, same, "nothing was changed")
	stored.Rack = ""
	_, err = db.PutDossier(t.Context(), stored, "bob", epoch.Add(time.Hour))
	require.NoError(t, err)
	history, next, err := db.DossierChanges(t.Context(), m.ID, "", Page{Limit: 2})
	require.NoError(t, err)
	require.Equal(t, cert.DossierChange{Machine: m.ID, Hostname: "node1", Field: "rack", Before: "r4"}, history[0].DossierChange)
	require.Equal(t, "bob", history[0].Who)
	rest, last, err := db.DossierChanges(t.Context(), m.ID, "", Page{Limit: 2, Cursor: next})
	require.NoError(t, err)
	require.Empty(t, last)
	require.Equal(t, "ability:bmc", rest[0].Field)
}

func TestFaultADossierThatWasChangedSinceIsNotOverwritten(t *testing.T) {
	t.Parallel()
	db := open1(t)
	m := machine(t, db, "node1")
	first, err := db.PutDossier(t.Context(), cert.Dossier{Machine: m.ID, Rack: "r1"}, "ada", epoch)
	require.NoError(t, err)
	_, err = db.PutDossier(t.Context(), cert.Dossier{Machine: m.ID, Rack: "r2"}, "bob", epoch)
	require.EqualError(t, err, "cannot change the dossier of node1: it was changed by ada since (version 0 is now 1; read it again)")
	require.Equal(t, cert.Conflict, cert.CodeOf(err))
	now, err := db.Dossier(t.Context(), m.ID)
	require.NoError(t, err)
	require.Equal(t, first, now)

	z, err := db.PutZoneDossier(t.Context(), cert.ZoneDossier{Zone: "z1", Shared: []string{"iperf-a"}}, "ada", epoch)
	require.NoError(t, err)
	_, err = db.PutZoneDossier(t.Context(), cert.ZoneDossier{Zone: "z1"}, "bob", epoch)
	require.EqualError(t, err, "cannot change the dossier of zone z1: it was changed by ada since (version 0 is now 1; read it again)")
	again, err := db.ZoneDossier(t.Context(), "z1")
	require.NoError(t, err)
	require.Equal(t, z, again)
}

// TestFaultASecureIDIsNowhereButInItsColumn looks for it in every other column of the database.
func TestFaultASecureIDIsNowhereButInItsColumn(t *testing.T) {
	t.Parallel()
	const secret, newer = "SECRETSECRET123", "NEWERNEWERNEWER456"
	db := open1(t)
	m := machine(t, db, "node1")
	rows, err := cert.ReadDossierCSV(strings.NewReader("machine,rack,secure_id\nnode1,r1," + secret + "\n"))
	require.NoError(t, err)
	report, err := db.ImportDossiers(t.Context(), rows, "ada", epoch, false)
	require.NoError(t, err)
	require.NotContains(t, fmt.Sprintf("%+v", report), secret)
	d, err := db.PutSecureID(t.Context(), m.ID, newer, "ada", epoch)
	require.NoError(t, err)
	require.True(t, d.SecureIDSet)
	got, err := db.SecureID(t.Context(), m.ID)
	require.NoError(t, err)
	require.Equal(t, newer, got)
	_, err = db.PutSecureID(t.Context(), m.ID, secret[:10], "ada", epoch)
	require.EqualError(t, err, "secure_id must have 15 to 64 letters and digits, as the certification site shows it")

	tables, err := list(t.Context(), db.r, func(s scanner) (v string, err error) { return v, s.Scan(&v) }, "SELECT name FROM sqlite_schema WHERE type = 'table'")
	require.NoError(t, err)
	seen := 0
	for _, table := range tables {
		all, err := db.r.Query("SELECT * FROM " + table)
		require.NoError(t, err)
		columns, err := all.Columns()
		require.NoError(t, err)
		for all.Next() {
			values := make([]any, len(columns))
			for n := range values {
				values[n] = new(sql.RawBytes)
			}
			require.NoError(t, all.Scan(values...))
			for n, v := range values {
				if text := string(*v.(*sql.RawBytes)); strings.Contains(text, secret) || strings.Contains(text, newer) {
					require.Equal(t, "dossiers.secure_id", table+"."+columns[n])
					seen++
				}
			}
		}
		require.NoError(t, all.Err())
		all.Close()
	}
	require.Equal(t, 1, seen)
	history, _, err := db.DossierChanges(t.Context(), m.ID, "", Page{Limit: 10})
	require.NoError(t, err)
	require.Equal(t, []string{"set anew", "set"}, []string{history[0].After, history[1].After})
}

func TestFaultAnImportIsWholeOrNothing(t *testing.T) {
	t.Parallel()
	db := open1(t)
	one, two := machine(t, db, "node1"), machine(t, db, "node2")
	_, err := db.PutDossier(t.Context(), cert.Dossier{Machine: two.ID, CID: "202411-36001"}, "ada", epoch)
	require.NoError(t, err)
	before, err := db.Dossiers(t.Context())
	require.NoError(t, err)
	for text, message := range map[string]string{
		"machine,rack\nnode1,r1\nnode9,r9\nnode8,r8\n": "cannot import dossiers: no machine is called node9 (line 3), node8 (line 4) (nothing was changed; machines are known once their provider lists them, or by certlab machine add)",
		"machine,rack\nnode2,r1\n202411-36001,r2\n":    "cannot import dossiers: lines 2 and 3 are both about node2 (leave one of them)",
		"machine,rack\nnode1,r1\n" + one.ID + ",r2\n":  "cannot import dossiers: lines 2 and 3 are both about node1 (leave one of them)",
		"machine,cid\nnode1,202411-36001\n":            "cannot give two machines the certification id 202411-36001: ",
		"machine,cid\nnode1,c1\nnode2,no good\n":       `cannot import dossiers: line 3 (node2): cid is "no good": it must have letters, digits, . _ or - only, such as 202411-36001`,
	} {
		rows, err := cert.ReadDossierCSV(strings.NewReader(text))
		require.NoError(t, err)
		_, err = db.ImportDossiers(t.Context(), rows, "bob", epoch, false)
		require.ErrorContains(t, err, message)
		after, err := db.Dossiers(t.Context())
		require.NoError(t, err)
		require.Equal(t, before, after)
	}
	// Two machines may swap their ids, and a dry run says what would be.
	rows, err := cert.ReadDossierCSV(strings.NewReader("machine,cid\nnode1,202411-36001\nnode2,\n"))
	require.NoError(t, err)
	dry, err := db.ImportDossiers(t.Context(), rows, "bob", epoch, true)
	require.NoError(t, err)
	after, err := db.Dossiers(t.Context())
	require.NoError(t, err)
	require.Equal(t, before, after)
	done, err := db.ImportDossiers(t.Context(), rows, "bob", epoch, false)
	require.NoError(t, err)
	require.Equal(t, dry.Changes, done.Changes)
	require.Equal(t, 2, done.Changed)
}

func TestTenThousandLinesAreImported(t *testing.T) {
	t.Parallel()
	db := open1(t)
	var text strings.Builder
	text.WriteString("machine,rack,ability:bmc\n")
	for n := range cert.MaxDossierLines {
		if n%20 == 0 {
			fmt.Fprintf(&text, "node%d,r%d,\n", n, n%40)
		} else {
			fmt.Fprintf(&text, "node%d,,\n", n) // nothing is known of it
		}
	}
	_, err := db.w.Exec(`INSERT INTO machines (id, key, origin, hostname, architecture, system_id, product_uuid, base, kernel, unit, model_uuid, created)
		WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?)
		SELECT printf('m%026d', i), 'node' || i, 'manual', 'node' || i, '', '', '', '', '', '', '', 0 FROM n`, cert.MaxDossierLines)
	require.NoError(t, err)
	rows, err := cert.ReadDossierCSV(strings.NewReader(text.String()))
	require.NoError(t, err)
	report, err := db.ImportDossiers(t.Context(), rows, "ada", epoch, false)
	require.NoError(t, err)
	require.Equal(t, cert.MaxDossierLines, report.Lines)
	require.Equal(t, cert.MaxDossierLines/20, report.Changed)
	require.Len(t, report.Changes, cert.MaxDossierLines/20)
}
