package locallab

import (
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFaultAPortIsTaken(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", ":0")
	require.NoError(t, err)
	port := listener.Addr().(*net.TCPAddr).Port
	err = CheckPorts([]int{port})
	require.ErrorContains(t, err, fmt.Sprintf("cannot serve the controller on port %d: it is taken by ", port))
	require.ErrorContains(t, err, fmt.Sprintf("(process %d)", os.Getpid()))
	require.ErrorContains(t, err, fmt.Sprintf("port: %d", port+1))
	require.NoError(t, listener.Close())
	// A process that another test starts at this moment has it, too, until it is another program.
	eventually(t, "it is free", func() bool { return CheckPorts([]int{port}) == nil })
}

// TestFaultAnotherLabHasThePort names the lab whose machine has it.
func TestFaultAnotherLabHasThePort(t *testing.T) {
	t.Parallel()
	l := newTestLabWith(t, Options{Nodes: 1})
	port := archivePort
	require.ErrorContains(t, CheckPorts([]int{port}), "of the lab in "+l.dir)
}

func TestControllersPorts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bundle := dir + "/bundle.yaml"
	const text = "applications:\n  cert-controller: {charm: ./cert-controller_amd64.charm}\n  other: {charm: ./cert-controller_amd64.charm, options: {port: 9443}}\n  checkbox: {charm: ./checkbox_amd64.charm}\n"
	require.NoError(t, os.WriteFile(bundle, []byte(text), 0o600))
	plan, err := PlanBundle(bundle, nil, "", "", "")
	require.NoError(t, err)
	require.Equal(t, []int{8443, 9443}, plan.Ports)
}
