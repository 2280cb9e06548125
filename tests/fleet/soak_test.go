package fleet

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/order"
	"certlab/internal/provider/maas/maastest"
)

// program returns the path of certlabd: of those that make has built, or built for this test.
func program(t testing.TB) string {
	if dir := os.Getenv("CERTLAB_BIN"); dir != "" {
		return filepath.Join(dir, "certlabd")
	}
	path := filepath.Join(t.TempDir(), "certlabd")
	out, err := exec.Command("go", "build", "-o", path, "certlab/cmd/certlabd").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

// quick is a region whose machines take a second where real ones take minutes.
func quick() maastest.Timings {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	return maastest.Timings{PowerOn: ms(50), PowerOff: ms(100), Refusal: ms(100), PXE: ms(100), Install: ms(400), Boot: ms(200), Erase: ms(200), Test: ms(200)}
}

func soak(t *testing.T, seed uint64, length, between time.Duration) {
	ctx := t.Context()
	lab, err := Start(ctx, Options{Program: program(t), Dir: t.TempDir(), Machines: 20, Racks: 2, Timings: quick(), Seed: seed,
		Limits: order.FleetLimits{MaxPerPerson: 1000, MaxDeploying: 50, IncidentMachines: 1000}})
	require.NoError(t, err)
	defer lab.Close()
	bad, err := lab.Soak(ctx, seed, 24, length, between, writer{t})
	require.NoError(t, err, lab.Log())
	if len(bad) > 0 {
		path := filepath.Join(os.TempDir(), fmt.Sprintf("certlab-soak-fleet-%d.log", seed))
		_ = os.WriteFile(path, []byte(lab.Log()), 0o600)
		t.Logf("what certlabd printed is in %s", path)
	}
	require.Empty(t, bad)
}

// TestSoakFleetShort kills the controller while twenty machines are provisioned and released.
func TestSoakFleetShort(t *testing.T) {
	t.Parallel()
	if os.Getenv("SOAK_MINUTES") != "" {
		t.Skip("the long one is asked for")
	}
	soak(t, 4, 12*time.Second, 2*time.Second)
}

func campaignSoak(t *testing.T, seed uint64, machines int, between, limit time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var lab *Lab
	started := make(chan struct{})
	lab, err := Start(ctx, Options{Program: program(t), Dir: t.TempDir(), Machines: machines, Racks: 2, Timings: quick(), Seed: seed,
		Script: Kernels(func(id string) int { <-started; return lab.Position(id) }),
		Limits: order.FleetLimits{MaxPerPerson: 1000, MaxDeploying: 50, IncidentMachines: 1000}})
	require.NoError(t, err)
	close(started)
	defer lab.Close()
	bad, err := lab.CampaignSoak(ctx, seed, between, writer{t})
	if err != nil || len(bad) > 0 {
		path := filepath.Join(os.TempDir(), fmt.Sprintf("certlab-soak-campaign-%d.log", seed))
		_ = os.WriteFile(path, []byte(lab.Log()), 0o600)
		t.Logf("what certlabd printed is in %s", path)
	}
	require.NoError(t, err)
	require.Empty(t, bad)
}

// TestSoakCampaignShort kills the controller in the middle of a campaign.
func TestSoakCampaignShort(t *testing.T) {
	t.Parallel()
	if os.Getenv("SOAK_MINUTES") != "" {
		t.Skip("the long one is asked for")
	}
	campaignSoak(t, 5, 10, 3*time.Second, 3*time.Minute)
}

// TestSoakCampaign is part of what `make soak SEED=n MINUTES=m` runs: campaigns, one after the other, until the time is over.
func TestSoakCampaign(t *testing.T) {
	minutes, err := strconv.Atoi(os.Getenv("SOAK_MINUTES"))
	if err != nil {
		t.Skip("make soak SEED=1 MINUTES=30 asks for this one")
	}
	seed, err := strconv.ParseUint(os.Getenv("SOAK_SEED"), 10, 64)
	require.NoError(t, err, "SOAK_SEED must be a number")
	for end := time.Now().Add(time.Duration(minutes) * time.Minute); time.Now().Before(end); seed++ {
		campaignSoak(t, seed, 50, 3*time.Second, 10*time.Minute)
	}
}

// TestSoakFleet is part of what `make soak SEED=n MINUTES=m` runs.
func TestSoakFleet(t *testing.T) {
	minutes, err := strconv.Atoi(os.Getenv("SOAK_MINUTES"))
	if err != nil {
		t.Skip("make soak SEED=1 MINUTES=30 asks for this one")
	}
	seed, err := strconv.ParseUint(os.Getenv("SOAK_SEED"), 10, 64)
	require.NoError(t, err, "SOAK_SEED must be a number")
	soak(t, seed, time.Duration(minutes)*time.Minute, 4*time.Second)
}

// A writer passes what happens on to a test's log.
type writer struct{ t *testing.T }

func (w writer) Write(p []byte) (int, error) {
	w.t.Helper()
	w.t.Logf("%s", p)
	return len(p), nil
}
