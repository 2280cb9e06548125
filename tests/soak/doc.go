// Package soak runs a lab for a while, starts random runs in it, kills random parts of it, and then asks whether everything that was
// acknowledged is there, once, with nobody's help.
//
// What is done, to what and when is drawn from one seed before the lab starts (Plan). The same seed gives the same plan; what it
// meets differs from run to run, because the lab's timing does.
//
// The lab is the real local lab: namespaces for machines, the packed charms, real Pebble, real Checkbox, the built programs. What is not
// real is power: a machine that is cut off loses its processes, not its disk's cache.
package soak
