// Command jujuc is every hook tool of the local lab's machines: links to it are named config-get, status-set and so on, and
// juju-exec. The unit's agent, which it asks over a unix socket, does the work.
package main

import (
	"os"

	"certlab/internal/juju/toolclient"
)

func main() {
	os.Exit(toolclient.Main(os.Args, os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}
