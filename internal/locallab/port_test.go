package locallab

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
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

// TestFaultAnotherLabHasThePort names the lab whose machine has it. Other labs on this host have theirs at the same number: it may be one of them.
func TestFaultAnotherLabHasThePort(t *testing.T) {
	t.Parallel()
	l := newTestLabWith(t, Options{Nodes: 1})
	require.ErrorContains(t, CheckPorts([]int{archivePort}), "of the lab in /")
	processes, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(processes, func(p string) bool { return labOf(filepath.Base(p)) == l.dir }), "this lab's processes are known as its own")
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
