package locallab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"certlab/internal/durable"
)

// A node is a machine of the lab's simulated MAAS: one that is deployed and released, and that no unit is placed on. Its methods may be
// called from anywhere; what changes its power happens one after another.
type node struct {
	name    string // host name
	machine *Machine
	file    string
	tell    func(on bool) // who watches the power, when it was not they who changed it

	mu     sync.Mutex // held over each change of power
	state  nodeState
	ending bool // with the lab

	kernelFaults KernelFaults
}

// nodeState is what a node keeps over the lab's end.
type nodeState struct {
	On        bool   `json:"on"`        // it is to run whenever the lab does
	Installed bool   `json:"installed"` // it has a system that it can boot
	Wiping    bool   `json:"wiping"`    // its file system is to be made anew before it boots
	Cloud     *Cloud `json:"cloud"`
}

// errNothingInstalled is what switching on a node returns that has never been deployed, or was released.
var errNothingInstalled = errors.New("nothing is installed on it: it has to be deployed (certlab machine reserve)")

// newNode takes a node up as it was left, off.
func (l *Lab) newNode(name string, number int) (*node, error) {
	n := &node{name: name, tell: func(bool) {}, file: filepath.Join(l.nodeDir(name), "node.json")}
	machine, err := l.rack.NewMachine(l.nodeSpec(name, number), func(c Change) {
		if c.State == Off && !c.Again {
			go n.wentOff() // not here: whoever switches it off waits for this word, with the lock
		}
	})
	if err != nil {
		return nil, err
	}
	n.machine = machine
	data, err := os.ReadFile(n.file)
	if err == nil {
		err = json.Unmarshal(data, &n.state)
	} else if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the state of %s: %w", name, err)
	}
	machine.SetCloud(n.state.Cloud)
	return n, n.loadKernelFaults(l.nodeDir(name))
}

func (n *node) save() error {
	data, err := json.Marshal(n.state)
	if err != nil {
		return err
	}
	return durable.WriteFile(n.file, data, 0o600)
}

// deploy makes the node a new system, on what is left of nothing, and boots it.
func (n *node) deploy(ctx context.Context, c *Cloud) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.machine.Kill()
	// Stored before anything is done: a lab that is killed in the middle begins the same again.
	n.state = nodeState{On: true, Installed: true, Wiping: true, Cloud: c}
	if err := n.save(); err != nil {
		return err
	}
	return n.boot(ctx)
}

// restart boots what is installed, anew if it runs.
func (n *node) restart(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.machine.Kill()
	return n.bootInstalled(ctx)
}

// on boots what is installed, unless it runs.
func (n *node) on(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.bootInstalled(ctx); err != nil {
		return err
	}
	n.tell(true)
	return nil
}

func (n *node) bootInstalled(ctx context.Context) error {
	if !n.state.Installed {
		return fmt.Errorf("cannot switch %s on: %w", n.name, errNothingInstalled)
	}
	n.state.On = true
	if err := n.save(); err != nil {
		return err
	}
	return n.boot(ctx)
}

// resume boots a node that was on when the lab ended.
func (n *node) resume(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.state.On || !n.state.Installed {
		return nil
	}
	return n.boot(ctx)
}

func (n *node) boot(ctx context.Context) error {
	if n.state.Wiping {
		if err := n.machine.Wipe(); err != nil {
			return err
		}
		n.state.Wiping = false
		if err := n.save(); err != nil {
			return err
		}
	}
	n.machine.SetCloud(n.state.Cloud)
	return n.machine.Boot(ctx)
}

// cut takes the power away.
func (n *node) cut() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.machine.Kill()
	n.state.On = false
	return n.save()
}

// pull cuts the power without the region.
func (n *node) pull() error {
	if err := n.cut(); err != nil {
		return err
	}
	n.tell(false)
	return nil
}

// off switches the node off in good order.
func (n *node) off(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.On = false
	return errors.Join(n.save(), n.machine.PowerOff(ctx))
}

// wipe forgets the system that was installed, and the key with which it read its user-data.
func (n *node) wipe() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.machine.Kill()
	n.state = nodeState{Wiping: true}
	if err := n.save(); err != nil {
		return err
	}
	if err := n.machine.Wipe(); err != nil {
		return err
	}
	n.state.Wiping = false
	n.machine.SetCloud(nil)
	return n.save()
}

// wentOff notes that the node was switched off, from within perhaps: then it stays off, also when the lab comes back.
func (n *node) wentOff() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ending || n.isOn() || !n.state.On {
		return
	}
	n.state.On = false
	_ = n.save() // at worst it is on again when the lab is
	n.tell(false)
}

// end switches the node off with the lab; it comes back with the lab.
func (n *node) end(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ending = true
	return n.machine.PowerOff(ctx)
}

// isOn reports whether the power is on, as a BMC knows it.
func (n *node) isOn() bool {
	state, _ := n.machine.State()
	return state != Off
}
