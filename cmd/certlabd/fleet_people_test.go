package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/client"
	"certlab/internal/order"
	"certlab/internal/provider/maas/maastest"
)

// fleetLab is a lab that takes its machines from a simulated region.
type fleetLab struct {
	*lab
	region *maastest.Region
	system map[string]string // hostname → system id
}

var (
	scriptToken      = regexp.MustCompile(order.EnrolPrefix + `[A-Za-z0-9_-]+`)
	scriptDeployment = regexp.MustCompile(`\bd[0-9a-z]{26}\b`)
)

// newFleetLab starts a lab whose machines boot at once and whose agents say at once that they are ready.
func newFleetLab(t *testing.T, machines ...maastest.Machine) *fleetLab {
	f := &fleetLab{system: map[string]string{}}
	const soon = 5 * time.Millisecond
	f.region = maastest.New(maastest.Options{Seed: 1, OnBoot: f.boot, Timings: maastest.Timings{PowerOn: soon, PowerOff: soon, Refusal: soon, PXE: soon, Install: soon, Boot: soon, Erase: soon}})
	key := f.region.AddUser("certlab", true)
	for _, m := range machines {
		m.ProductUUID = uuidOf(m.Hostname)
		f.system[m.Hostname] = f.region.AddMachine(m)
	}
	server := httptest.NewServer(f.region)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close(); f.region.Close() })
	keyFile := filepath.Join(t.TempDir(), "maas.key")
	require.NoError(t, os.WriteFile(keyFile, []byte(key+"\n"), 0o600))
	f.lab = newLab(t)
	f.apply(func(d *order.ControllerDesired) {
		d.Fleet = order.Fleet{MAAS: order.MAAS{URL: server.URL + "/MAAS", KeyFile: keyFile}, Limits: order.FleetLimits{MaxHours: 48, MaxPerPerson: 2, MaxExtensions: 1}}
	})
	admin := f.person(cert.Admin)
	require.Eventually(t, func() bool {
		list, err := admin.Machines(t.Context(), url.Values{"state": {"free"}}, 0)
		return err == nil && len(list) == len(machines)
	}, patience, 20*time.Millisecond)
	return f
}

func uuidOf(hostname string) string { return fmt.Sprintf("00000000-0000-0000-0000-%012x", hostname) }

