package main

import (
	"context"
	"fmt"

	"certlab/internal/cert"
)

// maxPlacements bounds how many units' machines are named as a problem.
const maxPlacements = 5

// placements says what is wrong with the machines that units say they are on. That MAAS does not know one matters only where units' machines are to
// be switched (power-units): units may well be on another MAAS's. And to an ordinary user MAAS does not show the machines of others, Juju's among
// them: that one is missing means something only with an administrator's key.
func (s *service) placements(ctx context.Context) (problems []string) {
	about := s.fleet.About()
	desired := s.lab.Desired()
	agents := desired.Agents
	missing := about != nil && about.Admin && desired.Fleet.MAAS.PowerUnits
	if about == nil || len(agents) == 0 {
		return nil
	}
	rows, err := s.db.FleetRows(ctx)
	if err != nil {
		return nil // whoever reads the database says so
	}
	var machines []cert.Provided
	listed := make(map[string]bool)
	for _, r := range rows {
		if r.Provider != "" && r.Provided != nil && r.Gone == nil {
			machines = append(machines, *r.Provided)
			listed[r.Provided.ID] = true
		}
	}
	for _, a := range agents {
		if !missing && !listed[a.Identity.SystemID] {
			continue
		}
		if p := cert.PlaceUnit(a.Unit, a.Identity, machines).Problem; p != "" {
			problems = append(problems, p)
		}
	}
	if more := len(problems) - maxPlacements; more > 0 {
		problems = append(problems[:maxPlacements], fmt.Sprintf("%d more units are not on the machines of MAAS that they say", more))
	}
	return problems
}
