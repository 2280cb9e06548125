package trust_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

var nobody = cert.Reservation{ID: "v1"}

// TestFaultFiveFailAlike has five machines of a zone fail alike: that is one incident, and nobody is quarantined, no ladder runs and nothing new
// begins there, elsewhere it does. When the machine that is tried first goes well, it is over. A kill changes none of it.
func TestFaultFiveFailAlike(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	z1, z2 := b.add("z1", names("a", 8)...), b.add("z2", names("b", 8)...)
	run := cert.Run{ID: cert.NewID(cert.RunID, b.now), Machine: z1[7], Origin: cert.FromOrder, State: cert.Queued, Created: b.now, Spec: cert.Spec{Plan: "a::b"}}
	require.NoError(t, b.db.AddRun(b.ctx(), run))
	_, err := b.db.UpdateRun(b.ctx(), run.ID, nil, func(r *cert.Run) (bool, error) {
		return r.Report(cert.Report{Attempt: 1, Sequence: 1, Origin: cert.FromOrder, State: cert.Running}, b.now), nil
	})
	require.NoError(t, err)
	for _, m := range z2[:4] {
		require.Empty(t, b.deploy(m, ""))
	}
	for n, m := range z1[:5] {
		incident := b.deploy(m, cert.FailBoot)
		require.Equal(t, n == 4, incident != "", "the fifth is one too many")
		require.Equal(t, incident, b.deployedSuspect(m))
	}
	all := b.incidents()
	require.Len(t, all, 1)
	i := all[0]
	require.Equal(t, "zone z1", i.Scope+" "+i.Name)
	require.Equal(t, "5 of the 5 machines in use in zone z1 failed alike (boot) within 15m0s: taken for a fault of the lab, not of the machines", i.Text)
	require.Equal(t, i.ID, b.deploy(z1[5], cert.FailPower), "what fails there meanwhile belongs to it")
	require.Empty(t, b.deploy(z2[4], cert.FailPower))

	b.kill()
	b.pass(9 * time.Minute)
	require.Len(t, b.suspects, 6, "those before it are marked too")
	hold := b.trust.MayDeploy(b.place(z1[6]), nobody)
	require.Equal(t, i.ID, hold.Incident)
	require.Contains(t, hold.Text, "nothing new begins in zone z1 until one that is tried goes well (to end it: certlab machine resume --zone z1)")
	require.NotNil(t, b.trust.MayRecover(b.place(z1[0])))
	require.NotNil(t, b.trust.MayCycle(b.place(z1[0])))
	require.Nil(t, b.trust.MayDeploy(b.place(z2[0]), nobody))
	require.Nil(t, b.trust.MayRecover(b.place(z2[4])))
	got, err := b.db.Run(b.ctx(), run.ID)
	require.NoError(t, err)
	require.Equal(t, i.ID, got.Attempts[0].Suspect, "what runs there is suspect")
	require.Empty(t, b.calls)

	b.pass(2 * time.Minute)
	require.Len(t, b.calls, 1, "one is tried: %v", b.calls)
	b.checked(nil, "it did not boot")
	b.pass(time.Minute)
	require.Len(t, b.incidents(), 1)
	require.NotNil(t, b.trust.MayDeploy(b.place(z1[6]), nobody), "the try has failed")
	b.kill()
	b.pass(20 * time.Minute)
	require.Len(t, b.calls, 2)
	b.checked(cert.Counts{"pass": 4}, "")
	b.pass(time.Minute)
	i = b.incidents()[0]
	require.NotNil(t, i.Closed)
	require.Contains(t, i.Ending, "which was tried first, went well")
	require.Nil(t, b.trust.MayDeploy(b.place(z1[6]), nobody))
	b.pass(time.Hour)
	require.Len(t, b.calls, 2, "nobody is quarantined: %v", b.calls)
	require.Equal(t, []string{cert.NoticeIncidentOpened, cert.NoticeIncidentClosed}, b.notices())
	require.Contains(t, b.log(z1[0], "incident")[0], "5 of the 5 machines in use in zone z1 failed alike")
}

// deployedSuspect is the incident of a machine's last deployment.
func (b *bench) deployedSuspect(machine string) string {
	past, err := b.db.Deployments(b.ctx(), sqlite.DeploymentFilter{Machine: machine}, 1)
	require.NoError(b.t, err)
	return past[0].Suspect
}

