package juju

import (
	"fmt"
	"strconv"
	"strings"
)

// storageInstance finds a storage instance that is attached to the unit.
func (i *invocation) storageInstance(id string) (*Storage, error) {
	if name, number, ok := strings.Cut(id, "/"); !ok || name == "" || number == "" {
		return nil, fmt.Errorf("invalid storage ID %q", id)
	}
	st := i.state.Storage[id]
	if st == nil || st.Unit != i.unit || !st.Attached {
		return nil, fmt.Errorf("storage instance %q not found", id)
	}
	return st, nil
}

func storageList(i *invocation) error {
	if len(i.args) > 1 {
		return noMore(i.args[1:])
	}
	ids := []string{}
	for _, st := range i.state.StorageOf(i.unit) {
		if st.Attached && (len(i.args) == 0 || st.Name == i.args[0]) {
			ids = append(ids, st.ID)
		}
	}
	return i.write(ids)
}

func storageGet(i *invocation) error {
	id := i.flags["s"]
	if id == "" && i.kind == RunHook && i.hook.Kind.IsStorage() {
		id = i.hook.Storage
	}
	if id == "" {
		return usagef("no storage instance specified")
	}
	if len(i.args) > 1 {
		return noMore(i.args[1:])
	}
	st, err := i.storageInstance(id)
	if err != nil {
		return err
	}
	values := map[string]string{"kind": st.Kind, "location": st.Location}
	if len(i.args) == 0 {
		return i.write(values)
	}
	if value, ok := values[i.args[0]]; ok {
		return i.write(value)
	}
	return fmt.Errorf("invalid storage attribute %q", i.args[0])
}

func storageAdd(i *invocation) error {
	if len(i.args) == 0 {
		return usagef("storage add requires a storage directive")
	}
	for _, arg := range i.args {
		name, text, ok := strings.Cut(arg, "=")
		count := 1
		if ok {
			n, err := strconv.Atoi(text)
			if err != nil {
				return usagef("only count can be specified for %q", name)
			}
			count = n
		}
		if count < 1 || count > maxStorageAdd {
			return usagef("cannot parse count %q: count must be between 1 and %d", text, maxStorageAdd)
		}
		for range count {
			i.storage = append(i.storage, name)
		}
	}
	return nil
}

// maxStorageAdd bounds what one storage-add asks for.
const maxStorageAdd = 100
