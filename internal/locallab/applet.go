package locallab

import (
	"os"
	"path/filepath"
	"slices"

	"certlab/internal/juju"
	"certlab/internal/juju/toolclient"
)

// Names under which the program finds itself started; nobody types them.
const (
	appletBoot   = "certlab-lab-boot"
	appletInit   = "certlab-lab-init"
	appletProbe  = "certlab-lab-probe"
	appletDaemon = "certlab-lab-daemon"
	appletUnpack = "certlab-lab-unpack"
	appletCloud  = "certlab-lab-cloud-init"
)

// Directories and files of the lab inside a machine.
const (
	insideDir    = "/run/certlab-lab"
	insideExe    = insideDir + "/certlab"
	insideSocket = insideDir + "/init.sock"
	insideUnpack = insideDir + "/" + appletUnpack
	insideJujuc  = insideDir + "/jujuc"
	insideUname  = insideDir + "/uname"
)

// Applet runs what the program is asked to be by the name it was started under: a machine's first process, the lab's daemon, or, on
// a machine, systemctl and its relatives. It reports false when args[0] is no such name. A program that uses this package calls it
// before anything else in main (a test, in TestMain), since machines start the running executable again.
func Applet(args []string) (code int, ok bool) {
	if len(args) == 0 {
		return 0, false
	}
	name := filepath.Base(args[0])
	switch name {
	case appletBoot:
		return bootMain(), true
	case appletInit:
		return initMain(), true
	case appletDaemon:
		return daemonMain(args[1:]), true
	case appletProbe:
		return probeMain(), true
	case appletCloud:
		return cloudMain(), true
	}
	if name == appletUnpack {
		return unpackMain(args[1:]), true
	}
	if run, found := insideApplets[name]; found {
		return run(name, args[1:]), true
	}
	if isHookTool(name) {
		return toolclient.Main(args, os.Getenv, os.Stdin, os.Stdout, os.Stderr), true
	}
	return 0, false
}

// insideApplets are the programs that the lab puts in front of the host's on a machine, or starts there itself.
var insideApplets = map[string]func(name string, args []string) int{
	"systemctl": systemctlMain,
	"reboot":    systemctlMain,
	"poweroff":  systemctlMain,
	"halt":      systemctlMain,
	"shutdown":  systemctlMain,

	"update-grub": updateGrubMain,
}

// hookTools are the names of the programs through which charms talk to Juju, of every version.
func hookTools() []string {
	names := append(juju.ToolNames(3), juju.ToolNames(4)...)
	slices.Sort(names)
	return slices.Compact(names)
}

func isHookTool(name string) bool {
	return name == "juju-exec" || name == "juju-run" || slices.Contains(hookTools(), name)
}
