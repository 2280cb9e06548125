package maastest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/provider/maas/maastest"
)

func TestListsAreFilteredAndFiltersAreChecked(t *testing.T) {
	t.Parallel()
	r := maastest.New(maastest.Options{})
	p := newPerson(t, r, "admin", true)
	a := r.AddMachine(maastest.Machine{Hostname: "a", Cores: 4, MemoryMiB: 4096, Zone: "north", Pool: "lab", Tags: []string{"gpu", "fast"}, NICs: []maastest.NIC{{Name: "eth0", MAC: "aa:bb:cc:00:00:01"}}})
	b := r.AddMachine(maastest.Machine{Hostname: "b", Cores: 64, MemoryMiB: 262144, Zone: "south", Tags: []string{"gpu"}, Architecture: "arm64"})
	p.post("machines/?op=allocate", "system_id="+b, "agent_name=x")
	for _, c := range []struct {
		filters []string
		want    []string
	}{
		{[]string{"id=" + a, "id=" + b, "id=nosuch"}, []string{"a", "b"}}, {[]string{"id=nosuch"}, nil}, {[]string{"id=;drop"}, nil},
		{[]string{"hostname=a"}, []string{"a"}}, {[]string{"not_hostname=a"}, []string{"b"}}, {[]string{"zone=north"}, []string{"a"}},
		{[]string{"not_in_zone=north"}, []string{"b"}}, {[]string{"pool=lab", "pool=default"}, []string{"a", "b"}}, {[]string{"not_in_pool=default"}, []string{"a"}},
		{[]string{"tags=gpu"}, []string{"a", "b"}}, {[]string{"tags=gpu", "tags=fast"}, []string{"a"}}, {[]string{"not_tags=fast"}, []string{"b"}},
		{[]string{"status=ready"}, []string{"a"}}, {[]string{"status=ready", "status=allocated"}, []string{"a", "b"}}, {[]string{"not_status=ready"}, []string{"b"}},
		{[]string{"agent_name=x"}, []string{"b"}}, {[]string{"agent_name=y"}, nil}, {[]string{"owner=admin"}, []string{"b"}},
		{[]string{"mac_address=AA:BB:CC:00:00:01"}, []string{"a"}}, {[]string{"cpu_count=8"}, []string{"b"}}, {[]string{"mem=4096"}, []string{"a", "b"}},
		{[]string{"arch=arm64"}, []string{"b"}}, {[]string{"arch=amd64/generic"}, []string{"a"}}, {[]string{"power_state=off"}, []string{"a", "b"}},
		{[]string{"domain=maas"}, []string{"a", "b"}}, {[]string{"subnets=cidr:10.77.1.0/24", "fabrics=fabric-0"}, []string{"a", "b"}}, {[]string{"pod=x"}, nil},
	} {
		var got []string
		for _, m := range p.get("machines/", c.filters...).machines(t) {
			got = append(got, m["hostname"].(string))
		}
		require.Equal(t, c.want, got, "%v", c.filters)
	}
	for filter, complaint := range map[string]string{
		"status=bogus":     `{"status": ["Select a valid choice. bogus is not one of the available choices."]}`,
		"zone=nowhere":     `{"zone": ["No such zone(s): nowhere."]}`,
		"not_in_pool=none": `{"not_in_pool": ["No such pool(s): none."]}`,
		"tags=nosuch":      `{"tags": ["No such tag(s): 'nosuch'."]}`,
		"mac_address=zz":   `{"mac_address": ["Invalid parameter: invalid MAC address format"]}`,
		"cpu_count=many":   `{"cpu_count": ["Invalid CPU count: number required."]}`,
		"mem=lots":         `{"mem": ["Invalid memory: number of MiB required."]}`,
		"arch=z80":         `{"arch": ["Architecture not recognised."]}`,
		"colour=blue":      `{"colour": ["No such constraint."]}`,
		"owner=nobody":     `{"owner": ["No such owner: 'nobody'."]}`,
	} {
		got := p.get("machines/", filter)
		require.Equal(t, []any{400, "application/json; charset=utf-8", complaint}, []any{got.Status, got.Type, got.Body}, filter)
	}
	got := p.post("machines/?op=allocate", "tags=nosuch")
	require.Equal(t, []any{400, `{"tags": ["No such tag(s): 'nosuch'."]}`}, []any{got.Status, got.Body})
	got = p.post("machines/?op=allocate", "arch=arm64", "cpu_count=4", "agent_name=y")
	require.Equal(t, []any{409, `No available machine matches constraints: [('arch', ['arm64']), ('cpu_count', ['4'])] (resolved to "arch=arm64 cpu_count=4")`}, []any{got.Status, got.Body})
	require.Equal(t, "Ready", p.post("machines/?op=allocate", "not_tags=nosuch2", "dry_run=true").statusOr400(t), "an unknown tag to be without is an error too")
}

