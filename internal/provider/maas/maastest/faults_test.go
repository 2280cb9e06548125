package maastest_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/provider/maas/maastest"
)

// world is a region with a machine and somebody who uses it.
type world struct {
	*testing.T
	*person
	id    string
	boots *atomic.Int64
	last  *atomic.Pointer[maastest.Boot]
}

// inABubble runs f with a region of one machine, in a bubble: time passes when everybody waits.
func inABubble(t *testing.T, f func(w world)) {
	synctest.Test(t, func(t *testing.T) {
		w := world{T: t, boots: new(atomic.Int64), last: new(atomic.Pointer[maastest.Boot])}
		r := maastest.New(maastest.Options{OnBoot: func(b maastest.Boot) { w.boots.Add(1); w.last.Store(&b) }})
		defer r.Close()
		w.person = newPerson(t, r, "admin", true)
		w.id = r.AddMachine(maastest.Machine{Hostname: "node1", Zone: "north", Rack: "rack1"})
		f(w)
	})
}

func (w world) now() maastest.MachineState { return w.region.State(w.id) }

// is waits, at most for a time, until the machine has a status; then it is as it says.
func (w world) is(status string, within time.Duration) maastest.MachineState {
	w.Helper()
	for until := time.Now().Add(within); w.now().Status.String() != status; time.Sleep(time.Second) {
		require.False(w, time.Now().After(until), "after %v it is %s (%s), not %s", within, w.now().Status, w.now().StatusMessage, status)
	}
	return w.now()
}

func (w world) fault(kind maastest.FaultKind) { w.region.Fault(w.id, maastest.Fault{Kind: kind}) }