// TestFaultSwitchAwayTenMinutes has a lab's switch go away for ten minutes: that is one incident, no machine is power-cycled, and it is over when
// half of them answer again; the others have some minutes more.
func TestFaultSwitchAwayTenMinutes(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	z1, z2 := b.add("z1", names("a", 6)...), b.add("z2", names("b", 6)...)
	heard := map[string]time.Time{}
	say := func(silent ...string) {
		var all []cert.Trial
		quiet := map[string]bool{}
		for _, m := range silent {
			quiet[m] = true
		}
		for _, m := range append(append([]string{}, z1...), z2...) {
			trial := cert.Trial{Place: b.place(m)}
			if quiet[m] {
				trial.Failure = cert.FailSilent
			} else {
				heard[m] = b.now
			}
			trial.At = heard[m]
			all = append(all, trial)
		}
		require.NoError(t, b.trust.Silence(b.ctx(), all))
	}
	say()
	b.pass(6 * time.Minute)
	say(z1[:4]...)
	require.Empty(t, b.incidents(), "four are not enough")
	require.Nil(t, b.trust.MayCycle(b.place(z1[0])))
	say(z1...)
	require.Len(t, b.incidents(), 1)
	require.Equal(t, "nothing is heard of 6 of the 6 machines in use in zone z1: taken for a fault of the lab, not of the machines", b.incidents()[0].Text)
	b.pass(4 * time.Minute)
	for _, m := range z1 {
		require.NotNil(t, b.trust.MayCycle(b.place(m)))
	}
	require.Nil(t, b.trust.MayCycle(b.place(z2[0])))
	say(z1[2:]...)
	require.Nil(t, b.incidents()[0].Closed)
	say(z1[3:]...)
	require.Equal(t, "3 of its 6 machines answer again", b.incidents()[0].Ending)
	require.Contains(t, b.trust.MayCycle(b.place(z1[5])).Text, "its machines have until")
	b.pass(6 * time.Minute)
	require.Nil(t, b.trust.MayCycle(b.place(z1[5])), "now it is its own")
	require.Empty(t, b.calls)
}

// TestFaultPowerOutageOfAZone has machines of a zone stay silent: one is let through to be power-cycled, and when it is heard again, so are the others.
func TestFaultPowerOutageOfAZone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	z1 := b.add("z1", names("a", 6)...)
	b.add("z2", "other")
	lost := b.now
	say := func(up ...string) {
		var all []cert.Trial
		for _, m := range z1 {
			trial := cert.Trial{Place: b.place(m), Failure: cert.FailSilent, At: lost}
			for _, u := range up {
				if u == m {
					trial.Failure, trial.At = "", b.now
				}
			}
			all = append(all, trial)
		}
		require.NoError(t, b.trust.Silence(b.ctx(), all))
	}
	b.now = b.now.Add(6 * time.Minute)
	say()
	b.pass(11 * time.Minute)
	let := ""
	for _, m := range z1 {
		if b.trust.MayCycle(b.place(m)) == nil {
			require.Empty(t, let, "one at a time")
			let = m
		}
	}
	require.NotEmpty(t, let)
	say(let)
	require.NotNil(t, b.incidents()[0].Closed)
	b.pass(6 * time.Minute)
	for _, m := range z1 {
		require.Nil(t, b.trust.MayCycle(b.place(m)))
	}
}

// TestFaultThreeInARow has a machine fail too often on its own: it gets nothing new while it is judged, and is quarantined when it is clear that it
// is no incident; a passed check brings it back, a failed one does not.
func TestFaultThreeInARow(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.conf.Limits.AutoReturn = true
	m := b.add("z1", "bad", "good")
	b.deploy(m[0], cert.FailBoot)
	b.deploy(m[0], cert.FailBoot)
	require.Nil(t, b.trust.MayDeploy(b.place(m[0]), nobody))
	b.deploy(m[0], cert.FailBoot)
	hold := b.trust.MayDeploy(b.place(m[0]), nobody)
	require.Contains(t, hold.Text, "bad has failed too often in a row; it is quarantined at 2026-11-23 08:15 UTC unless others fail alike")
	require.Nil(t, b.trust.MayDeploy(b.place(m[1]), nobody))
	b.pass(14 * time.Minute)
	require.Empty(t, b.calls)
	b.kill()
	b.pass(17 * time.Minute)
	require.Equal(t, []string{"quarantine bad"}, b.calls)
	q := b.row(m[0]).Quarantine
	require.True(t, q.Auto)
	require.Equal(t, "3 deployments in a row failed (quarantine-after is 3), the last one: bad: it did not boot", q.Reason)
	b.pass(50 * time.Minute)
	require.Len(t, b.calls, 1)
	b.pass(15 * time.Minute)
	require.Equal(t, []string{"quarantine bad", "check bad"}, b.calls)
	b.checked(cert.Counts{"pass": 3, "fail": 1}, "")
	b.pass(110 * time.Minute)
	require.Len(t, b.calls, 2, "the next check is later than the first")
	b.pass(30 * time.Minute)
	require.Equal(t, []string{"quarantine bad", "check bad", "check bad"}, b.calls)
	b.checked(cert.Counts{"pass": 4, "skip": 1}, "")
	b.pass(2 * time.Minute)
	require.Equal(t, "return bad", b.calls[3])
	require.Nil(t, b.row(m[0]).Quarantine)
	log := b.log(m[0], "checked")
	require.Regexp(t, `^failed its check \(return\): 1 failure of plan com.canonical.certlab::preflight in run r\w+$`, log[0])
	require.Equal(t, "passed its check (return)", log[1])
	require.Len(t, b.log(m[0], "returned"), 1)
}

