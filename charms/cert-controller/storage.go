package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"certlab/internal/hooks"
)

const (
	// storageFile remembers, in the unit's directory, which storage the service uses.
	storageFile = "storage.json"
	// markFile lies in the storage itself and names it. When the mount is missing, so is the file; without it the
	// service would begin an empty database on the machine's own disk.
	markFile = ".certlab-storage"
)

// attached is the content of storageFile.
type attached struct {
	ID       string `json:"id"` // such as data/0
	Location string `json:"location"`
}

// storage returns the directory of the unit's storage. Without one that can be used, it is a status that says why.
func (s service) storage(ctx context.Context, u *hooks.Unit) (string, error) {
	known, err := s.knownStorage()
	if err != nil {
		return "", err
	}
	if known.ID != "" {
		if known, err = s.stillOurs(ctx, u, known); err != nil {
			return "", err
		}
	}
	if known.ID == "" {
		if known, err = findStorage(ctx, u); err != nil {
			return "", err
		}
		// A storage that comes back from another unit keeps its mark and its contents.
		mark := filepath.Join(known.Location, markFile)
		if _, err := os.Stat(mark); errors.Is(err, fs.ErrNotExist) {
			if _, err := s.WriteFile(mark, []byte(known.ID+"\n"), 0o644); err != nil {
				return "", err
			}
		}
		data, err := json.Marshal(known)
		if err != nil {
			return "", err
		}
		if _, err := s.WriteFile(filepath.Join(s.Base(), storageFile), data, 0o644); err != nil {
			return "", err
		}
	}
	if _, err := os.Stat(filepath.Join(known.Location, markFile)); err != nil {
		return "", hooks.Blocked("mount the storage %s at %s: the file %s, by which it is known, is not there", known.ID, known.Location, markFile)
	}
	return known.Location, nil
}

// stillOurs returns nothing if the storage is not this unit's, but that of one of the same name, whose end the charm was never told of. Juju
// is asked only where something is wrong.
func (s service) stillOurs(ctx context.Context, u *hooks.Unit, known attached) (attached, error) {
	another := u.Event.Kind == hooks.StorageAttached && strings.HasPrefix(u.Event.StorageID, "data/") && u.Event.StorageID != known.ID
	if _, err := os.Stat(filepath.Join(known.Location, markFile)); err == nil && !another {
		return known, nil
	}
	ids, err := u.StorageIDs(ctx, "data")
	if err != nil {
		return attached{}, err
	}
	if slices.Contains(ids, known.ID) {
		location, err := u.StorageLocation(ctx, known.ID)
		if errors.Is(err, hooks.ErrNotFound) || err == nil && (location == "" || location == known.Location) {
			return known, nil
		}
		if err != nil {
			return attached{}, err
		}
	}
	u.Log.Warn("forgetting a storage that is not this unit's", "storage", known.ID, "location", known.Location)
	return attached{}, nil
}

func (s service) knownStorage() (attached, error) {
	var known attached
	data, err := os.ReadFile(filepath.Join(s.Base(), storageFile))
	if errors.Is(err, fs.ErrNotExist) {
		return known, nil
	}
	if err != nil {
		return known, fmt.Errorf("cannot read which storage is in use: %w", err)
	}
	if json.Unmarshal(data, &known) != nil || known.ID == "" || known.Location == "" {
		return attached{}, nil // damaged; Juju is asked again
	}
	return known, nil
}

func findStorage(ctx context.Context, u *hooks.Unit) (attached, error) {
	if u.Event.Kind == hooks.StorageAttached && strings.HasPrefix(u.Event.StorageID, "data/") && u.Event.StorageLocation != "" {
		return attached{u.Event.StorageID, u.Event.StorageLocation}, nil
	}
	ids, err := u.StorageIDs(ctx, "data")
	if err != nil {
		return attached{}, err
	}
	if len(ids) == 0 {
		return attached{}, hooks.Blocked("attach storage: juju add-storage %s data", u.Name)
	}
	location, err := u.StorageLocation(ctx, ids[0])
	if errors.Is(err, hooks.ErrNotFound) || (err == nil && location == "") {
		return attached{}, hooks.Waiting("for the storage %s", ids[0])
	}
	return attached{ids[0], location}, err
}

// detach ends the service while its storage is still there, and forgets the storage. Its contents stay.
func (s service) detach(ctx context.Context) error {
	if err := s.Stop(ctx); err != nil {
		return err
	}
	s.Step("forget storage")
	err := os.Remove(filepath.Join(s.Base(), storageFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot forget the storage: %w", err)
	}
	return nil
}
