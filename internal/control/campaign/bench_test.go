package campaign_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/control/campaign"
	"certlab/internal/sqlite"
)

// benchLab is a lab of units, outside of a bubble, whose engine is turned by hand.
func benchLab(b *testing.B, machines int) (*lab, *campaign.Engine) {
	path := filepath.Join(b.TempDir(), "certlab.db")
	empty, err := emptyDatabase()
	require.NoError(b, err)
	require.NoError(b, os.WriteFile(path, empty, 0o600))
	l := newLab(b, path)
	b.Cleanup(func() { l.db.Close() })
	for n := range machines {
		m := cert.FleetMachine{Machine: cert.Machine{ID: cert.NewID(cert.MachineID, l.now()), Key: fmt.Sprint("key", n), Origin: "juju", Hostname: fmt.Sprintf("node%04d", n), Architecture: "amd64",
			Unit: fmt.Sprint("checkbox/", n), Base: "ubuntu@24.04", Created: l.now()}, State: cert.MachineReady}
		l.machines = append(l.machines, m)
	}
	l.store(func(tx *sqlite.FleetTx) error {
		for _, m := range l.machines {
			if err := tx.AddMachine(m.Machine); err != nil {
				return err
			}
		}
		return nil
	})
	v := &life{}
	v.Engine = campaign.New(campaign.Options{DB: l.db, Logger: slog.New(slog.DiscardHandler), Fleet: mortal{l, v}, Lab: l, Now: l.now})
	return l, v.Engine
}

// BenchmarkCampaign measures planning and storing a campaign, a turn in which one run has moved on among all that are under way, and one in which none has.
func BenchmarkCampaign(b *testing.B) {
	for _, machines := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(machines), func(b *testing.B) {
			l, e := benchLab(b, machines)
			ctx := context.Background()
			began := time.Now()
			c, _, err := e.StartCampaign(ctx, l.request(), "ada", cert.Engineer)
			require.NoError(b, err)
			start := time.Since(began)
			began = time.Now()
			for more := true; more; {
				more, err = e.Turn(ctx)
				require.NoError(b, err)
				l.running(b, c.ID)
			}
			begin := time.Since(began)
			runs, _, err := l.db.Runs(ctx, sqlite.RunFilter{State: "running"}, sqlite.Page{Limit: 1000})
			require.NoError(b, err)
			require.Len(b, runs, machines)
			n := 0
			for b.Loop() {
				_, err := l.db.UpdateRun(ctx, runs[n%len(runs)].ID, nil, func(r *cert.Run) (bool, error) { r.CancelRequested = !r.CancelRequested; return true, nil })
				require.NoError(b, err)
				_, err = e.Turn(ctx)
				require.NoError(b, err)
				n++
			}
			b.ReportMetric(float64(start.Milliseconds()), "start-ms")
			b.ReportMetric(float64(begin.Milliseconds())/float64(machines), "begin-ms/machine")
		})
	}
}

// running has the runs that wait begin.
func (l *lab) running(b *testing.B, campaign string) {
	ctx := context.Background()
	for {
		runs, _, err := l.db.Runs(ctx, sqlite.RunFilter{State: "queued"}, sqlite.Page{Limit: 1000})
		require.NoError(b, err)
		if len(runs) == 0 {
			return
		}
		for _, r := range runs {
			_, err := l.db.UpdateRun(ctx, r.ID, nil, func(r *cert.Run) (bool, error) { r.State = cert.Running; return true, nil })
			require.NoError(b, err)
		}
	}
}
