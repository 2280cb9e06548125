package locallab

import (
	"context"
	"errors"
	"fmt"
)

// A target is what a person names: a machine of the model, or a node of the simulated MAAS.
type target struct {
	machine *Machine
	cut     func() error
	on      func(ctx context.Context) error
	name    string
}

// target returns the machine that a machine's, a unit's or a node's name means.
func (l *Lab) target(name string) (target, error) {
	if _, n := l.maas.find(name); n != nil {
		return target{machine: n.machine, cut: n.pull, on: n.on, name: n.name}, nil
	}
	m, err := l.sup.find(name)
	if err != nil {
		return target{}, err
	}
	cut := func() error {
		l.sup.kill(m)
		return nil
	}
	return target{machine: m.machine, cut: cut, on: func(ctx context.Context) error { return l.sup.on(ctx, m) }, name: m.id}, nil
}

// reboot reboots the machine and waits until it is up again.
func (t target) reboot(ctx context.Context) error {
	err := t.machine.Reboot(ctx)
	if errors.Is(err, errDown) {
		return fmt.Errorf("cannot reboot machine %s: it is off (certlab lab on %s)", t.name, t.name)
	}
	return err
}
