package juju

import (
	"fmt"
	"maps"
)

const (
	// maxStateValue is the longest value that state-set takes: measured on Juju 4.0.15.
	maxStateValue = 65536
	// maxCharmState bounds a unit's whole charm state: from the source of 3.6.
	maxCharmState = 2 << 20
)

func (i *invocation) charmState() map[string]string {
	if i.charm == nil {
		i.charm = map[string]string{}
		maps.Copy(i.charm, i.state.Units[i.unit].CharmState)
	}
	return i.charm
}

func stateGet(i *invocation) error {
	if len(i.args) > 1 {
		return noMore(i.args[1:])
	}
	if len(i.args) == 0 || i.args[0] == "-" || i.args[0] == "" {
		return i.write(i.charmState())
	}
	value, ok := i.charmState()[i.args[0]]
	if !ok && i.flag("strict") {
		return fmt.Errorf("%q not found", i.args[0])
	}
	return i.write(value)
}

func stateSet(i *invocation) error {
	values, err := keyValues(i.args)
	if err != nil {
		return err
	}
	if values, err = i.withFile(values); err != nil {
		return err
	}
	for _, value := range values {
		if len(value) > maxStateValue {
			return fmt.Errorf("max allowed value length (%d): quota limit exceeded", maxStateValue)
		}
	}
	maps.Copy(i.charmState(), values)
	i.charmDirty = true
	return nil
}

func stateDelete(i *invocation) error {
	if len(i.args) == 0 {
		return usagef("missing required key argument")
	}
	if err := noMore(i.args[1:]); err != nil {
		return err
	}
	delete(i.charmState(), i.args[0])
	i.charmDirty = true
	return nil
}
