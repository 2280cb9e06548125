package juju

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// NextHooks lists the hooks that the unit's agent may run next, the one that it takes unless told otherwise first. More than one
// is listed only where a real Juju's choice was seen to vary: relations' created, joined, changed and departed hooks, and which
// secret or storage comes first. None: the charm has been told of everything.
//
// The order is that of the uniter's resolvers in the source of 3.6, which the hook sequences of 4.0.15 agree with: the reboot's
// start, a new charm's files, relation-created, leadership, secrets, (actions and commands), storage, install, upgrade-charm,
// config-changed, start, relations, update-status. bootID is the machine's; a failed hook and actions are not for this function.
func (s *State) NextHooks(unit, bootID string, now time.Time) []Hook {
	u := s.Units[unit]
	if u == nil || u.Uniter.Removed {
		return nil
	}
	app, local := s.Applications[u.Application], &u.Uniter
	if app == nil {
		return nil
	}
	if local.Running != nil {
		return []Hook{*local.Running} // it was interrupted, and comes before everything
	}
	dying := u.Life != Alive
	if local.Started && !local.Stopped && local.BootID != bootID && bootID != "" {
		return []Hook{{Name: string(Start), Kind: Start}}
	}
	if hooks := s.storageHooks(u); len(hooks) > 0 && (!local.Installed || dying) {
		return hooks
	}
	if !local.Installed {
		if dying || s.storagePending(u) {
			return nil
		}
		return []Hook{{Name: string(Install), Kind: Install}}
	}
	if !dying {
		if hooks := s.createdHooks(u); len(hooks) > 0 {
			return hooks
		}
		if app.Leader == unit && !local.Leader {
			return []Hook{{Name: string(LeaderElected), Kind: LeaderElected}}
		}
		if hooks := s.secretHooks(u, now); len(hooks) > 0 {
			return hooks
		}
		if hooks := s.storageHooks(u); len(hooks) > 0 {
			return hooks
		}
		if local.CharmNotified != app.CharmVersion && local.CharmVersion == app.CharmVersion {
			return []Hook{{Name: string(UpgradeCharm), Kind: UpgradeCharm}}
		}
		if local.ConfigHash != s.configHash(u) {
			return []Hook{{Name: string(ConfigChanged), Kind: ConfigChanged}}
		}
		if !local.Started {
			return []Hook{{Name: string(Start), Kind: Start}}
		}
	}
	if hooks := s.relationHooks(u); len(hooks) > 0 {
		return hooks
	}
	switch {
	case dying && !local.Stopped:
		return []Hook{{Name: string(Stop), Kind: Stop}}
	case dying:
		return []Hook{{Name: string(Remove), Kind: Remove}}
	case !local.UpdateAt.IsZero() && !now.Before(local.UpdateAt):
		return []Hook{{Name: string(UpdateStatus), Kind: UpdateStatus}}
	}
	return nil
}

// configHash stands for all that config-changed tells of: options, trust, and the machine's addresses.
func (s *State) configHash(u *Unit) string {
	app := s.Applications[u.Application]
	var addresses []string
	if m := s.Machines[u.Machine]; m != nil {
		addresses = m.Addresses
	}
	return fmt.Sprintf("%d %t %s", app.ConfigVersion, app.Trust, strings.Join(addresses, ","))
}

// storagePending reports whether install has to wait for storage.
func (s *State) storagePending(u *Unit) bool {
	return slices.ContainsFunc(s.StorageOf(u.Name), func(st *Storage) bool { return st.Life == Alive && !u.Uniter.Storage[st.ID] })
}

func (s *State) storageHooks(u *Unit) []Hook {
	var hooks []Hook
	for _, st := range s.StorageOf(u.Name) {
		told := u.Uniter.Storage[st.ID]
		switch {
		case told && (u.Life != Alive || st.Life != Alive):
			hooks = append(hooks, Hook{Name: st.Name + "-storage-detaching", Kind: StorageDetaching, Storage: st.ID})
		case !told && st.Attached && u.Life == Alive && st.Life == Alive:
			hooks = append(hooks, Hook{Name: st.Name + "-storage-attached", Kind: StorageAttached, Storage: st.ID})
		}
	}
	return hooks
}

func (s *State) createdHooks(u *Unit) []Hook {
	var hooks []Hook
	for _, r := range s.RelationsOf(u.Application) {
		local := u.Uniter.Relations[r.ID]
		if r.Life == Alive && (local == nil || !local.Created) {
			hooks = append(hooks, s.relationHook(u, r, RelationCreated, Hook{}))
		}
	}
	return hooks
}

