package hooks

import "fmt"

// Names of statuses that a charm can set.
const (
	ActiveStatus      = "active"
	BlockedStatus     = "blocked"
	WaitingStatus     = "waiting"
	MaintenanceStatus = "maintenance"
)

// A Status is what `juju status` shows. It is also an error, so any depth can stop with hooks.Blocked("set the plan option").
type Status struct{ Name, Message string }

func (s Status) Error() string {
	if s.Message == "" {
		return s.Name
	}
	return s.Name + ": " + s.Message
}

// Active is a Status for a unit that does its job. Without arguments the format is used as it is.
func Active(format string, args ...any) Status { return status(ActiveStatus, format, args) }

// Blocked is a Status for a unit that needs an operator, who is told what to do.
func Blocked(format string, args ...any) Status { return status(BlockedStatus, format, args) }

// Waiting is a Status for a unit that waits for another one.
func Waiting(format string, args ...any) Status { return status(WaitingStatus, format, args) }

// Maintenance is a Status for a unit that is busy getting ready.
func Maintenance(format string, args ...any) Status { return status(MaintenanceStatus, format, args) }

func status(name, format string, args []any) Status {
	if len(args) == 0 {
		return Status{Name: name, Message: format}
	}
	return Status{Name: name, Message: fmt.Sprintf(format, args...)}
}
