// Package provision takes machines from their provider, makes them ready, gives them back, and never loses or doubles one.
//
// # What is stored
//
// Everything that is taken from the provider is taken for a reservation. A deployment is one try at getting one machine ready for one
// reservation, and lives until that machine is back: when a try fails its reservation goes on with another machine, while the failed one is
// switched off, released and, if need be, recovered. Two unique indexes keep a machine from having two reservations or two deployments.
//
// A deployment has a phase and, within it, a step. The step that is about to be done is stored before the provider is asked for it, and each
// step can be done again: after a kill the next Loop looks at what the provider says of the machine and does the stored step. State, log
// and accounts of a machine change in one transaction.
//
// # How it goes
//
// One loop looks at all machines that are in transition with one call per poll, and at the whole list every ten minutes. Each open
// deployment is moved on by step, of which at most one at a time is under way for a deployment, in a worker of its own: a call that hangs
// holds up no other machine. A worker makes one change at the provider per step, and goes on without waiting for a poll where nothing has
// to be waited for.
//
// A provider that does not answer changes nothing: everything stays as it is, and when it answers again all deadlines are later by as long as
// it was away. The same holds for the time in which no controller was running.
//
// # The recovery ladder
//
// A machine that does not come back is brought back by these steps, each with its own deadline and in the machine's log; the first that frees
// it is the last:
//
//	abort       what the provider is doing with it                  2 minutes
//	release     again, unlocked first if it is locked               the limit for releasing
//	broken      marked broken, then fixed (or released, where the
//	            key's user may not mark machines fixed)             2 minutes
//	off         switched off, released again                        the limit for releasing
//	quarantine  its own record, then pool, tag and Broken at the provider: a person has to look at it
//
// What an ordinary user may not do is noted in the log and the next step is taken.
//
// # What is never touched
//
// Machines that somebody else holds. A machine that this lab holds at the provider and that no reservation here knows (after a restore, say)
// is left alone for a day: an agent may be at work on it. A person can release it by name.
package provision
