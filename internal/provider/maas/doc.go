// Package maas is the client of a MAAS region: cert.Provider on Canonical's gomaasclient. It knows the facts of reference/maas.md that
// other systems fell over, so that nothing above it has to.
//
// # Whose a machine is
//
// A machine is this lab's if it was allocated with the agent name certlab-LAB: that is set in the same step as the allocation, so of
// two that try at once one has it. MAAS shows the agent name nowhere; it can only be filtered by. So right after allocating the client
// also writes the workload annotation certlab-lab=LAB, which is in each machine's document (and which people see in MAAS). That makes
// one call enough for List and for Look, whatever they find:
//
//   - no owner: nobody's
//   - the annotation juju-model-uuid: a Juju model's, always, whoever's user it runs under
//   - another user's than the key's: somebody else's
//   - annotated with this lab: this lab's; with another: that lab's
//   - the key's user, not annotated: this lab died between the two steps, or a person or another program uses the same key. Then, and
//     only then, a second call asks which of these carry the agent name.
//
// MAAS clears the agent name as soon as a release begins, and owner and annotations only when it has ended. So while a machine is being
// released, or after that has failed, its annotation is what tells whose it is.
//
// An ordinary user sees only machines that are its own or nobody's. So what is not in the list may be another user's, and need not be gone;
// with an administrator's key everybody's are there.
//
// # Changes
//
// Before each change (and before each repetition of one) the machine is read again, with one call that asks for its id and the agent
// name together; what does not come back is refused, and a second call finds out for the message who has it. Between that reading and
// the change MAAS's own rules hold: another user's machine is refused by MAAS unless the key is an administrator's, which is why a lab
// should not use one. A free machine can only be acquired: deploy would take it without the agent name, so deploy insists on a machine
// that is allocated.
//
// One machine's whole way costs at most ten calls: acquire 2 (allocate, annotate), deploy 2 (read, deploy), lock 2, unlock 2, release 2;
// a release that finds the machine locked unlocks it by itself (3, and no unlock before it).
//
// # Attempts
//
// Each attempt is signed anew on a connection of its own: MAAS takes a nonce once, and net/http would repeat a request on a connection
// that has died. Reads are repeated when MAAS is unreachable, busy, restarting or silent; changes only if nothing can have happened.
// Everything is bounded: attempts, answers, waits, calls at once.
package maas
