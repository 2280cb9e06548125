package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/locallab"
)

const suspending = "com.canonical.certlab::demo-suspend"

// Nodes of the local lab's MAAS, and what each step takes: none takes another's.
const (
	hanging  = "node-3" // hangs in a job
	killedOn = "node-1" // is being made ready when the controller is killed
)

// needsNodes skips what is only the local lab's MAAS's to show.
func (l *lab) needsNodes(t *testing.T) {
	t.Helper()
	if !l.local() {
		t.Skip("a real MAAS has machines of its own: docs/how-to/connect-maas.md says how to try it")
	}
}

// site writes the local lab's own programs, such as the one that shows a node's console.
func (l *lab) site(t *testing.T) string {
	t.Helper()
	data, err := locallab.SitePrograms()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "site-programs.tar.gz")
	require.NoError(t, os.WriteFile(path, data, 0o644))
	return path
}

// reservation is the part of `certlab reservation show --format json` that is looked at.
type reservation struct {
	ID       string `json:"id"`
	State    string `json:"state"`
	Hostname string `json:"hostname"`
	Ending   string `json:"ending"`
	Run      string `json:"run"`
	Blocked  string `json:"blocked"`
	Released string `json:"released"`
	Failure  any    `json:"failure"`
}

func (l *lab) reservation(t *testing.T, id string) reservation {
	t.Helper()
	var v reservation
	require.NoError(t, json.Unmarshal([]byte(l.mustCertlab(t, "reservation", "show", id, "--format", "json")), &v))
	return v
}

// reserved orders a machine, and returns without waiting for it.
func (l *lab) reserved(t *testing.T, args ...string) reservation {
	t.Helper()
	var v reservation
	args = append(append([]string{"machine"}, args...), "--no-wait", "--format", "json")
	out := l.mustCertlab(t, args...)
	var run struct {
		Reservation *reservation `json:"reservation"`
	}
	require.NoError(t, json.Unmarshal([]byte(out), &run))
	if run.Reservation != nil {
		return *run.Reservation
	}
	require.NoError(t, json.Unmarshal([]byte(out), &v))
	return v
}

// awaitReservation polls until ok accepts the reservation.
func (l *lab) awaitReservation(t *testing.T, id string, limit time.Duration, ok func(reservation) bool) reservation {
	t.Helper()
	var v reservation
	l.eventually(t, limit, func() string {
		if v = l.reservation(t, id); ok(v) {
			return ""
		}
		return fmt.Sprintf("reservation is %+v", v)
	})
	return v
}

// events returns what happened to a machine, the newest first: kind and text of each.
func (l *lab) events(t *testing.T, machine string) string {
	t.Helper()
	return l.mustCertlab(t, "machine", "events", machine)
}

// testBeginHang has a node deployed for a run, and lets it hang in the job that it does not return from.
func testBeginHang(t *testing.T, l *lab) {
	l.needsNodes(t)
	v := l.reserved(t, "run", suspending, "--query", hanging, "--reason", "a machine that never wakes up")
	l.hang = v.ID
	l.eventually(t, 3*time.Minute, func() string {
		r := l.exec(t, l.certlab, "lab", "exec", hanging, "--", "pgrep", "-f", "sleep 600")
		if r.code != 0 {
			return fmt.Sprintf("%s is not in the job: %+v", hanging, l.reservation(t, l.hang))
		}
		return ""
	})
	l.mustCertlab(t, "lab", "freeze", hanging)
	require.Contains(t, l.mustCertlab(t, "lab", "status"), "frozen")
}

// testEndHang waits until the controller has seen to it: power-cycled, resumed, delivered, given back.
func testEndHang(t *testing.T, l *lab) {
	l.needsNodes(t)
	v := l.awaitReservation(t, l.hang, 6*time.Minute, func(v reservation) bool { return v.State == "ended" })
	require.Nil(t, v.Failure)
	require.NotEmpty(t, v.Released)
	var run struct {
		State         string `json:"state"`
		Interruptions []struct {
			Job   string `json:"job"`
			Cause string `json:"cause"`
		} `json:"interruptions"`
	}
	shown := l.mustCertlab(t, "run", "show", v.Run, "--format", "json")
	require.NoError(t, json.Unmarshal([]byte(shown), &run))
	require.Equal(t, "completed", run.State, shown)
	require.Contains(t, shown, "machine-lost")
	s := l.submission(t, v.Run)
	require.Equal(t, suspending, s.Plan)
	require.Equal(t, "pass", s.outcome(t, "after-suspend"), "the run went on behind the job")
	require.Contains(t, l.events(t, hanging), "power")
}

// testReserveTranscript is docs/tutorial/reserve-a-machine.md.
func testReserveTranscript(t *testing.T, l *lab) {
	l.needsNodes(t)
	l.replay(t, readTranscript(t, filepath.Join(l.root, "docs", "tutorial", "reserve-a-machine.md")))
}

// testCampaignTranscript is docs/tutorial/first-sru-campaign.md.
func testCampaignTranscript(t *testing.T, l *lab) {
	l.needsNodes(t)
	l.replay(t, readTranscript(t, filepath.Join(l.root, "docs", "tutorial", "first-sru-campaign.md")))
	l.mustJuju(t, "config", "cert-controller", "fleet-limits=silence-seconds: 90")
}

// testKilledWhileProvisioning kills the controller's service while a machine is being made ready, and again while it is given back.
func testKilledWhileProvisioning(t *testing.T, l *lab) {
	l.needsNodes(t)
	v := l.reserved(t, "reserve", killedOn, "--reason", "the controller is killed meanwhile", "--hours", "1")
	kill := func() {
		require.Zero(t, l.inMachine(t, "cert-controller/0", "pkill", "-9", "-x", "certlabd").code)
		l.eventually(t, time.Minute, func() string {
			if r := l.exec(t, l.certlab, "site"); r.code != 0 {
				return r.String()
			}
			return ""
		})
	}
	l.awaitReservation(t, v.ID, time.Minute, func(v reservation) bool { return v.State != "queued" })
	kill()
	l.awaitReservation(t, v.ID, 3*time.Minute, func(v reservation) bool { return v.State == "ready" })
	require.Equal(t, killedOn, strings.TrimSpace(l.mustCertlab(t, "lab", "exec", killedOn, "--", "uname", "-n")))
	l.mustCertlab(t, "machine", "release", v.ID)
	kill()
	v = l.awaitReservation(t, v.ID, 2*time.Minute, func(v reservation) bool { return v.State == "ended" })
	require.Equal(t, "released", v.Ending)
	// The lab's own word for it, and not the controller's.
	require.Regexp(t, killedOn+` +off +\S+ +\S+ +Ready`, l.mustCertlab(t, "lab", "status"))
}
