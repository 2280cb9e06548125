package hooks

import (
	"context"
	"slices"
	"time"
)

// StorageIDs returns the ids, such as data/0, of the unit's attached storage of that name, sorted. In storage-detaching, the one that is
// going is left out: what the charm does then must not need it.
func (u *Unit) StorageIDs(ctx context.Context, name string) ([]string, error) {
	ids, ok := u.storages[name]
	if !ok {
		if err := u.read(ctx, &ids, "storage-list", "--format", "json", "--", name); err != nil {
			return nil, err
		}
		if u.Event.Kind == StorageDetaching {
			ids = slices.DeleteFunc(ids, func(id string) bool { return id == u.Event.StorageID })
		}
		slices.Sort(ids)
		u.storages[name] = ids
	}
	return slices.Clone(ids), nil
}

// StorageLocation returns where the storage is: a file system's mount point or a block device's path. Before it is attached the
// error is ErrNotFound. It costs nothing for the storage of the event.
func (u *Unit) StorageLocation(ctx context.Context, id string) (string, error) {
	if id == u.Event.StorageID && u.Event.StorageLocation != "" {
		return u.Event.StorageLocation, nil
	}
	location, ok := u.locations[id]
	if !ok {
		if err := u.read(ctx, &location, "storage-get", "--format", "json", "-s", id, "location"); err != nil {
			return "", err
		}
		u.locations[id] = location
	}
	return location, nil
}

// resourceTimeout bounds the download of a resource from the controller.
const resourceTimeout = 10 * time.Minute

// ResourceGet downloads the resource if its file is not there yet or is an old one, and returns the file's path. A resource that was
// never attached gives ErrNotFound, and one that was attached without content an empty file.
func (u *Unit) ResourceGet(ctx context.Context, name string) (string, error) {
	path, ok := u.resources[name]
	if !ok {
		out, err := u.run(ctx, Command{Name: "resource-get", Args: []string{"--", name}, Timeout: resourceTimeout})
		if err != nil {
			return "", err
		}
		path = trimLine(out)
		u.resources[name] = path
	}
	return path, nil
}
