// Package locallab runs a whole lab on one Linux machine, with no Juju and no MAAS: machines made of namespaces, the agents of the
// units on them, and a daemon that people talk to with "certlab lab" and "certlab juju".
//
// # Machines
//
// A machine is a PID, mount, UTS and IPC namespace over the host's network. Its file system is the host's, read through an overlay
// whose writable half lies in the lab's directory: what a machine writes stays there over reboots and over "lab down", and never
// reaches the host. /tmp, /run, /dev and /proc are the machine's own. Its process 1 is this program (see [Applet]): it reaps, starts
// the enabled unit files, and answers the part of systemctl that Certlab uses, so that "systemctl reboot" ends that machine and no other.
//
// Everything that belongs to a machine hangs on its process 1, and that one on the lab's process: all mounts live in the machine's
// own mount namespace, and the kernel kills every process in a PID namespace when its first one goes. So a power cut is one SIGKILL,
// and a lab that is itself killed leaves nothing running and nothing mounted.
//
// A machine is a convenience and not a prison: it takes away what would hurt the host by accident (setting the clock, loading modules,
// disks, sysctl, the network's configuration), and nothing that a determined program could not get around.
//
// # Limits
//
// Machines share the host's kernel, clock, network and, under /sys, its hardware. Without control groups, a service's processes are
// found by the INVOCATION_ID in their environment: a process that empties its environment and leaves its session is not seen as
// part of the service, but still ends with the machine. A power cut loses no dirty pages, because the host's kernel lives on.
package locallab