// statusOr400 is "Ready" for a validation error: the machine stays so.
func (a answer) statusOr400(t *testing.T) string {
	t.Helper()
	if a.Status == 400 {
		return "Ready"
	}
	return a.machine(t)["status_name"].(string)
}

func TestRequestsTakeEachFormThatMAASTakes(t *testing.T) {
	t.Parallel()
	r := maastest.New(maastest.Options{})
	p := newPerson(t, r, "admin", true)
	id := r.AddMachine(maastest.Machine{})
	for path, want := range map[string]int{
		"machines/" + id + "/op-query_power_state": 200, "machines/" + id + "/op-query_power_state/": 404, "machines/" + id + "/?op=query_power_state": 200,
		"machines/" + id: 404, "machines": 404, "nosuch/": 404, "machines/": 200, "machines/" + id + "/?op=nosuch": 400, "resourcepool/0/": 200,
		"pools/": 404, "machines/nosuch/": 404, "tags/nosuch/": 404, "scripts/memtester": 200, "scripts/memtester/": 404, "nodes/" + id + "/results/": 200,
		"nodes/" + id + "/results/current-commissioning/": 200, "nodes/" + id + "/results/current-testing/": 404, "maas/?op=get_config&name=node_timeout": 200,
		"maas/?op=get_config&name=nosuch": 400, "zones/default/": 200, "events/?op=query&level=LOUD": 400, "events/?op=query&after=1&before=2": 400,
	} {
		require.Equal(t, want, p.get(path).Status, path)
	}
	require.Equal(t, "Unknown API endpoint: /MAAS/api/2.0/nosuch/.", p.get("nosuch/").Body)
	require.Equal(t, "Unrecognised signature: method=GET op=nosuch", p.get("machines/?op=nosuch").Body)
	require.Equal(t, 405, p.ask("PUT", "machines/").Status)

	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	require.NoError(t, form.WriteField("system_id", id))
	require.NoError(t, form.WriteField("comment", "multipart"))
	require.NoError(t, form.Close())
	req, err := http.NewRequest("POST", "http://maas/MAAS/api/2.0/machines/?op=allocate", &body)
	require.NoError(t, err)
	req.Header.Set("Content-Type", form.FormDataContentType())
	require.NoError(t, maastest.Sign(req, p.key, "multi", time.Now()))
	res, err := p.client.Do(req)
	require.NoError(t, err)
	require.Contains(t, mustRead(t, res), `"status_name": "Allocated"`)
	log := r.Log()
	require.Equal(t, []any{"machines.allocate", id, maastest.Ready, maastest.Allocated, "admin", "multipart"},
		[]any{log[0].Op, log[0].SystemID, log[0].Before, log[0].After, log[0].User, log[0].Comment})
	require.Equal(t, 1, r.CallsOf("machines.allocate"))
}

func TestWhatSomebodyMayDependsOnWhoseTheMachineIs(t *testing.T) {
	t.Parallel()
	r := maastest.New(maastest.Options{})
	admin, bob := newPerson(t, r, "admin", true), newPerson(t, r, "bob", false)
	id := r.AddMachine(maastest.Machine{})
	require.Equal(t, 200, bob.post("machines/?op=allocate", "system_id="+id).Status)
	require.Equal(t, []int{200, 403}, []int{bob.post("machines/" + id + "/?op=lock").Status, bob.post("machines/" + id + "/?op=release").Status})
	require.Equal(t, 403, admin.ask("PUT", "machines/"+id+"/", "description=x").Status, "locked, for administrators too")
	require.Equal(t, 200, bob.post("machines/"+id+"/?op=unlock").Status)
	for op, want := range map[string]int{"power_parameters": 403, "get_token": 403, "details": 200, "query_power_state": 200} {
		require.Equal(t, want, bob.get("machines/"+id+"/?op="+op).Status, op)
	}
	for _, path := range []string{"resourcepools/", "zones/", "tags/", "scripts/"} {
		require.Equal(t, []any{403, ""}, []any{bob.post(path, "name=x").Status, bob.post(path, "name=x").Body}, path)
	}
	// A non-administrator may mark broken what is theirs, not mark it fixed, and yet release it: Broken alone keeps nothing away.
	require.Equal(t, 200, bob.post("machines/"+id+"/?op=mark_broken").Status)
	require.Equal(t, []any{"Broken", ""}, []any{status(r, id), r.State(id).Owner})
	require.Equal(t, 403, bob.post("machines/"+id+"/?op=mark_fixed").Status)
	require.Equal(t, 200, bob.post("machines/"+id+"/?op=release").Status)
	require.Equal(t, "Ready", status(r, id))
	require.Equal(t, 200, admin.post("machines/?op=allocate", "system_id="+id).Status)
	require.Empty(t, bob.get("machines/").machines(t), "somebody else's machine cannot be seen")
	require.Equal(t, []any{403, ""}, []any{bob.get("machines/" + id + "/").Status, bob.get("machines/" + id + "/").Body})
	require.Equal(t, "Can't start node: it hasn't been allocated.", func() string {
		free := r.AddMachine(maastest.Machine{})
		return admin.post("machines/" + free + "/?op=power_on").Body
	}())
}

