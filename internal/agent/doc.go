// Package agent is the process on a machine under test that takes orders, runs Checkbox and delivers what came of it.
//
// # What survives what
//
// A run is a directory, runs/<run>, whose run.json says how far it got; each step is on disk before it is taken. Checkbox itself is
// started by a keeper, a small process of its own session and control group which outlives the agent and Pebble. So:
//
//   - the agent is killed or restarted: the keeper and Checkbox go on; the new agent finds the keeper by its lock and goes on watching;
//   - the keeper is killed: Checkbox ends with it, the agent has Checkbox resume its session;
//   - the machine reboots or loses power: the agent finds another boot id, and has Checkbox resume its session;
//   - the machine is killed while it gets a subject, or is put back afterwards: subject.json says how far it got, and it goes on from there;
//   - the controller is away: files stay in spool/ until it has acknowledged them.
//
// Every interruption is recorded with the job that it hit, and that job is never a pass unless it is flagged noreturn.
//
// # Directory
//
//	desired.json   what the charm wants            key.pem       this agent's key
//	public.json    key and identity, for the charm agent.sock    the API, for root
//	lock           held by the running agent       providers/    .provider files for Checkbox
//	runs/<run>/run.json, attempt-<n>/{launcher.conf,secret.conf,jobs.json,console,submission.tar.xz}
//	runs/<run>/attempt-<n>/start-<n>/{start.json,keep.json,exit.json,lock}
//	subject.json, replaced/      what a run's subject has changed on the machine, and what it has replaced
//	spool/<run>/   files that wait for the controller, or for room
package agent