// relationHook fills in what all hooks of a relation have.
func (s *State) relationHook(u *Unit, r *Relation, kind HookKind, h Hook) Hook {
	endpoint, _ := r.Endpoint(u.Application)
	remote, _ := r.Remote(u.Application)
	h.Kind, h.Name, h.Relation = kind, endpoint.Name+"-"+string(kind), r.ID
	if s.Applications[remote.Application] != nil {
		h.RemoteApp = remote.Application // in relation-broken it is empty once the other application is gone
	}
	return h
}

// relationHooks are those of relations that the charm knows of: pending changed first, since a joined is always followed by one.
func (s *State) relationHooks(u *Unit) []Hook {
	var first, rest []Hook
	for _, r := range s.RelationsOf(u.Application) {
		local := u.Uniter.Relations[r.ID]
		if local == nil || !local.Created || local.Broken {
			continue
		}
		for _, name := range sortedUnits(local.Joined) {
			if local.Joined[name] == joinedOnly && r.Life == Alive && u.Life == Alive && r.inScope(name) {
				first = append(first, s.changedHook(u, r, name))
			}
		}
		rest = append(rest, s.hooksOf(u, r, local)...)
	}
	if len(first) > 0 {
		return first[:1] // joined and its changed belong together
	}
	return rest
}

// joinedOnly is the version of a unit that joined and whose relation-changed is due.
const joinedOnly = -1

func (s *State) changedHook(u *Unit, r *Relation, remote string) Hook {
	return s.relationHook(u, r, RelationChanged, Hook{RemoteUnit: remote, Version: r.Units[remote].Version})
}

func (s *State) hooksOf(u *Unit, r *Relation, local *LocalRelation) []Hook {
	if r.Life != Alive || u.Life != Alive {
		joined := sortedUnits(local.Joined)
		if len(joined) == 0 {
			return []Hook{s.relationHook(u, r, RelationBroken, Hook{})}
		}
		departing := joined[0]
		if u.Life != Alive {
			departing = u.Name
		}
		return []Hook{s.relationHook(u, r, RelationDeparted, Hook{RemoteUnit: joined[0], DepartingUnit: departing})}
	}
	var hooks []Hook
	remote, _ := r.Remote(u.Application)
	for _, name := range sortedUnits(local.Joined) {
		if !r.inScope(name) {
			hooks = append(hooks, s.relationHook(u, r, RelationDeparted, Hook{RemoteUnit: name, DepartingUnit: name}))
		}
	}
	if len(hooks) > 0 {
		return hooks
	}
	own := r.Peer() && s.Applications[u.Application].Leader == u.Name // a leader is not told of what it wrote itself
	if bag := r.Apps[remote.Application]; bag != nil && !own && bag.Version > local.Apps[remote.Application] {
		hooks = append(hooks, s.relationHook(u, r, RelationChanged, Hook{Version: bag.Version}))
	}
	for _, name := range sortedUnits(r.Units) {
		if name == u.Name || !r.inScope(name) || !strings.HasPrefix(name, remote.Application+"/") {
			continue
		}
		seen, joined := local.Joined[name]
		switch {
		case !joined:
			hooks = append(hooks, s.relationHook(u, r, RelationJoined, Hook{RemoteUnit: name}))
		case r.Units[name].Version > seen:
			hooks = append(hooks, s.changedHook(u, r, name))
		}
	}
	return hooks
}

func (r *Relation) inScope(unit string) bool {
	ru := r.Units[unit]
	return ru != nil && ru.InScope
}

func sortedUnits[V any](m map[string]V) []string {
	names := slices.Collect(maps.Keys(m))
	sortUnits(names)
	return names
}

// rotations are the times after which a secret with a policy is due to be rotated. Calendar ones are counted in days.
var rotations = map[string]time.Duration{"hourly": time.Hour, "daily": 24 * time.Hour, "weekly": 7 * 24 * time.Hour,
	"monthly": 30 * 24 * time.Hour, "quarterly": 91 * 24 * time.Hour, "yearly": 365 * 24 * time.Hour}

func (s *State) secretHooks(u *Unit, now time.Time) []Hook {
	if !u.Uniter.Started {
		return nil
	}
	var hooks []Hook
	ids := slices.Sorted(maps.Keys(s.Secrets))
	for _, id := range ids {
		secret := s.Secrets[id]
		if secret.Consumers[u.Name] != nil && secret.Latest() > u.Uniter.Secrets[id] {
			hooks = append(hooks, Hook{Name: string(SecretChanged), Kind: SecretChanged, Secret: id})
		}
	}
	for _, id := range ids {
		secret := s.Secrets[id]
		if !s.manages(u.Name, secret) {
			continue
		}
		for _, r := range secret.Revisions {
			if r.Obsolete && !u.Uniter.Obsolete[revisionKey(id, r.Revision)] {
				hooks = append(hooks, Hook{Name: string(SecretRemove), Kind: SecretRemove, Secret: id, SecretRevision: r.Revision})
			}
		}
		if every := rotations[secret.Rotate]; every > 0 && !now.Before(secret.Rotated.Add(every)) {
			hooks = append(hooks, Hook{Name: string(SecretRotate), Kind: SecretRotate, Secret: id})
		}
		if !secret.Expire.IsZero() && !now.Before(secret.Expire) && !u.Uniter.Obsolete[expiryKey(id, secret.Latest())] {
			hooks = append(hooks, Hook{Name: string(SecretExpired), Kind: SecretExpired, Secret: id, SecretRevision: secret.Latest()})
		}
	}
	return hooks
}

