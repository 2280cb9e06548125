package juju

import (
	"errors"
	"fmt"
	"slices"
)

var settable = []string{"maintenance", "blocked", "waiting", "active"}

// statusSet is stored at once: it does not wait for the hook's end, and stays if the hook fails.
func statusSet(i *invocation) error {
	if len(i.args) == 0 {
		return usagef("invalid args, require <status> [message]")
	}
	if !slices.Contains(settable, i.args[0]) {
		return usagef("invalid status %q, expected one of %v", i.args[0], settable)
	}
	status := Status{Status: i.args[0], Since: i.model.Now()}
	if len(i.args) > 1 {
		if err := noMore(i.args[2:]); err != nil {
			return err
		}
		status.Message = i.args[1]
	}
	return i.model.Update(func(s *State) error {
		app, unit := s.Applications[i.app], s.Units[i.unit]
		if app == nil || unit == nil {
			return fmt.Errorf("unit %q not found", i.unit)
		}
		if !i.flag("application") {
			unit.SetWorkload(status)
			unit.Uniter.StatusSet = true
			return nil
		}
		if app.Leader != i.unit {
			return errNotLeader
		}
		app.Status = status
		return nil
	})
}

// errNotLeader: its text was not measured.
var errNotLeader = errors.New("this unit is not the leader")

func statusGet(i *invocation) error {
	if err := noMore(i.args); err != nil {
		return err
	}
	if i.flag("application") {
		if !i.leader() {
			return errNotLeader
		}
		return i.writeStatus(i.state.ApplicationStatus(i.app), i.flag("include-data"))
	}
	if i.status == nil {
		status := i.state.Units[i.unit].WorkloadStatus()
		if failed := i.state.Units[i.unit].Failed; failed != nil {
			status = i.state.Units[i.unit].Workload // the charm's own word, also in an error
		}
		i.status = &status
	}
	return i.writeStatus(*i.status, i.flag("include-data"))
}

func (i *invocation) writeStatus(status Status, all bool) error {
	switch {
	case all:
		data := status.Data
		if data == nil {
			data = map[string]any{}
		}
		return i.write(map[string]any{"status": status.Status, "message": status.Message, "status-data": data})
	case i.flags["format"] == "smart":
		return i.write(status.Status)
	}
	return i.write(map[string]any{"status": status.Status})
}

// severity orders workload statuses for the status of an application that its leader has not set. The worst unit's counts.
var severity = []string{"error", "blocked", "waiting", "maintenance", "active", "terminated", "unknown"}

// ApplicationStatus is what `juju status` shows for an application: what its leader has set, or else the worst of its units'.
func (s *State) ApplicationStatus(application string) Status {
	app := s.Applications[application]
	if app == nil {
		return Status{}
	}
	if app.Status.Status != "" {
		return app.Status
	}
	worst, rank := Status{Status: "unknown", Since: app.Created}, len(severity)
	for _, u := range s.UnitsOf(application) {
		status := u.Workload
		if u.Failed != nil {
			status = Status{Status: "error", Message: u.Failed.Message(), Since: u.Failed.Since}
		}
		if r := slices.Index(severity, status.Status); r >= 0 && r < rank {
			worst, rank = status, r
		}
	}
	return worst
}