func TestDeploymentsAreRefusedForGoodReasons(t *testing.T) {
	t.Parallel()
	r := maastest.New(maastest.Options{})
	p := newPerson(t, r, "admin", true)
	id := r.AddMachine(maastest.Machine{})
	alone := r.AddMachine(maastest.Machine{NoNetwork: true})
	for _, c := range []struct{ id, form, want string }{
		{id, "distro_series=warty", `{"distro_series": ["'warty' is not a valid distro_series.  It should be one of: '', 'ubuntu/jammy', 'ubuntu/noble'."]}`},
		{id, "hwe_kernel=ga-4.10", `{"hwe_kernel": ["ga-4.10 is not available for ubuntu/noble on amd64/generic."]}`},
		{alone, "distro_series=noble", `{"network": ["Node must be configured to use a network"]}`},
	} {
		a := p.post("machines/"+c.id+"/?op=deploy", c.form)
		require.Equal(t, []any{400, c.want}, []any{a.Status, a.Body})
		require.Equal(t, "Ready", status(r, c.id), "nothing was acquired on the way")
	}
}

func TestOwnersDataIsOneStoreAndGoneWithTheOwner(t *testing.T) {
	t.Parallel()
	inABubble(t, func(w world) {
		w.post("machines/?op=allocate", "agent_name=lab")
		w.do(w.id, "set_owner_data", "a=1")
		m := w.do(w.id, "set_workload_annotations", "b=2")
		require.Equal(w, map[string]any{"a": "1", "b": "2"}, m["owner_data"])
		require.Equal(w, m["owner_data"], m["workload_annotations"])
		require.Equal(w, map[string]any{"b": "2"}, w.do(w.id, "set_owner_data", "a=")["owner_data"])
		w.do(w.id, "power_on")
		time.Sleep(10 * time.Second)
		m = w.do(w.id, "release")
		require.Equal(w, []any{"Releasing", "admin", map[string]any{"b": "2"}}, []any{m["status_name"], m["owner"], m["owner_data"]})
		require.Empty(w, w.get("machines/", "agent_name=lab").machines(w), "the agent's name goes first")
		w.is("Ready", time.Minute)
		require.Empty(w, w.now().OwnerData)
		w.post("machines/?op=allocate", "agent_name=lab")
		w.do(w.id, "set_owner_data", "a=1")
		w.do(w.id, "mark_broken", "comment=flaky")
		s := w.now()
		require.Equal(w, []any{"", "", 0, "Broken"}, []any{s.Owner, s.AgentName, len(s.OwnerData), s.Status.String()})
	})
}

func TestASavedRegionGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := maastest.New(maastest.Options{})
		p := newPerson(t, r, "admin", true)
		deploying, free := r.AddMachine(maastest.Machine{}), r.AddMachine(maastest.Machine{Tags: []string{"x"}})
		p.do(deploying, "deploy", "user_data=IyEvYmluL3NoCg==")
		r.Fault(free, maastest.Fault{Kind: maastest.BMCRefuses})
		time.Sleep(2 * time.Minute)
		data, err := r.Save()
		require.NoError(t, err)
		r.Close()
		time.Sleep(time.Hour) // nothing happens meanwhile
		boots := make(chan maastest.Boot, 1)
		r, err = maastest.Load(maastest.Options{OnBoot: func(b maastest.Boot) { boots <- b }}, data)
		require.NoError(t, err)
		defer r.Close()
		p.region, p.client = r, http.Client{Transport: r.Transport()}
		require.Equal(t, "Deploying", p.get("machines/" + deploying + "/").machine(t)["status_name"])
		p.do(free, "deploy")
		time.Sleep(20 * time.Minute)
		require.Equal(t, []string{"Deployed", "Failed deployment"}, []string{status(r, deploying), status(r, free)})
		require.Equal(t, "#!/bin/sh\n", string((<-boots).UserData))
		require.NotContains(t, r.AddMachine(maastest.Machine{}), deploying)
	})
}