func revisionKey(id string, revision int) string { return id + "/" + strconv.Itoa(revision) }

func expiryKey(id string, revision int) string { return revisionKey(id, revision) + "/expired" }

// BeginHook records that the unit's charm is being told: after a crash the hook runs again. For relation-created the unit enters
// the relation, with the settings that Juju gives every unit; from then on the other side sees it.
func (s *State) BeginHook(unit string, h Hook, now time.Time) {
	u := s.Units[unit]
	if u == nil {
		return
	}
	u.Uniter.Running = &h
	u.SetAgent(Status{Status: "executing", Message: "running " + h.Name + " hook", Since: now})
	switch h.Kind {
	case Install:
		u.SetWorkload(Status{Status: "maintenance", Message: "installing charm software", Since: now})
	case Stop:
		u.SetWorkload(Status{Status: "maintenance", Message: "stopping charm software", Since: now})
	case Remove:
		u.SetWorkload(Status{Status: "maintenance", Message: "cleaning up prior to charm deletion", Since: now})
	case RelationCreated:
		s.enterScope(u, h.Relation, now)
	}
}

func (s *State) enterScope(u *Unit, id int, now time.Time) {
	r := s.Relations[id]
	if r == nil || r.inScope(u.Name) {
		return
	}
	settings := map[string]string{}
	if m := s.Machines[u.Machine]; m != nil && m.Address() != "" {
		settings["ingress-address"] = m.Address()
		settings["egress-subnets"] = hostSubnet(m.Address())
		if s.Model.Major() < 4 {
			settings["private-address"] = m.Address()
		}
	}
	r.Units[u.Name] = &RelationUnit{InScope: true, Settings: settings, Version: 1}
	if r.Status.Status == "joining" {
		r.Status = Status{Status: "joined", Since: now}
	}
}

// HookDone records that the unit's charm has been told, so that NextHooks goes on from there. After remove the unit is taken out
// of the state.
func (s *State) HookDone(unit string, h Hook, bootID string, now time.Time) {
	u := s.Units[unit]
	if u == nil {
		return
	}
	local := &u.Uniter
	local.Running = nil
	u.forgetGone(s)
	app := s.Applications[u.Application]
	if h.Kind.IsRelation() {
		s.relationDone(u, h)
		return
	}
	switch h.Kind {
	case Install:
		local.Installed, local.CharmNotified = true, local.CharmVersion
	case UpgradeCharm:
		local.CharmNotified = local.CharmVersion
		local.ConfigHash = "" // config-changed always follows
	case ConfigChanged:
		local.ConfigHash = h.Seen
	case LeaderElected:
		local.Leader = true
	case Start:
		if !local.Started {
			local.UpdateAt = now.Add(s.updateInterval())
		}
		local.Started, local.BootID = true, bootID
		if !local.StatusSet {
			u.SetWorkload(Status{Status: "unknown", Since: now}) // the charm has said nothing yet
		}
	case Stop:
		local.Stopped = true
		u.SetWorkload(Status{Status: "terminated", Since: now})
	case Remove:
		local.Removed = true
	case UpdateStatus:
		local.UpdateAt = now.Add(s.updateInterval())
	case StorageAttached:
		local.Storage[h.Storage] = true
	case StorageDetaching:
		delete(local.Storage, h.Storage)
	case SecretChanged:
		local.Secrets[h.Secret] = h.Version
	case SecretRemove:
		local.Obsolete[revisionKey(h.Secret, h.SecretRevision)] = true
	case SecretExpired:
		local.Obsolete[expiryKey(h.Secret, h.SecretRevision)] = true
	case SecretRotate:
		if secret := s.Secrets[h.Secret]; secret != nil && !now.Before(secret.Rotated.Add(rotations[secret.Rotate])) {
			secret.Rotated = now
		}
	}
	if app != nil && app.Leader != unit {
		local.Leader = false
	}
}

