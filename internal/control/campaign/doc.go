// Package campaign plans campaigns and runs them: it decides which machine gets which plan, has each target tried until there are results or there is
// nothing left to try, and follows newer spins, people's wishes and due dates. What results mean is told by package review, to which a target is handed
// with its results (state comparing); so is whether a campaign may be approved.
//
// # What is stored
//
// A target is one plan on one machine. A try is one run for a target: its run's and its reservation's ids are chosen and stored with the target before
// anything is asked for, so whatever is asked for after a kill is the same thing again. A unit's run is added in the very transaction in which its try
// is stored; a reservation is asked for after it, and asked for again by the same id until the try says that it is there.
//
// # How it goes
//
// One loop looks at each campaign that has something to do: it is woken when a run begins or ends, and looks now and then by itself. A turn reads which
// open tries have come to something new (one query, which compares what they have come to with what was noted of each), brings their targets up to it,
// and begins as many of the targets that are due as there is room for. What it costs goes by what has happened, not by how many targets there are.
//
// One try at a time per target is under way. What a try has come to decides what follows:
//
//	results           comparing: package review does the rest
//	infrastructure    again after a while, at most as often as the policy says; on an equal machine if it says so
//	kernel-boot       on the same machine, at most as often as the policy says; then blocked. Each counts
//	an incident's     what the lab does again by itself is followed
//	what cannot help  missing, with the reason: no such plan, jobs that ask for a person
package campaign