func TestMachinesFailInEachWay(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(w world){
		"a BMC that refuses fails the deployment within seconds": func(w world) {
			w.fault(maastest.BMCRefuses)
			w.do(w.id, "deploy")
			s := w.is("Failed deployment", 5*time.Second)
			require.True(w, strings.HasPrefix(s.StatusMessage, "Failed to power on node - "), s.StatusMessage)
			require.Equal(w, "admin", s.Owner)
			require.JSONEq(w, `{"state":"error"}`, w.get("machines/"+w.id+"/?op=query_power_state").Body)
			w.region.Clear(w.id)
			require.JSONEq(w, `{"state":"off"}`, w.get("machines/"+w.id+"/?op=query_power_state").Body)
		},
		"a BMC that hangs fails it after five minutes": func(w world) {
			w.fault(maastest.BMCHangs)
			w.do(w.id, "deploy")
			time.Sleep(4 * time.Minute)
			require.Equal(w, "Deploying", w.now().Status.String())
			w.is("Failed deployment", 2*time.Minute)
			started := time.Now()
			w.get("machines/" + w.id + "/?op=query_power_state")
			require.Equal(w, time.Minute, time.Since(started))
		},
		"a BMC that lies leaves a machine off that is said to be on": func(w world) {
			w.region.Fault(w.id, maastest.Fault{Kind: maastest.BMCLies, Says: "on"})
			w.do(w.id, "deploy")
			time.Sleep(10 * time.Second)
			require.Equal(w, []any{"on", false}, []any{w.now().Power, w.now().On})
			s := w.is("Failed deployment", 32*time.Minute)
			require.Equal(w, "Marking node failed - Node operation 'Deploying' timed out after 30 minutes.", s.StatusMessage)
			require.JSONEq(w, `{"state":"on"}`, w.get("machines/"+w.id+"/?op=query_power_state").Body)
		},
		"an installer that fails leaves its log, and a machine that is on and owned": func(w world) {
			w.region.Fault(w.id, maastest.Fault{Kind: maastest.DeployFails, Message: "No space left on device", Times: 1})
			w.do(w.id, "deploy")
			s := w.is("Failed deployment", 10*time.Minute)
			require.Equal(w, []any{"admin", "on", "Marking node failed - Installation failed (refer to the installation log for more information)."},
				[]any{s.Owner, s.Power, s.StatusMessage})
			require.Contains(w, w.get("nodes/"+w.id+"/results/current-installation/?op=download", "filetype=txt").Body, "No space left on device")
			var sets []struct {
				Status  int
				Results []struct{ Stdout string }
			}
			require.NoError(w, json.Unmarshal([]byte(w.get("nodes/"+w.id+"/results/", "type=installation", "include_output=true").Body), &sets))
			out, err := base64.StdEncoding.DecodeString(sets[0].Results[0].Stdout)
			require.NoError(w, err)
			require.Equal(w, 3, sets[0].Status)
			require.Contains(w, string(out), "No space left on device")
			require.Equal(w, 409, w.post("machines/"+w.id+"/?op=deploy").Status)
			// Released and deployed again, it works: the fault was to strike once.
			w.do(w.id, "release")
			w.is("Ready", time.Minute)
			w.do(w.id, "deploy")
			w.is("Deployed", 20*time.Minute)
		},
		"an installer of which nothing is heard times out": func(w world) {
			w.fault(maastest.DeployHangs)
			w.do(w.id, "deploy")
			time.Sleep(30 * time.Minute)
			require.Equal(w, "Deploying", w.now().Status.String())
			s := w.is("Failed deployment", 5*time.Minute)
			require.Equal(w, "Marking node failed - Node operation 'Deploying' timed out after 30 minutes.", s.StatusMessage)
			require.True(w, s.On)
		},
		"a machine can be Deployed and run nothing": func(w world) {
			w.region.Fault(w.id, maastest.Fault{Kind: maastest.NeverBoots, Times: 1})
			w.do(w.id, "deploy")
			w.is("Deployed", 20*time.Minute)
			time.Sleep(time.Hour)
			require.Zero(w, w.boots.Load())
			w.do(w.id, "power_off")
			time.Sleep(10 * time.Second)
			w.do(w.id, "power_on")
			time.Sleep(time.Hour)
			require.Zero(w, w.boots.Load(), "what is on the disk is as dead as before")
		},
		"another release and kernel can boot than was asked for": func(w world) {
			w.region.Fault("release:noble", maastest.Fault{Kind: maastest.BootsOther, Release: "jammy", Kernel: "ga-22.04"})
			w.do(w.id, "deploy", "distro_series=noble", "hwe_kernel=hwe-24.04")
			s := w.is("Deployed", 20*time.Minute)
			synctest.Wait()
			require.Equal(w, []string{"noble", "hwe-24.04", "jammy", "ga-22.04"}, []string{s.Series, s.Kernel, w.last.Load().Release, w.last.Load().Kernel})
		},
		"a release can hang and time out": func(w world) {
			w.do(w.id, "deploy")
			w.is("Deployed", 20*time.Minute)
			w.region.Fault(w.id, maastest.Fault{Kind: maastest.ReleaseHangs, Times: 1})
			w.do(w.id, "release")
			time.Sleep(4 * time.Minute)
			require.Equal(w, "Releasing", w.now().Status.String())
			s := w.is("Releasing failed", 3*time.Minute)
			require.Equal(w, []any{"admin", "Marking node failed - Node operation 'Releasing' timed out after 5 minutes."}, []any{s.Owner, s.StatusMessage})
			w.do(w.id, "release")
			w.is("Ready", time.Minute)
		},
		"erasing disks works, fails, and can be aborted": func(w world) {
			w.post("machines/?op=allocate")
			w.region.Fault(w.id, maastest.Fault{Kind: maastest.EraseFails, Times: 1})
			w.do(w.id, "release", "erase=true")
			require.Equal(w, "Disk erasing", w.now().Status.String())
			s := w.is("Failed disk erasing", 10*time.Minute)
			require.Equal(w, "Marking node failed - Failed to erase disks.", s.StatusMessage)
			w.do(w.id, "release", "erase=true", "quick_erase=true")
			w.is("Ready", 10*time.Minute)
			require.Empty(w, w.now().Owner)
		},
		"an abort can hang": func(w world) {
			w.do(w.id, "deploy")
			time.Sleep(5 * time.Second)
			w.fault(maastest.AbortHangs)
			w.do(w.id, "abort")
			time.Sleep(time.Minute)
			s := w.now()
			require.Equal(w, []any{"Deploying", "Aborted deployment"}, []any{s.Status.String(), s.StatusMessage})
			w.is("Failed deployment", time.Hour)
		},
		"an abort ends in Allocated once the machine is off": func(w world) {
			w.do(w.id, "deploy")
			time.Sleep(5 * time.Second)
			require.Equal(w, "Deploying", w.do(w.id, "abort")["status_name"])
			s := w.is("Allocated", 5*time.Second)
			require.Equal(w, []any{"off", "admin", "noble"}, []any{s.Power, s.Owner, s.Series})
			w.is("Allocated", time.Hour)
		},
		"a rack that is gone answers 503 without saying when to come back": func(w world) {
			w.region.Fault("rack:rack1", maastest.Fault{Kind: maastest.RackGone})
			for _, op := range []string{"deploy", "power_off"} {
				a := w.post("machines/" + w.id + "/?op=" + op)
				require.Equal(w, []any{503, "No rack controllers can access the BMC of node node1", ""}, []any{a.Status, a.Body, a.Header.Get("Retry-After")}, op)
			}
			require.Equal(w, []any{"Ready", ""}, []any{w.now().Status.String(), w.now().Owner})
			require.Equal(w, 503, w.get("machines/"+w.id+"/?op=query_power_state").Status)
			w.region.Clear("rack:rack1")
			w.do(w.id, "deploy")
			w.is("Deployed", 20*time.Minute)
		},
		"a second power action within seconds is refused, the same one again is not": func(w world) {
			w.post("machines/?op=allocate")
			w.do(w.id, "power_on")
			w.do(w.id, "power_on")
			a := w.post("machines/" + w.id + "/?op=power_off")
			require.Equal(w, []any{503, "Unable to change power state to 'off' for node node1: another action is already in progress for that node."}, []any{a.Status, a.Body})
			time.Sleep(5 * time.Second)
			require.True(w, w.now().On)
			w.do(w.id, "power_off", "stop_mode=soft")
		},
		"hardware tests fail, and their failure can be overridden": func(w world) {
			w.region.Fault(w.id, maastest.Fault{Kind: maastest.TestFails, Message: "bad sector", Times: 1})
			w.do(w.id, "test")
			require.Equal(w, "admin", w.now().Owner, "a machine that is tested is its tester's")
			w.is("Failed testing", time.Hour)
			require.Equal(w, 409, w.post("machines/?op=allocate").Status)
			require.Contains(w, w.get("nodes/"+w.id+"/results/current-testing/?op=download").Body, "bad sector")
			w.do(w.id, "override_failed_testing")
			require.Equal(w, []any{"Ready", ""}, []any{w.now().Status.String(), w.now().Owner})
			w.do(w.id, "test")
			require.Empty(w, w.is("Ready", time.Hour).Owner)
		},
	} {
		t.Run(name, func(t *testing.T) { inABubble(t, f) })
	}
}

func TestRequestsFailBeforeOrAfterWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	allocate := func(w world) (answer, error) { return w.try("POST", "machines/?op=allocate", "system_id="+w.id) }
	for name, f := range map[string]func(w world){
		"a gateway's 504 with and without the effect": func(w world) {
			w.region.Fault("", func() maastest.Fault { f := maastest.Gateway(504, false); f.Op, f.Times = "allocate", 1; return f }())
			a, err := allocate(w)
			require.NoError(w, err)
			require.Equal(w, []any{504, "Ready"}, []any{a.Status, w.now().Status.String()})
			w.region.Fault("", func() maastest.Fault {
				f := maastest.Gateway(504, true)
				f.Op, f.Times = "machines.allocate", 1
				return f
			}())
			a, err = allocate(w)
			require.NoError(w, err)
			require.Equal(w, []any{504, "Allocated"}, []any{a.Status, w.now().Status.String()})
			log := w.region.Log()
			require.True(w, log[len(log)-1].Lost)
		},
		"a cut connection with and without the effect": func(w world) {
			w.region.Fault(w.id, maastest.Fault{Kind: maastest.Cuts, Times: 1})
			_, err := allocate(w)
			require.True(w, maastest.IsCut(err), "%v", err)
			require.Equal(w, "Ready", w.now().Status.String())
			w.region.Fault(w.id, maastest.Fault{Kind: maastest.Cuts, Times: 1, After: true})
			_, err = allocate(w)
			require.True(w, maastest.IsCut(err), "%v", err)
			require.Equal(w, "Allocated", w.now().Status.String())
		},
		"a database that could not serialise": func(w world) {
			f := maastest.Overloaded()
			f.Times = 1
			w.region.Fault("", f)
			a := w.get("machines/")
			require.Equal(w, []any{503, "10"}, []any{a.Status, a.Header.Get("Retry-After")})
			require.Equal(w, 200, w.get("machines/").Status)
		},
		"half an answer": func(w world) {
			w.region.Fault("", maastest.Fault{Kind: maastest.Truncates, Times: 1, Op: "machines.read"})
			a := w.get("machines/")
			require.Equal(w, 200, a.Status)
			require.False(w, json.Valid([]byte(a.Body)))
		},
		"a slow answer, and a client that does not wait for it": func(w world) {
			w.region.Fault("", maastest.Fault{Kind: maastest.Slow, Delay: 90 * time.Second, After: true, Op: "POST"})
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, "POST", "http://maas/MAAS/api/2.0/machines/op-allocate", http.NoBody)
			require.NoError(w, err)
			require.NoError(w, maastest.Sign(req, w.key, "x", time.Now()))
			_, err = w.client.Do(req)
			require.ErrorIs(w, err, context.DeadlineExceeded)
			require.Equal(w, "Allocated", w.now().Status.String())
		},
		"somebody else takes the machine between the list and the deployment": func(w world) {
			w.region.Fault(w.id, maastest.Fault{Kind: maastest.Taken, By: "juju", Times: 1})
			require.Equal(w, "Ready", w.get("machines/").machines(w)[0]["status_name"])
			a, err := allocate(w)
			require.NoError(w, err)
			require.Equal(w, []any{409, "No machine with system ID " + w.id + " available.", "juju"}, []any{a.Status, a.Body, w.now().Owner})
			bob := newPerson(w, w.region, "bob", false)
			require.Equal(w, 403, bob.post("machines/"+w.id+"/?op=deploy").Status)
			free := w.region.AddMachine(maastest.Machine{Hostname: "node2"})
			w.region.Fault(free, maastest.Fault{Kind: maastest.Taken, Times: 1})
			require.Equal(w, "No machine available.", w.post("machines/?op=allocate").Body)
			require.Equal(w, "somebody-else", w.region.State(free).Owner)
			// An administrator may deploy what is somebody else's: the region says so.
			w.do(w.id, "deploy")
			require.Len(w, w.region.Violations(), 1)
		},
		"the machine is deleted": func(w world) {
			w.region.Fault(w.id, maastest.Fault{Kind: maastest.Deleted, Op: "deploy"})
			a := w.post("machines/" + w.id + "/?op=deploy")
			require.Equal(w, []any{404, "No Machine matches the given query."}, []any{a.Status, a.Body})
			require.Empty(w, w.get("machines/", "id="+w.id).machines(w))
		},
		"the region restarts": func(w world) {
			w.do(w.id, "deploy")
			w.region.Restart(10*time.Second, 5*time.Second)
			_, err := w.try("GET", "machines/")
			require.ErrorIs(w, err, syscall.ECONNREFUSED)
			time.Sleep(11 * time.Second)
			require.Equal(w, 502, w.get("machines/").Status)
			time.Sleep(5 * time.Second)
			require.Len(w, w.get("machines/").machines(w), 1)
			w.is("Deployed", 20*time.Minute)
		},
	} {
		t.Run(name, func(t *testing.T) { inABubble(t, f) })
	}
}