// boot is what a machine does that boots what was deployed. What it asks for is asked of the engine itself: how agents get in is others' test.
func (f *fleetLab) boot(b maastest.Boot) {
	token, deployment := scriptToken.FindString(string(b.UserData)), scriptDeployment.FindString(string(b.UserData))
	a := newAgent(f.t, 0)
	id := order.Identity{Hostname: b.Hostname, Architecture: "amd64", SystemID: b.SystemID, ProductUUID: uuidOf(b.Hostname)}
	status := order.Status{BootID: "boot-" + deployment, Release: "ubuntu@24.04", Kernel: "6.8.0-31-generic", CheckboxVersion: "5.0.0"}
	var err error
	for range 200 {
		var m cert.Machine
		m, err = f.service.db.Machine(f.t.Context(), b.SystemID)
		if err == nil {
			err = f.service.fleet.Booted(f.t.Context(), token)
		}
		if err == nil {
			_, err = f.service.fleet.Enrol(f.t.Context(), order.Enrolment{Deployment: deployment, Token: token, PublicKey: a.public, BootID: status.BootID, Identity: id})
		}
		if err == nil {
			err = f.service.fleet.AgentStatus(f.t.Context(), m.ID, status)
		}
		if err == nil || f.t.Context().Err() != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	f.t.Errorf("the agent of %s is not let in: %v", b.Hostname, err)
}

// as is a client of a person of that name.
func (f *fleetLab) as(name string, role cert.Role) *client.Client {
	var made cert.CreatedToken
	require.Equal(f.t, http.StatusCreated, f.call(f.socket(), "POST", "http://local/api/v1/tokens", cert.NewToken{Name: name, Role: string(role)}, &made))
	c, err := client.New(client.Options{URL: f.url(), CAs: f.cas()})
	require.NoError(f.t, err)
	redeemed, err := c.Redeem(f.t.Context(), made.Code)
	require.NoError(f.t, err)
	c, err = client.New(client.Options{URL: f.url(), CAs: f.cas(), Token: redeemed.Secret})
	require.NoError(f.t, err)
	return c
}

func (f *fleetLab) ready(c *client.Client, query string) cert.Reservation {
	v, err := c.Reserve(f.t.Context(), cert.NewReservation{Reason: "to look at it", Want: cert.Want{Query: query, Hours: 1}})
	require.NoError(f.t, err)
	v, err = c.Reservation(f.t.Context(), v.ID, 50*time.Second)
	require.NoError(f.t, err)
	require.Equal(f.t, cert.ReservationReady, v.State, "%+v", v.Failure)
	return v
}

func refuses(t *testing.T, err error, code cert.Code, message string) {
	t.Helper()
	hasCode(t, err, code)
	require.ErrorContains(t, err, message)
}

func TestFaultWhatPeopleAskOfMachinesThatIsNotTheirs(t *testing.T) {
	t.Parallel()
	f := newFleetLab(t, maastest.Machine{Hostname: "node1", Tags: []string{"gpu"}}, maastest.Machine{Hostname: "node2"})
	ctx := t.Context()
	ada, bob, eve := f.as("ada", cert.Engineer), f.as("bob", cert.Engineer), f.as("eve", cert.Viewer)

	// Queries.
	_, err := ada.Machines(ctx, url.Values{"query": {"tagz=gpu"}}, 0)
	refuses(t, err, cert.Invalid, `cannot select machines by "tagz" (did you mean tags?`)
	e, err := ada.Explain(ctx, "arch=riscv64,tags=gpu")
	require.NoError(t, err)
	require.Equal(t, "no machine matches arch=riscv64,tags=gpu: arch=riscv64 excludes all 2 (there are: amd64)", e.Text)
	reserve := func(c *client.Client, want cert.Want) error {
		_, err := c.Reserve(ctx, cert.NewReservation{Reason: "why not", Want: want})
		return err
	}
	refuses(t, reserve(ada, cert.Want{Query: "memory>=64"}), cert.Invalid, `cannot compare memory with "64": give its unit`)
	require.ErrorContains(t, reserve(ada, cert.Want{Query: "arch=riscv64"}), "arch=riscv64 excludes all 2 (there are: amd64)")

	// Limits, and rights.
	refuses(t, reserve(ada, cert.Want{Query: "node1", Hours: 49}), cert.Invalid, "48")
	refuses(t, reserve(eve, cert.Want{Query: "node1"}), cert.Forbidden, "this needs the role engineer")
	_, err = ada.Reserve(ctx, cert.NewReservation{Reason: "at once", Priority: 1, Want: cert.Want{Query: "node1"}})
	refuses(t, err, cert.Forbidden, "priority 1")
	_, err = ada.Reserve(ctx, cert.NewReservation{Want: cert.Want{Query: "node1"}})
	refuses(t, err, cert.Invalid, "cannot reserve a machine: say why (reason)")
	list, err := ada.Reservations(ctx, url.Values{}, 0)
	require.NoError(t, err)
	require.Empty(t, list, "nothing came of any of it")

	// Another person's machine.
	v := f.ready(ada, "tags=gpu")
	require.Equal(t, "node1", v.Hostname)
	m, err := bob.Machine(ctx, "node1")
	require.NoError(t, err)
	require.Equal(t, []string{"reserved", "ada", "to look at it"}, []string{string(m.State), m.Holder, m.Reason})
	_, err = bob.Extend(ctx, v.ID, cert.ExtendReservation{Hours: 1})
	refuses(t, err, cert.Forbidden, "ada")
	_, err = bob.Release(ctx, "node1", cert.ReleaseReservation{})
	refuses(t, err, cert.Forbidden, "ada")
	_, err = bob.Power(ctx, "node1", cert.PowerMachine{Action: "off"})
	refuses(t, err, cert.Forbidden, "ada")
	_, err = bob.StartRun(ctx, cert.NewRun{Machine: "node1", Spec: cert.Spec{Plan: "a::b"}})
	require.ErrorContains(t, err, "ada")
	_, err = bob.Release(ctx, "node2", cert.ReleaseReservation{})
	refuses(t, err, cert.NotFound, "node2")
	_, err = bob.Power(ctx, "node2", cert.PowerMachine{Action: "cycle"})
	require.ErrorContains(t, err, "node2")
	_, err = bob.Power(ctx, "node1", cert.PowerMachine{Action: "explode"})
	refuses(t, err, cert.Invalid, `cannot do "explode" to a machine's power: there are on, off, cycle and query`)
	same, err := ada.Reservation(ctx, v.ID, 0)
	require.NoError(t, err)
	require.Equal(t, []any{cert.ReservationReady, v.Until, 0}, []any{same.State, same.Until, same.Extended}, "it is as it was")

	// One's own.
	more, err := ada.Extend(ctx, "node1", cert.ExtendReservation{Hours: 2})
	require.NoError(t, err)
	require.Equal(t, v.Until.Add(2*time.Hour), *more.Until)
	_, err = ada.Extend(ctx, "node1", cert.ExtendReservation{Hours: 2})
	require.ErrorContains(t, err, "extended", "only once at this site")
	_, err = ada.Extend(ctx, "node1", cert.ExtendReservation{})
	refuses(t, err, cert.Invalid, "cannot extend the reservation: give either hours, on top of what it has, or until")
	r, err := ada.StartRun(ctx, cert.NewRun{Machine: "node1", Spec: cert.Spec{Plan: "a::b"}})
	require.NoError(t, err, "its holder may")
	require.Equal(t, "ada", r.RequestedBy)
	_, err = bob.CancelRun(ctx, r.ID)
	refuses(t, err, cert.Forbidden, "cannot cancel run "+r.ID+": its machine is ada's: only they or an admin may")
	_, err = ada.CancelRun(ctx, r.ID)
	require.NoError(t, err)
	gone, err := ada.Release(ctx, "node1", cert.ReleaseReservation{Reason: "done"})
	require.NoError(t, err)
	require.Equal(t, "ada", gone.EndedBy)
	_, err = ada.Release(ctx, v.ID, cert.ReleaseReservation{})
	if err != nil {
		require.ErrorContains(t, err, "released") // or it is idempotent
	}
	require.Eventually(t, func() bool {
		m, err := ada.Machine(ctx, "node1")
		return err == nil && m.State == cert.MachineFree
	}, patience, 50*time.Millisecond)
	events, err := ada.MachineEvents(ctx, "node1", nil, 0)
	require.NoError(t, err)
	require.NotEmpty(t, events)
	require.Empty(t, f.region.Violations())
}

func TestFaultDossiersThatCannotBeAsSaid(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 0)
	l := newLab(t, a)
	engineer, viewer := l.person(cert.Engineer), l.person(cert.Viewer)
	ctx := t.Context()
	_, err := viewer.ImportDossiers(ctx, strings.NewReader("machine,rack\nnode0,r1\n"), true)
	refuses(t, err, cert.Forbidden, "this needs the role engineer")
	_, err = engineer.ImportDossiers(ctx, strings.NewReader("machine,racks\nnode0,r1\n"), false)
	refuses(t, err, cert.Invalid, `cannot import dossiers: there is no column "racks" (there are: machine, cid, rack,`)
	_, err = engineer.ImportDossiers(ctx, strings.NewReader("machine,rack\nnode0,r1\nnode0,r2\n"), false)
	refuses(t, err, cert.Invalid, "cannot import dossiers: lines 2 and 3 are both about node0 (leave one of them)")
	_, err = engineer.ImportDossiers(ctx, strings.NewReader("machine,rack\nnode0,r1\nnode9,r2\n"), false)
	refuses(t, err, cert.NotFound, "cannot import dossiers: no machine is called node9 (line 3)")
	d, err := engineer.Dossier(ctx, "node0")
	require.NoError(t, err)
	require.Zero(t, d.Version, "nothing was changed")

	const secret = "SECRETSECRET123"
	done, err := engineer.ImportDossiers(ctx, strings.NewReader("machine,rack,manifest:com.example::has_camera,env:TARGET,secure_id\nnode0,r1,TRUE,10.0.0.9,"+secret+"\n"), false)
	require.NoError(t, err)
	require.Equal(t, 1, done.Changed)
	stale := d
	stale.Rack = "r7"
	_, err = engineer.PutDossier(ctx, "node0", stale)
	refuses(t, err, cert.Conflict, "cannot change the dossier of node0: it was changed by test engineer since (version 0 is now")
	var csv bytes.Buffer
	require.NoError(t, viewer.ExportDossiers(ctx, &csv))
	require.Equal(t, "machine,cid,rack,position,contact,notes,shared,env:TARGET,manifest:com.example::has_camera\nnode0,,r1,,,,,10.0.0.9,true\n", csv.String())
	for _, path := range []string{"/api/v1/machines/node0", "/api/v1/machines/node0/dossier", "/api/v1/machines/node0/dossier/history", "/api/v1/dossiers.csv"} {
		resp, err := l.socket().Get("http://local" + path)
		require.NoError(t, err)
		var text bytes.Buffer
		_, err = text.ReadFrom(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.NotContains(t, text.String(), secret, path)
	}
	require.NotContains(t, l.log.String(), secret)

	// The agent is told what the dossiers say; what the whole zone says stands behind.
	r, err := engineer.StartRun(ctx, cert.NewRun{Machine: "node0", Spec: cert.Spec{Plan: "a::b"}})
	require.NoError(t, err)
	p := a.poll(0)
	require.Len(t, p.Orders, 1)
	require.Equal(t, map[string]string{"com.example::has_camera": "true"}, p.Orders[0].Manifest)
	require.Equal(t, map[string]string{"TARGET": "10.0.0.9"}, p.Orders[0].SiteEnvironment)
	run, err := engineer.Run(ctx, r.ID)
	require.NoError(t, err)
	require.False(t, run.NoManifest)

	// A subject of a run that a person orders is put back after it, whatever they say: nobody deploys the machine anew.
	r, err = engineer.StartRun(ctx, cert.NewRun{Machine: "node0", Spec: cert.Spec{Plan: "a::b", Subject: &order.Subject{Kind: order.SubjectPackages, Series: "noble", Source: "mesa",
		Version: "24.0.1", Packages: []order.Package{{Name: "libgbm1", Version: "24.0.1"}}}}})
	require.NoError(t, err)
	require.True(t, r.Spec.Subject.Restore)
	_, err = engineer.StartRun(ctx, cert.NewRun{Machine: "node0", Spec: cert.Spec{Plan: "a::b", Subject: &order.Subject{Kind: order.SubjectPackages, Series: "noble", Source: "mesa",
		Version: "24.0.1", Packages: []order.Package{{Name: "-oDebug=1"}}}}})
	require.ErrorContains(t, err, `cannot use "-oDebug=1 " as the subject's package`)
}

// TestFaultARunWithoutAManifestIsMarked: the controller says so when it gives the order out; an agent that has entries of its own says otherwise.
func TestFaultARunWithoutAManifestIsMarked(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 0)
	l := newLab(t, a)
	engineer := l.person(cert.Engineer)
	r, err := engineer.StartRun(t.Context(), cert.NewRun{Machine: "node0", Spec: cert.Spec{Plan: "a::b"}})
	require.NoError(t, err)
	marked := func() bool {
		run, err := engineer.Run(t.Context(), r.ID)
		require.NoError(t, err)
		return run.NoManifest
	}
	require.False(t, marked(), "nothing was given out yet")
	require.Len(t, a.poll(0).Orders, 1)
	require.True(t, marked())
	report := running(r.ID, 1)
	report.Origin = order.FromOrder
	_, status := a.report(report)
	require.Equal(t, http.StatusOK, status)
	require.True(t, marked(), "an agent of the release before does not say")
	no := false
	report.Sequence, report.NoManifest = 2, &no
	_, status = a.report(report)
	require.Equal(t, http.StatusOK, status)
	require.False(t, marked(), "the charm's option has one")
}

