package maas_test

import (
	"testing"
	"testing/synctest"
	"time"

	"certlab/internal/cert"
	"certlab/internal/provider/maas"
	"certlab/internal/provider/maas/maastest"
	"github.com/stretchr/testify/require"
)

const regionURL = "http://maas.example:5240/MAAS"

// lab is a lab with a simulated region.
type lab struct {
	*testing.T
	*maas.Provider
	region *maastest.Region
	key    string
	// allowed: what the region counts as violations (a key in place of another one of the same user; a cycle that is configured) is meant.
	allowed *bool
}

// inLab runs a test in a bubble of its own, with a region and a lab whose key is an administrator's or an ordinary user's.
func inLab(t *testing.T, admin bool, test func(l lab), change ...func(*maas.Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		region := maastest.New(maastest.Options{})
		defer region.Close()
		key := region.AddUser("certlab", admin)
		l := lab{t, newProvider(t, region, key, "lab1", change...), region, key, new(bool)}
		test(l)
		if !*l.allowed {
			require.Empty(t, region.Violations())
		}
	})
}

func newProvider(t *testing.T, region *maastest.Region, key, id string, change ...func(*maas.Config)) *maas.Provider {
	t.Helper()
	config := maas.Config{URL: regionURL, Key: key, Lab: id, Transport: region.Transport()}
	for _, c := range change {
		c(&config)
	}
	p, err := maas.New(config)
	require.NoError(t, err)
	return p
}

// machine adds a machine and lets the lab see it, so that messages name it.
func (l lab) machine(hostname string) string {
	l.Helper()
	id := l.region.AddMachine(maastest.Machine{Hostname: hostname})
	_, err := l.List(l.Context())
	require.NoError(l, err)
	return id
}

func (l lab) held(hostname string) string {
	l.Helper()
	id := l.machine(hostname)
	_, err := l.Acquire(l.Context(), id, "for a test")
	require.NoError(l, err)
	return id
}

// look returns one machine.
func (l lab) look(id string) cert.Provided {
	l.Helper()
	found, err := l.Look(l.Context(), id)
	require.NoError(l, err)
	require.Len(l, found, 1)
	return found[0]
}

// until waits for a status, as whoever polls does.
func (l lab) until(id string, status cert.Status) cert.Provided {
	l.Helper()
	for range 1000 {
		if m := l.look(id); m.Status == status {
			return m
		}
		time.Sleep(20 * time.Second)
	}
	l.Fatalf("%s never became %s: it is %s", id, status, l.look(id).StatusName)
	return cert.Provided{}
}

// calls returns how many requests f makes.
func (l lab) calls(f func()) int {
	before := l.region.CallsOf("")
	f()
	return l.region.CallsOf("") - before
}
