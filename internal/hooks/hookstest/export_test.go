package hookstest

import (
	"certlab/internal/hooks"
	"certlab/internal/juju"
)

// Processes has the charm's tools answered by what start returns, with the unit's paths changed by at.
func (s *Scenario) Processes(at func(*juju.Paths), start func(*juju.Context) (hooks.Runner, func())) *Scenario {
	s.atPaths, s.processes = at, start
	return s
}
