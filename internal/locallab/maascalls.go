package locallab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"certlab/internal/provider/maas/maastest"
)

// errNoMAAS is what is answered about the MAAS of a lab that has none.
var errNoMAAS = errors.New("the lab has no MAAS (certlab lab down, then certlab lab up --nodes 3)")

// status prints the nodes, and what they are to the region.
func (m *maas) status(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "\nNODE\tSTATE\tADDRESS\tSYSTEM ID\tMAAS\tOWNER\tMESSAGE")
	for _, n := range m.list() {
		id, _ := m.find(n.name)
		seen := m.region.State(id)
		power, _ := shownState(n.machine)
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", n.name, power, n.machine.spec.Address, id, seen.Status, seen.Owner, seen.StatusMessage)
	}
	return table.Flush()
}

// callConsole prints what a machine's console has.
func callConsole(_ context.Context, s *served) (int, error) {
	t, err := s.lab.target(s.Target)
	if err != nil {
		return 1, err
	}
	file, err := os.Open(filepath.Join(t.machine.spec.Dir, "log", consoleLog))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil // it was never on
	}
	if err != nil {
		return 1, err
	}
	defer file.Close()
	_, err = io.Copy(s.out, file)
	return 0, err
}

// callMAAS prints where the region is and the key to it.
func callMAAS(_ context.Context, s *served) (int, error) {
	if s.lab.maas == nil {
		return 1, errNoMAAS
	}
	fmt.Fprintf(s.out, "maas-url: %s\nmaas-key: %s\n", s.lab.maasURL(), s.lab.maas.key)
	return 0, nil
}

// A NodeFault is something that can be wrong with a node.
type NodeFault struct {
	Name string
	Text string
}

// NodeFaults lists what "certlab lab fault" can switch on: the region's faults of machines, but for those that need to be told more, and the
// faults of kernels.
func NodeFaults() []NodeFault {
	var faults []NodeFault
	for _, f := range maastest.FaultKinds() {
		if !f.Request && f.Kind != maastest.BootsOther {
			faults = append(faults, NodeFault{string(f.Kind), f.Text})
		}
	}
	return append(faults, kernelFaultKinds()...)
}

// noFault is the name that switches a node's faults off.
const noFault = "none"

// callFault switches a fault of a node on, or with "none" all of them off.
func callFault(_ context.Context, s *served) (int, error) {
	if s.lab.maas == nil {
		return 1, errNoMAAS
	}
	id, n := s.lab.maas.find(s.Target)
	if n == nil {
		return 1, fmt.Errorf("the lab has no node %q (certlab lab status)", s.Target)
	}
	for _, name := range s.Args {
		if name == noFault {
			s.lab.maas.region.Clear(id)
			if err := n.changeKernelFaults(func(f *KernelFaults) { *f = KernelFaults{} }); err != nil {
				return 1, err
			}
			continue
		}
		if isKernelFault(name) {
			if err := n.kernelFault(name); err != nil {
				return 1, err
			}
			continue
		}
		if err := s.lab.maas.fault(id, name); err != nil {
			return 1, err
		}
	}
	return 0, s.lab.maas.save()
}

func (m *maas) fault(systemID, name string) error {
	var known []string
	for _, f := range NodeFaults() {
		if f.Name == name {
			m.region.Clear(systemID, maastest.FaultKind(name)) // it is on once
			m.region.Fault(systemID, maastest.Fault{Kind: maastest.FaultKind(name)})
			return nil
		}
		known = append(known, f.Name)
	}
	return fmt.Errorf("no fault %q: choose %s, or none", name, strings.Join(known, ", "))
}
