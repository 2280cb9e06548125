package locallab

import (
	"path/filepath"
)

// Names under which the program finds itself started; the first four are never typed by anybody.
const (
	appletBoot   = "certlab-lab-boot"
	appletInit   = "certlab-lab-init"
	appletProbe  = "certlab-lab-probe"
	appletDaemon = "certlab-lab-daemon"
)

// Directories and files of the lab inside a machine.
const (
	insideDir    = "/run/certlab-lab"
	insideExe    = insideDir + "/certlab"
	insideSocket = insideDir + "/init.sock"
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
	case appletProbe:
		return probeMain(), true
	}
	if run, found := insideApplets[name]; found {
		return run(name, args[1:]), true
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
}