func TestKeysNoncesAndClocksAreChecked(t *testing.T) {
	t.Parallel()
	inABubble(t, func(w world) {
		ask := func(key, nonce string, at time.Time) (int, string, string) {
			req, err := http.NewRequest("GET", "http://maas/MAAS/api/2.0/machines/", http.NoBody)
			require.NoError(w, err)
			if key != "" {
				require.NoError(w, maastest.Sign(req, key, nonce, at))
			}
			res, err := w.client.Do(req)
			require.NoError(w, err)
			require.Equal(w, maastest.APIHash, res.Header.Get("X-Maas-Api-Hash"))
			return res.StatusCode, res.Header.Get("Content-Type"), mustRead(w, res)
		}
		refused := func(text, key, nonce string, at time.Time) {
			w.Helper()
			code, kind, body := ask(key, nonce, at)
			require.Equal(w, []any{401, "text/html; charset=utf-8", text}, []any{code, kind, body})
		}
		now := time.Now()
		code, _, _ := ask(w.key, "fixed1", now)
		require.Equal(w, 200, code)
		refused("Authorization Error: 'Nonce already used: fixed1'", w.key, "fixed1", now)
		refused("Authorization Error: Invalid API key.", "a:b:c", "n", now)
		parts := strings.Split(w.key, ":")
		refused("Authorization Error: Invalid API key.", parts[0]+":"+parts[1]+":wrong", "n", now)
		for _, d := range []time.Duration{-301 * time.Second, 301 * time.Second} {
			refused(fmt.Sprintf("Authorization Error: 'Expired timestamp: given %d and now %d has a greater difference than threshold 300'", now.Add(d).Unix(), now.Unix()),
				w.key, fmt.Sprint("skew", d), now.Add(d))
			code, _, _ = ask(w.key, fmt.Sprint("within", d), now.Add(d-d/301))
			require.Equal(w, 200, code)
		}
		w.region.SetClockSkew(time.Hour)
		code, _, body := ask(w.key, "later", now)
		require.Equal(w, 401, code)
		require.Contains(w, body, "Expired timestamp")
		w.region.SetClockSkew(0)
		code, _, body = ask("", "", now)
		require.Equal(w, []any{400, "Unrecognised signature: method=GET op=None"}, []any{code, body})
		w.region.Revoke(w.key)
		refused("Authorization Error: Invalid API key.", w.key, "after", now)

		res, err := w.client.Get("http://maas/MAAS/api/2.0/version/")
		require.NoError(w, err)
		require.Contains(w, mustRead(w, res), `"version": "3.4.1"`)
	})
}
