package main

import (
	"errors"
	"slices"
	"strings"

	"certlab/internal/cert"
	"certlab/internal/client"
)

// Exit statuses of the commands about campaigns and what belongs to them, for scripts: docs/reference/exit-codes.md. What went wrong is never
// one of those that say how a campaign stands.
const (
	exitApproved  = exitCode(0)
	exitRejected  = exitCode(1)
	exitUndecided = exitCode(2) // all is here, and a person has to decide
	exitRunning   = exitCode(3) // not all is here
	exitNoVerdict = exitCode(4) // cancelled, or superseded by a newer spin

	exitUsage    = exitCode(64) // the arguments, or what they ask for, are wrong and will stay so
	exitData     = exitCode(65) // what was to be verified is not as it was written
	exitNothing  = exitCode(66) // there is no such thing
	exitAway     = exitCode(69) // the controller cannot be reached, or says: not now
	exitSoftware = exitCode(70) // anything else
	exitConflict = exitCode(75) // not in the present state: look again
	exitNoRight  = exitCode(77) // not logged in, or without the role
)

// scripted are the groups of commands with these exit statuses.
var scripted = []string{"campaign", "finding", "issue", "decision", "policy", "kernel"}

// isScripted reports whether a command line is of one of them.
func isScripted(args []string) bool {
	for _, arg := range args {
		if !strings.HasPrefix(arg, "-") {
			return slices.Contains(scripted, arg)
		}
	}
	return false
}

// A usageError is about the arguments.
type usageError struct{ error }

// failStatus is the exit status for what went wrong.
func failStatus(err error) exitCode {
	var usage usageError
	var answer *client.Error
	var away *client.AwayError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, errNotLoggedIn):
		return exitNoRight
	case errors.As(err, &away):
		return exitAway
	case !errors.As(err, &answer):
		return exitSoftware
	}
	switch answer.Code {
	case cert.Invalid, cert.Rejected, cert.TooLarge:
		return exitUsage
	case cert.NotFound, cert.Gone:
		return exitNothing
	case cert.Unauthorized, cert.Forbidden:
		return exitNoRight
	case cert.Conflict:
		return exitConflict
	case cert.Unavailable, cert.TooMany, cert.NoSpace:
		return exitAway
	}
	return exitSoftware
}

// standingStatus is the exit status for how a campaign stands. Approved is only what has a verdict that says so and that nothing contradicts.
func standingStatus(v cert.CampaignView) exitCode {
	switch v.Campaign.State {
	case cert.CampaignApproved:
		if v.Verdict != nil && v.Verdict.Outcome == cert.StandApproved && v.Late == 0 {
			return exitApproved
		}
		return exitUndecided
	case cert.CampaignRejected:
		return exitRejected
	case cert.CampaignCancelled, cert.CampaignSuperseded:
		return exitNoVerdict
	case cert.CampaignDeciding:
		return exitUndecided
	}
	if v.Standing != "" && v.Standing != cert.StandWaiting {
		return exitUndecided // all is here, although the campaign is not closed yet
	}
	return exitRunning
}

// decidedStatus is the same for the answer to a decision.
func decidedStatus(d cert.Decided) exitCode {
	switch {
	case d.Verdict != nil && d.Verdict.Outcome == cert.StandApproved && d.Standing == cert.StandApproved:
		return exitApproved
	case d.Verdict != nil && d.Verdict.Outcome == cert.StandRejected && d.Standing == cert.StandRejected:
		return exitRejected
	case d.Standing == cert.StandWaiting:
		return exitRunning
	}
	return exitUndecided
}

// status ends a command with a code; 0 is no error.
func (e exitCode) status() error {
	if e == 0 {
		return nil
	}
	return e
}
