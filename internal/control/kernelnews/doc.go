// Package kernelnews reads the kernel team's status: which kernels their workflow manager names as ready for certification testing. The public one is
// https://kernel.ubuntu.com/swm/status.json, which Test Observer polls too; the same file can be handed in.
//
// The format is not promised by anybody. It is an object whose "trackers" has one object for each tracking bug, by the bug's number; known from what
// the kernel team's own dashboard reads of it (kteam-tools, kernel-stable-dashboard.mako) and Test Observer's swm_reader. So a tracker that is not
// understood is named and left out, and the others count.
//
// What it says is a proposal and nothing else: which version is where, and until when it is wanted. Nothing is started by it, and no approval rests on
// it: what ran on a machine is proved on the machine.
package kernelnews