func TestWhatNobodyShouldHaveDoneIsRemembered(t *testing.T) {
	t.Parallel()
	inABubble(t, func(w world) {
		other := newPerson(w, w.region, "admin", true) // the same user, another key: another lab
		w.post("machines/?op=allocate", "agent_name=lab-a")
		require.Empty(w, w.region.Violations())
		w.do(w.id, "power_on")
		other.get("machines/" + w.id + "/?op=query_power_state")
		require.Empty(w, w.region.Violations())
		w.do(w.id, "deploy", "agent_name=lab-b")
		time.Sleep(time.Minute)
		other.do(w.id, "abort")
		other.do(w.id, "release")
		require.Equal(w, []string{
			w.id + ": machine.abort by admin with another key than that of admin, who holds it",
			w.id + ": machine.deploy as agent lab-b, though agent lab-a holds it",
			w.id + ": machine.release by admin with another key than that of admin, who holds it",
		}, w.region.Violations())
	})
}

func TestSettingsOfTheRegionAreObeyed(t *testing.T) {
	t.Parallel()
	inABubble(t, func(w world) {
		require.Equal(w, 200, w.post("maas/?op=set_config", "name=node_timeout", "value=1").Status)
		require.Equal(w, "1", w.get("maas/?op=get_config", "name=node_timeout").Body)
		w.fault(maastest.DeployHangs)
		w.do(w.id, "deploy")
		s := w.is("Failed deployment", 5*time.Minute)
		require.Equal(w, "Marking node failed - Node operation 'Deploying' timed out after 1 minutes.", s.StatusMessage)
		w.post("maas/?op=set_config", "name=enable_disk_erasing_on_release", "value=true")
		require.Equal(w, "Disk erasing", w.do(w.id, "release")["status_name"])
		w.post("maas/?op=set_config", "name=default_distro_series", "value=jammy")
		w.is("Ready", time.Hour)
		require.Equal(w, "jammy", w.do(w.id, "deploy")["distro_series"])
	})
}

func TestTheVersionIsToldToAnybody(t *testing.T) {
	t.Parallel()
	r := maastest.New(maastest.Options{Version: "3.5.2-16317-g.abc"})
	p := newPerson(t, r, "admin", true)
	p.key = "not:a:key"
	a := p.get("version/")
	require.Equal(t, 200, a.Status)
	require.Contains(t, a.Body, `"version": "3.5.2"`)
	require.Equal(t, 401, p.get("machines/").Status)
}

// Over a socket it is the same handler.
func TestARegionAnswersOverHTTP(t *testing.T) {
	t.Parallel()
	r := maastest.New(maastest.Options{})
	p := newPerson(t, r, "admin", true)
	id := r.AddMachine(maastest.Machine{})
	server := httptest.NewServer(r)
	defer server.Close()
	ask := func(nonce string) (*http.Response, error) {
		req, err := http.NewRequest("POST", server.URL+"/MAAS/api/2.0/machines/op-allocate", http.NoBody)
		require.NoError(t, err)
		require.NoError(t, maastest.Sign(req, p.key, nonce, time.Now()))
		return server.Client().Do(req)
	}
	r.Fault("", maastest.Fault{Kind: maastest.Cuts, After: true, Times: 1})
	_, err := ask("1")
	require.ErrorContains(t, err, "EOF")
	require.Equal(t, "Allocated", status(r, id))
	res, err := ask("2")
	require.NoError(t, err)
	require.Equal(t, []any{409, "No machine available."}, []any{res.StatusCode, mustRead(t, res)})
}

func TestAMachineThatNobodyCanSwitchWaitsForAPerson(t *testing.T) {
	t.Parallel()
	inABubble(t, func(w world) {
		id := w.region.AddMachine(maastest.Machine{PowerType: "manual"})
		require.JSONEq(w, `{"state":"unknown"}`, w.get("machines/"+id+"/?op=query_power_state").Body)
		w.do(id, "deploy")
		time.Sleep(10 * time.Minute)
		require.Equal(w, "Deploying", status(w.region, id))
		w.region.PowerChanged(id, true)
		time.Sleep(10 * time.Minute)
		require.Equal(w, "Deployed", status(w.region, id))
		w.do(id, "release")
		require.Equal(w, "Ready", status(w.region, id), "nobody can tell when it is off")
	})
}

func BenchmarkListOf1000Machines(b *testing.B) {
	r := maastest.New(maastest.Options{})
	p := newPerson(b, r, "admin", true)
	for i := range 1000 {
		r.AddMachine(maastest.Machine{Hostname: fmt.Sprint("n", i)})
	}
	for b.Loop() {
		a := p.get("machines/")
		if !json.Valid([]byte(a.Body)) {
			b.Fatal("no JSON")
		}
	}
}
