package maastest_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/provider/maas/maastest"
)

// person speaks to a region with a key.
type person struct {
	t      testing.TB
	region *maastest.Region
	clock  func() time.Time
	key    string
	nonces atomic.Int64
	client http.Client
}

func newPerson(t testing.TB, region *maastest.Region, name string, admin bool) *person {
	return &person{t: t, region: region, clock: time.Now, key: region.AddUser(name, admin), client: http.Client{Transport: region.Transport()}}
}

// answer is what the region answered.
type answer struct {
	Status int
	Type   string
	Header http.Header
	Body   string
}

func (a answer) machine(t testing.TB) map[string]any {
	t.Helper()
	require.Equal(t, 200, a.Status, a.Body)
	var m map[string]any
	require.NoError(t, json.Unmarshal([]byte(a.Body), &m))
	return m
}

func (a answer) machines(t testing.TB) []map[string]any {
	t.Helper()
	require.Equal(t, 200, a.Status, a.Body)
	var m []map[string]any
	require.NoError(t, json.Unmarshal([]byte(a.Body), &m))
	return m
}

// try asks for "machines/?op=allocate" with form parameters, "name=value".
func (p *person) try(method, path string, form ...string) (answer, error) {
	values := url.Values{}
	for _, f := range form {
		name, value, _ := strings.Cut(f, "=")
		values.Add(name, value)
	}
	var body io.Reader = http.NoBody
	if method != http.MethodGet {
		body = strings.NewReader(values.Encode())
	} else if len(form) > 0 {
		path += map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")] + values.Encode()
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "http://maas:5240/MAAS/api/2.0/"+path, body)
	require.NoError(p.t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	require.NoError(p.t, maastest.Sign(req, p.key, fmt.Sprint("n", p.nonces.Add(1)), p.clock()))
	res, err := p.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	return answer{res.StatusCode, res.Header.Get("Content-Type"), res.Header, string(b)}, nil
}

func (p *person) ask(method, path string, form ...string) answer {
	p.t.Helper()
	a, err := p.try(method, path, form...)
	require.NoError(p.t, err)
	return a
}

func (p *person) get(path string, form ...string) answer {
	p.t.Helper()
	return p.ask("GET", path, form...)
}
func (p *person) post(path string, form ...string) answer {
	p.t.Helper()
	return p.ask("POST", path, form...)
}

// do does something to a machine and wants it done.
func (p *person) do(id, op string, form ...string) map[string]any {
	p.t.Helper()
	return p.post("machines/"+id+"/?op="+op, form...).machine(p.t)
}

func status(r *maastest.Region, id string) string { return r.State(id).Status.String() }

func TestAMachinesLifeIsThatOfMAAS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		booted := make(chan maastest.Boot, 1)
		region := maastest.New(maastest.Options{OnBoot: func(b maastest.Boot) { booted <- b }})
		defer region.Close()
		admin := newPerson(t, region, "admin", true)
		id := region.AddMachine(maastest.Machine{Hostname: "node1"})

		m := admin.post("machines/?op=allocate", "system_id="+id, "agent_name=certlab-x").machine(t)
		require.Equal(t, "Allocated", m["status_name"])
		require.Equal(t, "admin", m["owner"])
		require.NotContains(t, m, "agent_name")
		require.Len(t, admin.get("machines/", "agent_name=certlab-x").machines(t), 1)

		userData := base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\n"))
		m = admin.do(id, "deploy", "user_data="+userData, "distro_series=jammy", "hwe_kernel=hwe-22.04")
		require.Equal(t, "Deploying", m["status_name"])
		require.Equal(t, "off", m["power_state"])
		time.Sleep(20 * time.Minute)
		require.Equal(t, "Deployed", status(region, id))
		b := <-booted
		require.Equal(t, []any{"#!/bin/sh\n", "jammy", "hwe-22.04", true, id}, []any{string(b.UserData), b.Release, b.Kernel, b.Fresh, b.Metadata["instance-id"]})

		m = admin.do(id, "release")
		require.Equal(t, "Releasing", m["status_name"])
		time.Sleep(10 * time.Second)
		m = admin.get("machines/" + id + "/").machine(t)
		require.Equal(t, []any{"Ready", "Released", "off", nil}, []any{m["status_name"], m["status_message"], m["power_state"], m["owner"]})
		require.Empty(t, region.Violations())
	})
}

func TestOfEightAllocatesOnTwoReadyMachinesExactlyTwoSucceed(t *testing.T) {
	t.Parallel()
	region := maastest.New(maastest.Options{})
	admin := newPerson(t, region, "admin", true)
	region.AddMachine(maastest.Machine{})
	region.AddMachine(maastest.Machine{})
	var mu sync.Mutex
	counts := map[int]int{}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			a, err := admin.try("POST", "machines/?op=allocate")
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				counts[a.Status]++
			}
		})
	}
	group.Wait()
	require.Equal(t, map[int]int{200: 2, 409: 6}, counts)
}

func mustRead(t testing.TB, res *http.Response) string {
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return string(b)
}