func (s *State) relationDone(u *Unit, h Hook) {
	local := u.Uniter.Relations[h.Relation]
	if local == nil {
		local = &LocalRelation{Joined: map[string]int{}, Apps: map[string]int{}}
		u.Uniter.Relations[h.Relation] = local
	}
	switch h.Kind {
	case RelationCreated:
		local.Created = true
	case RelationJoined:
		local.Joined[h.RemoteUnit] = joinedOnly
	case RelationChanged:
		if h.RemoteUnit == "" {
			local.Apps[h.RemoteApp] = h.Version
		} else {
			local.Joined[h.RemoteUnit] = h.Version
		}
	case RelationDeparted:
		delete(local.Joined, h.RemoteUnit)
	case RelationBroken:
		local.Broken = true
		s.LeaveScope(h.Relation, u.Name)
		if s.Relations[h.Relation] == nil {
			delete(u.Uniter.Relations, h.Relation)
		}
	}
}

// Aim completes a hook that is about to run with what it will have told the charm: a change after this moment is a new one.
func (s *State) Aim(unit string, h Hook) Hook {
	u := s.Units[unit]
	if u == nil {
		return h
	}
	switch h.Kind {
	case ConfigChanged:
		h.Seen = s.configHash(u)
	case SecretChanged:
		if secret := s.Secrets[h.Secret]; secret != nil {
			h.Version = secret.Latest()
		}
	case RelationChanged:
		r := s.Relations[h.Relation]
		if r == nil {
			break
		}
		if h.RemoteUnit == "" {
			if bag := r.Apps[h.RemoteApp]; bag != nil {
				h.Version = bag.Version
			}
		} else if ru := r.Units[h.RemoteUnit]; ru != nil {
			h.Version = ru.Version
		}
	}
	return h
}

func (s *State) updateInterval() time.Duration {
	d, err := time.ParseDuration(s.ModelConfig("update-status-hook-interval"))
	if err != nil || d < time.Minute {
		return 5 * time.Minute
	}
	return min(d, time.Hour)
}

// forgetGone drops what the unit remembers of relations and secrets that are gone.
func (u *Unit) forgetGone(s *State) {
	maps.DeleteFunc(u.Uniter.Relations, func(id int, _ *LocalRelation) bool { return s.Relations[id] == nil })
	maps.DeleteFunc(u.Uniter.Secrets, func(id string, _ int) bool { return s.Secrets[id] == nil })
	maps.DeleteFunc(u.Uniter.Obsolete, func(key string, _ bool) bool {
		id, _, _ := strings.Cut(key, "/")
		return s.Secrets[id] == nil
	})
}

// Settle records that the unit's charm has been told of everything there is, as after a quiet while: it is installed and
// started, in its relations, and has seen every bag. For tests that begin in the middle.
func (s *State) Settle(unit, bootID string, now time.Time) {
	s.init()
	u := s.Units[unit]
	if u == nil {
		return
	}
	app := s.Applications[u.Application]
	local := &u.Uniter
	u.AgentVersion = s.Model.Version
	local.Charm, local.CharmVersion, local.CharmNotified = app.Charm, app.CharmVersion, app.CharmVersion
	local.Installed, local.Started, local.BootID, local.StatusSet = true, true, bootID, true
	local.ConfigHash, local.Leader = s.configHash(u), app.Leader == unit
	local.UpdateAt = now.Add(s.updateInterval())
	if u.Agent.Status == "" {
		u.Agent = Status{Status: "idle", Since: now}
	}
	for _, st := range s.StorageOf(unit) {
		local.Storage[st.ID] = st.Attached
	}
	for id, secret := range s.Secrets {
		if secret.Consumers[unit] != nil {
			local.Secrets[id] = secret.Latest()
		}
		for _, r := range secret.Revisions {
			if r.Obsolete && s.manages(unit, secret) {
				local.Obsolete[revisionKey(id, r.Revision)] = true
			}
		}
	}
	for _, r := range s.RelationsOf(u.Application) {
		remote, _ := r.Remote(u.Application)
		s.enterScope(u, r.ID, now)
		seen := &LocalRelation{Created: true, Joined: map[string]int{}, Apps: map[string]int{}}
		if bag := r.Apps[remote.Application]; bag != nil {
			seen.Apps[remote.Application] = bag.Version
		}
		for name, ru := range r.Units {
			if name != unit && ru.InScope && strings.HasPrefix(name, remote.Application+"/") {
				seen.Joined[name] = ru.Version
			}
		}
		local.Relations[r.ID] = seen
	}
}

// sortedTasks lists the unit's tasks that wait, oldest first.
func (s *State) sortedTasks(unit string) []*Task {
	var tasks []*Task
	for _, t := range s.Tasks {
		if t.Receiver == unit && t.Status == TaskPending {
			tasks = append(tasks, t)
		}
	}
	sort.Slice(tasks, func(i, j int) bool { return tasks[i].ID < tasks[j].ID })
	return tasks
}
