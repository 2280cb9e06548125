package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

func TestARunsProgressIsSaidOncePerPhase(t *testing.T) {
	t.Parallel()
	var errs bytes.Buffer
	seen := runProgress(streams{err: &errs})
	at := func(phase string, done int, lost ...cert.LostJob) {
		seen(cert.Run{Hostname: "node1", State: cert.Running, Attempts: []cert.Attempt{{Progress: cert.Progress{Phase: phase, JobsDone: done, JobsPlanned: 9}, MachineLost: lost}}})
	}
	at("testing", 1)
	at("testing", 2)
	at("testing", 3, cert.LostJob{Job: "a::suspend"})
	at("delivering", 9, cert.LostJob{Job: "a::suspend"})
	seen(cert.Run{State: cert.Completed, Attempts: []cert.Attempt{{}}})
	require.Equal(t, "node1: testing (1 of 9 jobs)\nnode1: testing, after the machine was lost in a::suspend (3 of 9 jobs)\n"+
		"node1: delivering, after the machine was lost in a::suspend (9 of 9 jobs)\n", errs.String())
}

func TestWhatWasSeenOfAFailureIsShown(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	f := formatFlag{}
	v := cert.Reservation{ID: "v1", State: cert.ReservationEnded, Failure: &cert.Failure{Type: cert.FailDeploy, Message: "node1: no"}, Diagnosis: "Failed deployment\nend of the log: \x1b[31mboom\n"}
	require.NoError(t, f.showReservation(streams{out: &out}, v, nil))
	require.Contains(t, out.String(), "\nWhat was seen when it failed:\n  Failed deployment\n  end of the log: \uFFFD[31mboom\n")
	out.Reset()
	m := cert.MachineDetail{Deployments: []cert.Deployment{{Started: time.Now()}, {Started: time.Now(), Failure: v.Failure, Diagnosis: v.Diagnosis}}}
	require.NoError(t, f.showMachine(streams{out: &out}, m, nil))
	require.Contains(t, out.String(), "failed:\n  Failed deployment\n")
}

func TestWhyAMachineIsHeldBackComesBeforeItsManifest(t *testing.T) {
	t.Parallel()
	require.Equal(t, "failed three times", noteText(cert.FleetMachine{NoManifest: true, Why: "failed three times"}))
	require.Equal(t, "no manifest", noteText(cert.FleetMachine{NoManifest: true, Reason: "x"}))
}
