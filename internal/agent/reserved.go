package agent

import (
	"path/filepath"

	"certlab/internal/agent/checkbox"
	"certlab/internal/order"
)

// A machine that a person has reserved is theirs. The agent installs Checkbox for them once, and from then on touches neither what is
// installed nor what Checkbox keeps there, but for runs that somebody asks for.

// handedOverFile marks that Checkbox was installed for who has the machine.
const handedOverFile = "handed-over.json"

// handedOver reports whether what is installed is not the agent's to change any more.
func (a *Agent) handedOver(desired order.AgentDesired) bool {
	return desired.Reserved && exists(filepath.Join(a.opts.Dir, handedOverFile))
}

// handOver notes that Checkbox is ready for who has the machine.
func (a *Agent) handOver(desired order.AgentDesired, tool *checkbox.Tool) error {
	if !desired.Reserved || a.handedOver(desired) {
		return nil
	}
	return writeJSON(filepath.Join(a.opts.Dir, handedOverFile), map[string]string{"checkbox": tool.Version.String()}, 0o600)
}

// spareSessions fails if a person's unfinished session is in the way of a run: Checkbox would go on with that one, and to move it away is
// theirs to decide.
func (t *attempt) spareSessions() error {
	sessions, err := checkbox.Sessions(t.agent.opts.SessionsDir)
	if err != nil {
		return fail(order.FailCheckbox, "%v", err)
	}
	for _, s := range sessions {
		if s.Incomplete && !s.Listing() && s.Description != t.description() {
			return fail(order.FailCheckbox, "an unfinished session of Checkbox that somebody began by hand is on this machine, which is reserved: "+
				"finish it, or move %s elsewhere, and run the plan again", s.Dir)
		}
	}
	return nil
}
