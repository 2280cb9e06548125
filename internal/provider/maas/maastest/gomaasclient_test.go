package maastest_test

import (
	"encoding/base64"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/canonical/gomaasclient/client"
	"github.com/canonical/gomaasclient/entity"
	gomaasapi "github.com/juju/gomaasapi/v2"
	"github.com/stretchr/testify/require"

	"certlab/internal/provider/maas/maastest"
)

func gomaas(t testing.TB, r *maastest.Region, user string, admin bool) *client.Client {
	c, err := client.GetClientWithTransport("http://maas:5240/MAAS", r.AddUser(user, admin), "2.0", r.Transport())
	require.NoError(t, err)
	return c
}

func TestMAASsOwnClientUnderstandsTheRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := maastest.New(maastest.Options{})
		defer r.Close()
		id := r.AddMachine(maastest.Machine{Hostname: "node1", Pool: "lab", Tags: []string{"gpu"}, Product: maastest.Product{Vendor: "Dell Inc.", Name: "PowerEdge <R650>", Serial: "S&1"},
			ProductUUID: "4c4c4544-0047-3110", GPUs: []maastest.GPU{{Vendor: "NVIDIA", Product: "RTX", ID: "10de:2204", PCI: "0000:01:00.0"}}})
		r.AddMachine(maastest.Machine{Hostname: "node2"})
		c := gomaas(t, r, "lab", true)

		version, err := c.Version.Get()
		require.NoError(t, err)
		require.Equal(t, "3.4.1", version.Version)
		me, err := c.Users.Whoami()
		require.NoError(t, err)
		require.Equal(t, []any{"lab", true}, []any{me.UserName, me.IsSuperUser})
		list, err := c.Machines.Get(&entity.MachinesParams{Pool: []string{"lab"}})
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.Equal(t, []any{id, "Ready", "4c4c4544-0047-3110", "Dell Inc."}, []any{list[0].SystemID, list[0].StatusName, list[0].HardwareUUID, list[0].HardwareInfo["system_vendor"]})

		m, err := c.Machines.Allocate(&entity.MachineAllocateParams{SystemID: id, AgentName: "certlab-1"})
		require.NoError(t, err)
		require.Equal(t, []any{"Allocated", "lab"}, []any{m.StatusName, m.Owner})
		_, err = c.Machines.Allocate(&entity.MachineAllocateParams{SystemID: id})
		conflict, ok := gomaasapi.GetServerError(err)
		require.True(t, ok)
		require.Equal(t, []any{409, "No machine with system ID " + id + " available."}, []any{conflict.StatusCode, conflict.BodyMessage})

		_, err = c.Machine.SetWorkloadAnnotations(id, map[string]string{"certlab": "x"})
		require.NoError(t, err)
		m, err = c.Machine.Deploy(id, &entity.MachineDeployParams{DistroSeries: "ubuntu/jammy", UserData: base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\n"))})
		require.NoError(t, err)
		require.Equal(t, []any{"Deploying", "jammy", "ga-22.04"}, []any{m.StatusName, m.DistroSeries, m.HWEKernel})
		time.Sleep(15 * time.Minute)
		m, err = c.Machine.Get(id)
		require.NoError(t, err)
		require.Equal(t, []any{"Deployed", "on", map[string]string{"certlab": "x"}}, []any{m.StatusName, m.PowerState, m.WorkloadAnnotations})
		require.Equal(t, "10.77.1.2", m.IPAddresses[0].String())

		results, err := c.NodeResults.Get(id, &entity.NodeResultParams{Type: entity.INSTALLATION, IncludeOutput: true})
		require.NoError(t, err)
		require.Len(t, results, 1)
		output, err := base64.StdEncoding.DecodeString(results[0].Results[0].Stdout)
		require.NoError(t, err)
		require.Equal(t, "curtin: Installation finished. ubuntu/jammy ga-22.04\n", string(output))
		details, err := c.Machine.Details(id)
		require.NoError(t, err)
		require.Contains(t, string(details.LSHW), "<product>PowerEdge &lt;R650&gt;</product>")
		require.Contains(t, string(details.LSHW), "<product>RTX [10DE:2204]</product>")
		state, err := c.Machine.GetPowerState(id)
		require.NoError(t, err)
		require.Equal(t, "on", state.State)
		images, err := c.BootResources.Get(&entity.BootResourcesReadParams{})
		require.NoError(t, err)
		require.Len(t, images, 12)
		timeout, err := c.MAASServer.Get("node_timeout")
		require.NoError(t, err)
		require.Equal(t, "30", string(timeout))

		pool, err := c.ResourcePools.Create(&entity.ResourcePoolParams{Name: "quarantine"})
		require.NoError(t, err)
		m, err = c.Machine.Update(id, &entity.MachineUpdateParams{Pool: pool.Name}, nil)
		require.NoError(t, err)
		require.Equal(t, "quarantine", m.Pool.Name)
		_, err = c.Tags.Create(&entity.TagParams{Name: "bad"})
		require.NoError(t, err)
		require.NoError(t, c.Tag.AddMachines("bad", []string{id}))
		m, err = c.Machine.Get(id)
		require.NoError(t, err)
		require.Equal(t, []string{"bad", "gpu"}, m.TagNames)

		m, err = c.Machine.Release(id, &entity.MachineReleaseParams{Comment: "done"})
		require.NoError(t, err)
		require.Equal(t, []any{"Releasing", map[string]string{"certlab": "x"}}, []any{m.StatusName, m.WorkloadAnnotations})
		time.Sleep(10 * time.Second)
		m, err = c.Machine.Get(id)
		require.NoError(t, err)
		require.Equal(t, []any{"Ready", "", map[string]string{}}, []any{m.StatusName, m.Owner, m.WorkloadAnnotations})

		// The history, page by page, is the whole history.
		whole, err := c.Events.Get(&entity.EventParams{ID: id, Level: "DEBUG", Limit: "1000"})
		require.NoError(t, err)
		require.Greater(t, whole.Count, 20)
		var paged []entity.Event
		for before := ""; ; {
			page, err := c.Events.Get(&entity.EventParams{ID: id, Level: "DEBUG", Limit: "7", Before: before})
			require.NoError(t, err)
			if page.Count == 0 {
				break
			}
			paged = append(paged, page.Events...)
			before = strconv.Itoa(page.Events[len(page.Events)-1].ID)
		}
		require.Equal(t, whole.Events, paged)
	})
}