// TestRunsThatShareWait: a poll that waits is woken when what its run waits for is free.
func TestRunsThatShareWait(t *testing.T) {
	t.Parallel()
	a, b := newAgent(t, 0), newAgent(t, 1)
	l := newLab(t, a, b)
	engineer := l.person(cert.Engineer)
	_, err := engineer.ImportDossiers(t.Context(), strings.NewReader("machine,shared\nnode0,iperf-a\nnode1,iperf-a ap-1\n"), false)
	require.NoError(t, err)
	start := func(machine string) cert.Run {
		r, err := engineer.StartRun(t.Context(), cert.NewRun{Machine: machine, Spec: cert.Spec{Plan: "a::b"}})
		require.NoError(t, err)
		return r
	}
	first, second := start("node0"), start("node1")
	require.Len(t, a.poll(0).Orders, 1)
	require.Empty(t, b.poll(0).Orders)
	waiting, err := engineer.Run(t.Context(), second.ID)
	require.NoError(t, err)
	require.Equal(t, "iperf-a, held by run "+first.ID+" on node0", waiting.Waits)
	got := make(chan order.Poll, 1)
	go func() { got <- b.poll(55) }()
	report := running(first.ID, 1)
	report.Origin = order.FromOrder
	_, status := a.report(report)
	require.Equal(t, http.StatusOK, status)
	end := finished(report)
	end.State, end.Failure = order.Failed, &order.Failure{Type: order.FailAgent, Message: "enough"}
	_, status = a.finish(end)
	require.Equal(t, http.StatusOK, status)
	require.Len(t, (<-got).Orders, 1)
}
