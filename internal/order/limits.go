package order

// Defaults returns the limits with what was left out filled in. This is the only place where the defaults are.
func (l FleetLimits) Defaults() FleetLimits {
	for _, d := range []struct {
		to    *int
		value int
	}{
		{&l.MaxExtensions, 10}, {&l.MaxPerPerson, 10}, {&l.MaxQueue, 1000}, {&l.MaxTries, 10}, {&l.ReminderMinutes, 30}, {&l.DeployMinutes, 40},
		{&l.BootMinutes, 15}, {&l.EnrolMinutes, 45}, {&l.ReleaseMinutes, 10}, {&l.SilenceMinutes, 15}, {&l.PowerCycles, 3}, {&l.QuarantineAfter, 3},
		{&l.IncidentMachines, 5}, {&l.IncidentPercent, 10}, {&l.IncidentMinutes, 15}, {&l.MaxDeploying, 50},
	} {
		if *d.to <= 0 {
			*d.to = d.value
		}
	}
	if l.MaxHours <= 0 {
		l.MaxHours = 72
	}
	return l
}
