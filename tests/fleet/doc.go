// Package fleet runs a controller over a simulated MAAS region with many machines, and kills the controller while they are provisioned
// and released.
//
// certlabd is the built program with real TLS; the region is internal/provider/maas/maastest over real HTTP. The machines are not real: each is
// a goroutine that does what the machine's cloud-init and its agent would do, with the token that it finds in its user-data. Their disks outlive
// the controller, so that what they hold and nobody has acknowledged can be counted.
package fleet
