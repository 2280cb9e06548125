// Command cert-controller is the dispatch of the charm cert-controller: Juju starts it for each hook and action. It turns the
// unit's options, storage and relations into the desired state of certlabd, keeps that running, and tells agents where it is.
//
// The machines that may connect are those whose checkbox units are in the relation now. A hook reads the one unit that its event
// names, and lists who is there; so it costs the same with a thousand units as with one.
package main

import (
	"context"
	"os"
	"path/filepath"

	"certlab/internal/hooks"
	"certlab/internal/order"
	"certlab/internal/workload"
)

func main() { os.Exit(hooks.Main(newCharm(system{}))) }

// A system is what a test puts in the place of the machine's own. The zero value is the machine.
type system struct {
	root      string       // for workload.Root
	unitFiles string       // for /etc/systemd/system
	run       workload.Run // for systemctl
	charmDir  string       // for JUJU_CHARM_DIR
	step      func(string) // told of each change of the machine before it is made
	proc      string       // for /proc
}

func (sys system) charm(u *hooks.Unit) string {
	if sys.charmDir != "" {
		return sys.charmDir
	}
	return u.Env.CharmDir
}

func newCharm(sys system) hooks.Charm {
	return hooks.Charm{
		Reconcile: sys.reconcile,
		Remove:    sys.remove,
		Actions: map[string]hooks.Action{
			"list-machines":      sys.listMachines,
			"show-machine":       sys.showMachine,
			"quarantine":         sys.quarantine(),
			"return-to-service":  sys.returnToService(),
			"power":              sys.power(),
			"console-log":        sys.consoleLog,
			"import-dossiers":    sys.importDossiers,
			"export-dossiers":    sys.exportDossiers,
			"run-plan":           sys.runPlan,
			"list-reservations":  sys.listReservations,
			"show-reservation":   sys.showReservation,
			"cancel-reservation": sys.cancelReservation,
			"pause":              sys.pause(),
			"resume":             sys.resume,
			"list-incidents":     sys.listIncidents,
			"usage":              sys.usage,
			"show-fleet":         sys.showFleet,
			"start-campaign":     sys.startCampaign,
			"list-campaigns":     sys.listCampaigns,
			"show-campaign":      sys.showCampaign,
			"cancel-campaign":    sys.cancelCampaign,
			"retry-campaign":     sys.retryCampaign,
			"export-campaign":    sys.exportCampaign,
			"show-run":           sys.showRun,
			"create-token":       sys.createToken,
			"revoke-token":       sys.revokeToken,
			"backup":             sys.backup,
			"restore":            sys.restore,
			"repair":             sys.repair,
		},
	}
}

// service is the workload of this unit, and how to talk to it.
type service struct {
	*workload.Workload
	socket workload.Socket
}

// serviceDir is certlabd's run directory below the unit's.
const serviceDir = "service"

func (sys system) service(u *hooks.Unit) (service, error) {
	w, err := workload.New(workload.Config{
		Unit: u.Name, CharmDir: sys.charm(u), Root: sys.root, UnitFiles: sys.unitFiles, Run: sys.run, Log: u.Log, Step: sys.step, Proc: sys.proc,
		Service: workload.Service{Name: "certlabd", Summary: "Coordinates the lab", Dir: serviceDir},
	})
	if err != nil {
		return service{}, err
	}
	return service{w, w.Socket(order.ControllerSocket)}, nil
}

func (s service) health(ctx context.Context) (order.ControllerHealth, error) {
	var health order.ControllerHealth
	err := s.socket.Call(ctx, "GET", "/health/ready", nil, &health)
	return health, err
}

func (s service) file(name string) string { return filepath.Join(s.Dir(), name) }
