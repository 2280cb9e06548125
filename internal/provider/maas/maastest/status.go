package maastest

import "slices"

// A Status is MAAS's number for where a machine is in its life.
type Status int

// MAAS's statuses.
const (
	StatusNew            Status = 0
	Commissioning        Status = 1
	FailedCommissioning  Status = 2
	Missing              Status = 3
	Ready                Status = 4
	Reserved             Status = 5
	Deployed             Status = 6
	Retired              Status = 7
	Broken               Status = 8
	Deploying            Status = 9
	Allocated            Status = 10
	FailedDeployment     Status = 11
	Releasing            Status = 12
	FailedReleasing      Status = 13
	DiskErasing          Status = 14
	FailedDiskErasing    Status = 15
	RescueMode           Status = 16
	EnteringRescueMode   Status = 17
	FailedEnteringRescue Status = 18
	ExitingRescueMode    Status = 19
	FailedExitingRescue  Status = 20
	Testing              Status = 21
	FailedTesting        Status = 22
)

// statusNames are the names shown, and the ones that the status filter takes, by number.
func statusNames() []struct{ Shown, Filter string } {
	return []struct{ Shown, Filter string }{
		{"New", "new"}, {"Commissioning", "commissioning"}, {"Failed commissioning", "failed_commissioning"}, {"Missing", "missing"},
		{"Ready", "ready"}, {"Reserved", "reserved"}, {"Deployed", "deployed"}, {"Retired", "retired"}, {"Broken", "broken"},
		{"Deploying", "deploying"}, {"Allocated", "allocated"}, {"Failed deployment", "failed_deployment"}, {"Releasing", "releasing"},
		{"Releasing failed", "failed_releasing"}, {"Disk erasing", "disk_erasing"}, {"Failed disk erasing", "failed_disk_erasing"},
		{"Rescue mode", "rescue_mode"}, {"Entering rescue mode", "entering_rescue_mode"},
		{"Failed to enter rescue mode", "failed_entering_rescue_mode"}, {"Exiting rescue mode", "exiting_rescue_mode"},
		{"Failed to exit rescue mode", "failed_exiting_rescue_mode"}, {"Testing", "testing"}, {"Failed testing", "failed_testing"},
	}
}

func (s Status) String() string {
	names := statusNames()
	if s < 0 || int(s) >= len(names) {
		return "Unknown"
	}
	return names[s].Shown
}

// statusOf returns the status that a filter's value names.
func statusOf(filter string) (Status, bool) {
	for i, n := range statusNames() {
		if n.Filter == filter {
			return Status(i), true
		}
	}
	return 0, false
}

// Transitions returns where a machine may go from each status: MAAS's NODE_TRANSITIONS.
func Transitions() map[Status][]Status {
	return map[Status][]Status{
		StatusNew:            {Commissioning, Missing, Ready, Retired, Broken, EnteringRescueMode},
		Commissioning:        {FailedCommissioning, Ready, Retired, Missing, StatusNew, Broken, Testing},
		FailedCommissioning:  {Commissioning, Missing, Retired, Broken, EnteringRescueMode, Testing},
		Ready:                {EnteringRescueMode, Commissioning, Allocated, Reserved, Retired, Missing, Broken, Testing},
		Reserved:             {Ready, Allocated, Retired, Missing, Broken, DiskErasing, Releasing, EnteringRescueMode, Testing},
		Allocated:            {Ready, Retired, Missing, Broken, Deploying, DiskErasing, Releasing, EnteringRescueMode, Testing},
		Releasing:            {Allocated, Reserved, Deployed, Ready, Broken, Missing, FailedDeployment, FailedDiskErasing, FailedReleasing},
		Deploying:            {Allocated, Missing, Broken, FailedDeployment, Deployed, Ready, DiskErasing, Releasing},
		FailedDeployment:     {Allocated, Missing, Broken, Ready, DiskErasing, Releasing, EnteringRescueMode, Testing},
		Deployed:             {Allocated, Missing, Broken, Ready, DiskErasing, Releasing, EnteringRescueMode, Testing},
		Missing:              {StatusNew, Ready, Allocated, Commissioning, Broken, EnteringRescueMode, Testing},
		Retired:              {StatusNew, Ready, Missing, Broken, EnteringRescueMode, Testing},
		Broken:               {Commissioning, Ready, DiskErasing, Releasing, EnteringRescueMode, Testing, Deployed},
		FailedReleasing:      {Releasing, DiskErasing, Ready, Broken, Testing},
		DiskErasing:          {Broken, DiskErasing, FailedDiskErasing, Ready, Releasing},
		FailedDiskErasing:    {DiskErasing, Releasing, Broken, Allocated, Ready, EnteringRescueMode, Testing},
		EnteringRescueMode:   {Ready, Broken, Deployed, RescueMode, FailedEnteringRescue, ExitingRescueMode},
		FailedEnteringRescue: {Broken, EnteringRescueMode, ExitingRescueMode, Testing},
		RescueMode:           {Broken, ExitingRescueMode, Testing},
		ExitingRescueMode: {StatusNew, Broken, FailedCommissioning, Ready, Reserved, Allocated, FailedDeployment, Deployed, Missing, Retired,
			FailedReleasing, FailedDiskErasing, RescueMode, FailedEnteringRescue, FailedExitingRescue, FailedTesting},
		FailedExitingRescue: {Broken, ExitingRescueMode, Testing},
		Testing: {Broken, StatusNew, Ready, Reserved, Allocated, Deployed, Commissioning, FailedDeployment, Missing, Retired, FailedReleasing,
			FailedDiskErasing, FailedEnteringRescue, FailedExitingRescue, FailedTesting},
		FailedTesting: {Commissioning, Broken, Missing, EnteringRescueMode, Testing, Ready, Deployed},
	}
}

// MayGo tells whether MAAS lets a machine go from one status to another.
func MayGo(from, to Status) bool { return from == to || slices.Contains(Transitions()[from], to) }

// failedStatus is where something that was going on ends when it fails.
func failedStatus(s Status) (Status, bool) {
	failed := map[Status]Status{
		Commissioning: FailedCommissioning, Deploying: FailedDeployment, Releasing: FailedReleasing, DiskErasing: FailedDiskErasing,
		EnteringRescueMode: FailedEnteringRescue, ExitingRescueMode: FailedExitingRescue, Testing: FailedTesting,
	}
	to, ok := failed[s]
	return to, ok
}
