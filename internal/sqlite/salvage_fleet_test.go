package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

const inFleet = 60

// fleetOf makes a database with machines from a provider, each with a log, a dossier and a reservation that is over; the first ten with one
// that is ready. It returns its path and the machines' ids.
func fleetOf(t *testing.T) (path string, machines []string) {
	ctx := t.Context()
	path = filepath.Join(t.TempDir(), "x.db")
	db, err := Open(ctx, path)
	require.NoError(t, err)
	long := strings.Repeat("x", 300)
	for n := range inFleet {
		at := epoch.Add(time.Duration(n) * time.Second)
		host := fmt.Sprintf("node%02d", n)
		m := cert.Machine{ID: cert.NewID(cert.MachineID, at), Key: "maas:" + host, Origin: cert.OriginMAAS, Hostname: host, SystemID: host, Created: at}
		machines = append(machines, m.ID)
		reserve := func(tx *FleetTx, k int, state cert.ReservationState, phase cert.DeployPhase) error {
			at := at.Add(time.Duration(k) * time.Millisecond)
			r := cert.Reservation{ID: cert.NewID(cert.ReservationID, at), Kind: cert.ReserveManual, State: state, Holder: "ada", Reason: "a bug " + long, Machine: m.ID, Hostname: host,
				Created: at, Deployment: cert.NewID(cert.DeploymentID, at), Tries: 1}
			d := cert.Deployment{ID: r.Deployment, Reservation: r.ID, Machine: m.ID, Class: "a class", Phase: phase, Started: at, Since: at, Diagnosis: long}
			if phase == cert.PhaseOver {
				d.Finished = &at
			} else {
				d.AgentKey, d.Enrolled = "key of "+host, &at
			}
			if err := tx.AddReservation(r); err != nil {
				return err
			}
			return tx.AddDeployment(d)
		}
		require.NoError(t, db.ChangeFleet(ctx, func(tx *FleetTx) error {
			if err := tx.AddMachine(m); err != nil {
				return err
			}
			provided := cert.Provided{ID: host, Hostname: host, Status: cert.StatusFree, StatusMessage: long}
			if err := tx.PutMachine(FleetRow{Machine: m, Provider: "maas", Provided: &provided, Read: at}); err != nil {
				return err
			}
			if err := reserve(tx, 0, cert.ReservationEnded, cert.PhaseOver); err != nil {
				return err
			}
			if n < 10 {
				if err := reserve(tx, 1, cert.ReservationReady, cert.PhaseReady); err != nil {
					return err
				}
			}
			for k := range 5 {
				if err := tx.Event(cert.MachineEvent{Machine: m.ID, At: at, Kind: "note", Who: "ada", Text: fmt.Sprintf("%d of %s %s", k, host, long)}); err != nil {
					return err
				}
			}
			return tx.Account(m.ID, cert.MachineFree, cert.UseIdle, "", at)
		}))
		_, err := db.PutDossier(ctx, cert.Dossier{Machine: m.ID, CID: "202411-" + host, Rack: "r1", Notes: long}, "root", at)
		require.NoError(t, err)
	}
	require.NoError(t, db.Close())
	return path, machines
}

// TestFaultDamagedPageOfTheFleet loses a page of each table of machines: what is on other pages is kept, what is lost is said, what is left fits
// together, and with a backup only the present state of machines is read anew from their provider.
func TestFaultDamagedPageOfTheFleet(t *testing.T) {
	t.Parallel()
	whole, machines := fleetOf(t)
	content, err := os.ReadFile(whole)
	require.NoError(t, err)
	all := map[string]int{"machines": inFleet, "fleet": inFleet, "reservations": inFleet + 10, "deployments": inFleet + 10, "machine_events": 5 * inFleet, "dossiers": inFleet,
		"dossier_changes": 3 * inFleet, "machine_times": inFleet}
	for _, table := range []string{"fleet", "reservations", "deployments", "machine_events", "dossiers", "dossier_changes", "machines", "deployments_open"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			path := filepath.Join(t.TempDir(), "x.db")
			require.NoError(t, os.WriteFile(path, content, 0o600))
			page(t, path, table)
			db, err := Open(ctx, path)
			require.NoError(t, err)
			require.NoError(t, db.Scan(ctx, quick))
			damage, _, _ := db.Trouble()
			require.NotNil(t, damage)
			require.Contains(t, damage.String(), table)
			err = db.ChangeFleet(ctx, func(*FleetTx) error { return nil })
			require.ErrorContains(t, err, "the controller's database is damaged: nothing is written until an admin repairs it")
			require.NoError(t, db.Close())

			to := filepath.Join(t.TempDir(), "new.db")
			alone, err := SalvageInto(ctx, path, "", to, epoch)
			require.NoError(t, err)
			for name, n := range all {
				if got := alone.Rows[name]; name == table {
					require.Less(t, got, n, "%s: %+v", name, alone.Unread)
					require.Greater(t, got, n/2, name)
					require.True(t, slices.ContainsFunc(alone.Unread, func(s string) bool { return strings.HasPrefix(s, "table "+name+": ") }), "%v", alone.Unread)
				} else {
					require.Equal(t, n, got, "%s was not damaged", name)
				}
			}
			full, err := SalvageInto(ctx, path, whole, to+"2", epoch)
			require.NoError(t, err)
			require.Empty(t, full.Lost)
			if table != "fleet" && table != "deployments_open" {
				require.Equal(t, all[table]-alone.Rows[table], full.Restored[table])
			}

			for _, path := range []string{to, to + "2"} {
				db, err := Open(ctx, path)
				require.NoError(t, err)
				sound(t, db)
				fits(t, db)
				require.NoError(t, db.Close())
			}
			db, err = Open(ctx, to+"2")
			require.NoError(t, err)
			defer db.Close()
			for n, id := range machines {
				m, err := db.Machine(ctx, id)
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf("maas:node%02d", n), m.Key)
				d, err := db.Dossier(ctx, id)
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf("202411-node%02d", n), d.CID)
				events, _, err := db.MachineEvents(ctx, EventFilter{Machine: id, Kind: "note"}, Page{Limit: 100})
				require.NoError(t, err)
				require.Len(t, events, 5)
			}
			open, err := db.OpenReservations(ctx)
			require.NoError(t, err)
			require.Len(t, open, 10, "who has a machine keeps it")
			held, err := db.OpenDeployments(ctx)
			require.NoError(t, err)
			require.Len(t, held, 10)
		})
	}
}

// fits requires that what is open refers to something: each reservation that has a machine has its deployment, and each deployment its machine.
func fits(t *testing.T, db *DB) {
	t.Helper()
	open, err := db.OpenReservations(t.Context())
	require.NoError(t, err)
	for _, r := range open {
		d, err := db.Deployment(t.Context(), r.Deployment)
		require.NoError(t, err)
		require.Equal(t, r.ID, d.Reservation)
	}
	held, err := db.OpenDeployments(t.Context())
	require.NoError(t, err)
	for _, d := range held {
		_, err := db.FleetRow(t.Context(), d.Machine)
		require.NoError(t, err)
		_, err = db.Reservation(t.Context(), d.Reservation)
		require.NoError(t, err)
	}
}