// TestFaultHealthCheckFails has a health check fail: the machine is quarantined. One that people wait for, or that somebody has, is not checked.
func TestFaultHealthCheckFails(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.conf.Limits.CheckHours = 2
	m := b.add("z1", names("node", 9)...)
	b.busy[m[8]] = true
	require.NoError(t, b.db.ChangeFleet(b.ctx(), func(tx *sqlite.FleetTx) error {
		return tx.AddReservation(cert.Reservation{ID: cert.NewID(cert.ReservationID, b.now), Kind: cert.ReserveManual, State: cert.ReservationQueued, Holder: "ada",
			Want: cert.Want{Query: "node1"}, Created: b.now})
	}))
	b.pass(110 * time.Minute)
	require.Empty(t, b.calls)
	b.pass(10 * time.Minute)
	require.Equal(t, []string{"check node2", "check node3", "check node4"}, b.calls, "a few at once")
	b.checked(nil, "node2: deployed, and nothing was heard of it")
	b.pass(time.Minute)
	require.Equal(t, []string{"quarantine node2", "quarantine node3", "quarantine node4"}, sorted(b.calls[3:6]))
	require.Equal(t, "it failed its health check: node2: deployed, and nothing was heard of it", b.row(m[1]).Quarantine.Reason)
	b.kill()
	b.pass(5 * time.Minute)
	b.checked(cert.Counts{"pass": 4}, "")
	b.pass(time.Hour)
	require.True(t, b.row(m[4]).Passed)
	require.NotContains(t, b.calls, "check node1")
	require.NotContains(t, b.calls, "check node9")
}

// TestFaultCanaryFails has the provider change its version: nothing new is deployed until one machine has passed; the first one fails, the second
// passes. A person may end the wait.
func TestFaultCanaryFails(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.version = "3.4.1"
	m := b.add("z1", "a", "b")
	b.deploy(m[1], "")
	b.pass(time.Minute)
	require.Nil(t, b.trust.MayDeploy(b.place(m[0]), nobody), "the first version that is seen is trusted")
	b.version = "3.5.0"
	b.pass(time.Minute)
	require.Equal(t, []string{"check b"}, b.calls, "the one that has worked")
	hold := b.trust.MayDeploy(b.place(m[0]), nobody)
	require.Equal(t, "the provider has changed from version 3.4.1 to 3.5.0: b is deployed, checked and released first (to go on all the same: certlab machine resume)", hold.Text)
	open, err := b.db.OpenReservations(b.ctx())
	require.NoError(t, err)
	require.Nil(t, b.trust.MayDeploy(b.place(m[1]), open[0]), "the canary itself")
	b.checked(nil, "b: it did not boot")
	b.kill()
	b.pass(2 * time.Minute)
	require.Contains(t, b.trust.MayDeploy(b.place(m[0]), nobody).Text, "and the first machine that was deployed since has failed: b: b: it did not boot; another is tried")
	require.Nil(t, b.row(m[1]).Quarantine, "it may be the version")
	b.pass(20 * time.Minute)
	require.Equal(t, []string{"check b", "check a"}, b.calls)
	b.checked(cert.Counts{"pass": 4}, "")
	b.pass(time.Minute)
	require.Nil(t, b.trust.MayDeploy(b.place(m[0]), nobody))
	require.Equal(t, []string{cert.NoticeCanary, cert.NoticeCanary}, b.notices())

	b.version = "3.6.0"
	b.pass(time.Minute)
	require.NotNil(t, b.trust.MayDeploy(b.place(m[0]), nobody))
	ended, err := b.trust.Resumed(b.ctx(), "lab", "", "ada")
	require.NoError(t, err)
	require.True(t, ended)
	require.Nil(t, b.trust.MayDeploy(b.place(m[0]), nobody))
	b.kill()
	b.pass(time.Hour)
	require.Nil(t, b.trust.MayDeploy(b.place(m[0]), nobody), "it stays trusted")
}

// TestFaultLostMachineIsQuarantined has the watch give a machine up: it is put out of use, until a person returns it.
func TestFaultLostMachineIsQuarantined(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m := b.add("z1", "lost", "well")
	run := cert.Run{ID: cert.NewID(cert.RunID, b.now), Machine: m[0], Origin: cert.FromOrder, State: cert.Queued, Created: b.now, Spec: cert.Spec{Plan: "a::b"}}
	require.NoError(t, b.db.AddRun(b.ctx(), run))
	require.NoError(t, b.db.ChangeFleet(b.ctx(), func(tx *sqlite.FleetTx) error {
		return tx.PutCycle(cert.PowerCycle{Run: run.ID, Attempt: 1, Machine: m[0], At: b.now, Since: b.now, Step: cert.CycleGivenUp, Hands: "it was lost"})
	}))
	b.pass(2 * time.Minute)
	require.Equal(t, []string{"quarantine lost"}, b.calls)
	require.Equal(t, "it was lost", b.row(m[0]).Quarantine.Reason)
	require.NoError(t, b.Return(b.ctx(), m[0], "ada", "mended"))
	b.pass(time.Hour)
	require.Equal(t, []string{"quarantine lost", "return lost"}, b.calls)
}
