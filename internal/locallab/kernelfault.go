package locallab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"certlab/internal/durable"
)

// Faults of a node that name the kernel which they are of, as FAULT=VERSION.
const (
	kernelPanics    = "kernel-panics"
	kernelFallsBack = "kernel-falls-back"
)

// kernelFaultKinds lists them.
func kernelFaultKinds() []NodeFault {
	return []NodeFault{
		{kernelPanics + "=VERSION", "it panics when it boots that kernel, each time: its console says so, and nothing runs on it"},
		{kernelFallsBack + "=VERSION", "when that kernel is selected, its boot loader boots another one"},
	}
}

// kernelFaultsFile is where a node keeps them; a deployment changes nothing in it.
const kernelFaultsFile = "kernel-faults.json"

func (n *node) loadKernelFaults(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, kernelFaultsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(data, &n.kernelFaults)
	}
	if err != nil {
		return fmt.Errorf("cannot read the faults of %s: %w", n.name, err)
	}
	n.machine.SetKernelFaults(n.kernelFaults)
	return nil
}

// changeKernelFaults changes them, from the node's next boot on.
func (n *node) changeKernelFaults(change func(*KernelFaults)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	faults := KernelFaults{Panics: slices.Clone(n.kernelFaults.Panics), FallsBack: slices.Clone(n.kernelFaults.FallsBack)}
	change(&faults)
	data, err := json.Marshal(faults)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(n.machine.spec.Dir, kernelFaultsFile), data, 0o600); err != nil {
		return err
	}
	n.kernelFaults = faults
	n.machine.SetKernelFaults(faults)
	return nil
}

// kernelFault switches a fault of the form FAULT=VERSION on.
func (n *node) kernelFault(word string) error {
	name, version, _ := strings.Cut(word, "=")
	if !kernelVersion.MatchString(version) {
		return fmt.Errorf("cannot switch %s on: %q is no version of a kernel (such as %s=%s)", name, version, name, proposedKernel)
	}
	return n.changeKernelFaults(func(f *KernelFaults) {
		list := &f.Panics
		if name == kernelFallsBack {
			list = &f.FallsBack
		}
		if !slices.Contains(*list, version) {
			*list = append(*list, version)
		}
	})
}

// isKernelFault reports whether a word names one of these faults.
func isKernelFault(word string) bool {
	name, _, _ := strings.Cut(word, "=")
	return name == kernelPanics || name == kernelFallsBack
}
