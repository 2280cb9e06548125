package maastest_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/provider/maas/maastest"
)

// box is a Host that writes down what it is asked.
type box struct {
	mu     sync.Mutex
	region *maastest.Region
	on     bool
	broken error
	said   []string
}

func (b *box) note(format string, args ...any) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = append(b.said, fmt.Sprintf(format, args...))
	return b.broken
}

func (b *box) PowerOn(id string, boot maastest.Boot) error {
	if err := b.note("on fresh=%v %s %s %s", boot.Fresh, boot.Release, boot.Kernel, boot.UserData); err != nil {
		return err
	}
	b.set(true)
	if boot.Fresh {
		go func() {
			time.Sleep(30 * time.Second) // its cloud-init
			b.region.FetchedUserData(id)
		}()
	}
	return nil
}

func (b *box) PowerOff(_ string, hard bool) error {
	b.set(false)
	return b.note("off hard=%v", hard)
}

func (b *box) Wipe(string) error { return b.note("wipe") }

func (b *box) set(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.on = on
}

// heard returns what the host was asked since the given number of times.
func (b *box) heard(since int) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.said[since:]...)
}

func (b *box) State(string) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.on, b.broken
}

func TestAHostIsAskedForWhatAMachineDoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host := &box{}
		r := maastest.New(maastest.Options{Host: host, Timings: maastest.Timings{Boot: time.Millisecond}})
		defer r.Close()
		host.region = r
		w := world{T: t, person: newPerson(t, r, "admin", true), id: r.AddMachine(maastest.Machine{})}
		w.do(w.id, "deploy", "user_data=aGVsbG8=", "distro_series=jammy")
		time.Sleep(time.Minute)
		require.Empty(t, host.heard(0), "the installer is the region's own")
		w.is("Deployed", 10*time.Minute)
		require.Equal(t, []string{"on fresh=true jammy ga-22.04 hello"}, host.heard(0))
		require.JSONEq(t, `{"state":"on"}`, w.get("machines/"+w.id+"/?op=query_power_state").Body)

		host.set(false) // it has shut itself down
		require.JSONEq(t, `{"state":"off"}`, w.get("machines/"+w.id+"/?op=query_power_state").Body)
		w.do(w.id, "power_on")
		time.Sleep(10 * time.Second)
		w.do(w.id, "power_off", "stop_mode=soft")
		time.Sleep(10 * time.Second)
		require.Equal(t, []string{"on fresh=false jammy ga-22.04 hello", "off hard=false"}, host.heard(1))

		w.do(w.id, "release")
		w.is("Ready", time.Minute)
		synctest.Wait()
		require.Equal(t, []string{"wipe"}, host.heard(3))

		host.mu.Lock()
		host.broken = errors.New("no room for it")
		host.mu.Unlock()
		w.do(w.id, "deploy")
		s := w.is("Failed deployment", 10*time.Minute)
		require.Equal(t, "Marking node failed - Power on for the node failed: no room for it", s.StatusMessage)
		require.JSONEq(t, `{"state":"error"}`, w.get("machines/"+w.id+"/?op=query_power_state").Body)
	})
}

func TestALoadedRegionAsksItsHostAgainForWhatItHadBegun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lost := &box{}
		r := maastest.New(maastest.Options{Host: lost})
		lost.region = r
		w := world{T: t, person: newPerson(t, r, "admin", true), id: r.AddMachine(maastest.Machine{})}
		w.do(w.id, "deploy", "user_data=aGVsbG8=")
		for len(lost.heard(0)) == 0 { // its first boot begins, and with it everything ends
			time.Sleep(time.Second)
		}
		data, err := r.Save()
		require.NoError(t, err)
		r.Close()
		time.Sleep(time.Hour)
		host := &box{}
		r, err = maastest.Load(maastest.Options{Host: host}, data)
		require.NoError(t, err)
		defer r.Close()
		host.region, w.person.region = r, r
		w.is("Deployed", time.Minute)
		require.Equal(t, []string{"on fresh=true noble ga-24.04 hello"}, host.heard(0))
	})
}

func TestPowerThatGoesTakesTheInstallationWithIt(t *testing.T) {
	t.Parallel()
	inABubble(t, func(w world) {
		w.do(w.id, "deploy")
		time.Sleep(3 * time.Minute)
		w.do(w.id, "power_off")
		time.Sleep(20 * time.Minute)
		require.Equal(w, "Deploying", w.now().Status.String())
		w.do(w.id, "power_on")
		w.is("Deployed", 15*time.Minute)
		synctest.Wait()
		require.EqualValues(w, 1, w.boots.Load())

		// The region learns what nobody has told it within five minutes.
		power := func() any { return w.get("machines/" + w.id + "/").machine(w)["power_state"] }
		w.region.PowerChanged(w.id, false)
		require.Equal(w, "on", power())
		time.Sleep(5 * time.Minute)
		require.Equal(w, "off", power())
		w.do(w.id, "power_on")
		time.Sleep(5 * time.Minute)
		require.EqualValues(w, 2, w.boots.Load())
		require.False(w, w.last.Load().Fresh)
		w.fault(maastest.BMCRefuses)
		time.Sleep(5 * time.Minute)
		require.Equal(w, "error", power())
	})
}

func TestANewMachineIsCommissionedAndRescued(t *testing.T) {
	t.Parallel()
	inABubble(t, func(w world) {
		id := w.region.AddMachine(maastest.Machine{New: true})
		require.Equal(w, 409, w.post("machines/?op=allocate", "system_id="+id).Status)
		require.Equal(w, "Commissioning", w.do(id, "commission")["status_name"])
		time.Sleep(20 * time.Minute)
		s := w.region.State(id)
		require.Equal(w, []any{"Ready", "", "off"}, []any{s.Status.String(), s.Owner, s.Power})
		w.do(w.id, "deploy")
		w.is("Deployed", 15*time.Minute)
		w.do(w.id, "rescue_mode")
		w.is("Rescue mode", 15*time.Minute)
		w.do(w.id, "exit_rescue_mode")
		w.is("Deployed", time.Minute)
		require.Equal(w, "admin", w.now().Owner)
	})
}
