package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"certlab/internal/hooks"
	"certlab/internal/order"
	"certlab/internal/relate/certagents"
	"certlab/internal/workload"
)

const (
	// settleTime is how long a hook waits for the service to start or to apply a new desired state. What takes longer shows at
	// the next dispatch, which the service asks for.
	settleTime = 5 * time.Second
	// maxAddresses bounds what the server's certificate is good for.
	maxAddresses = 50
)

// Settings of the unit's state, which Juju keeps together with what it stands for: both are written, or neither.
const (
	establishedKey = "established" // this unit runs the lab's service
	portKey        = "port"        // that is open
	bagKey         = "databag."    // and a relation's id: hash of what was published there
)

// reconcile makes the machine as Juju says it should be, and reports how it is.
func (sys system) reconcile(ctx context.Context, u *hooks.Unit) error {
	s, err := sys.service(u)
	if err != nil {
		return err
	}
	if u.Event.Kind == hooks.StorageDetaching {
		if err := s.detach(ctx); err != nil {
			return err
		}
		return hooks.Blocked("the storage is being detached; everything that the lab knows is on it")
	}
	state, err := u.StateGet(ctx)
	if err != nil {
		return err
	}
	if state[establishedKey] == "" {
		if err := soleUnit(ctx, u); err != nil {
			return err
		}
	}
	var opts options
	if err := u.Config(ctx, &opts); err != nil {
		return err
	}
	if err := os.MkdirAll(s.Dir(), 0o700); err != nil {
		return fmt.Errorf("cannot make the service's directory: %w", err)
	}
	old, haveOld := s.readDesired()
	if old.ModelUUID != u.Env.ModelUUID { // of a unit of the same name, whose end the charm was never told of
		old, haveOld = order.ControllerDesired{}, false
	}
	relations, err := u.RelationIDs(ctx, certagents.Endpoint)
	if err != nil {
		return err
	}
	// Units that have left lose their access whatever else is wrong.
	enrolled, err := s.enrol(ctx, u, old.Agents, relations, state[establishedKey] != "" && !haveOld)
	if err != nil {
		return err
	}
	desired, addresses, problem := s.desired(ctx, u, opts)
	var outfit outfit
	if problem == nil {
		if outfit, err = s.equip(ctx, u, opts, &desired.Fleet, old.Fleet, sys.charm(u)); err != nil {
			return err
		}
	}
	if problem != nil {
		if !isStatus(problem) {
			return problem
		}
		if haveOld {
			old.Agents = enrolled.list()
			if _, err := s.settleOn(ctx, old); err != nil && !notThere(err) {
				return err
			}
		}
		return problem
	}
	desired.Agents = enrolled.list()
	if _, err := s.writeDesired(desired); err != nil {
		return err
	}
	if _, err := s.Apply(ctx, workload.Options{MayInterrupt: true, RestartOnNewPrograms: true}); err != nil {
		return err
	}
	health, err := s.settleOn(ctx, desired)
	if notThere(err) {
		return s.notAnswering(ctx)
	}
	if err != nil {
		return err
	}
	if trouble(health) != "" {
		if err := s.suspect(outfit); err != nil {
			return err
		}
	}
	want := map[string]string{establishedKey: "yes"}
	if port := strconv.Itoa(desired.Port); state[portKey] != port {
		if err := u.SetPorts(ctx, port+"/tcp"); err != nil {
			return err
		}
		want[portKey] = port
	}
	led, err := s.publish(ctx, u, state, relations, agentURLs(addresses, strconv.Itoa(desired.Port)), want)
	if err != nil {
		return err
	}
	if err := u.StateSet(ctx, want); err != nil {
		return err
	}
	if health.Ready && health.Version != "" && u.Event.Kind != hooks.Install { // another hook follows install
		if err := u.SetApplicationVersion(ctx, health.Version); err != nil {
			return err
		}
	}
	if health.Ready {
		if err := s.removeOld(desired.Fleet); err != nil {
			return err
		}
	}
	return unitStatus(health, cmp.Or(enrolled.problem(), outfit.problem()), outfit.note(), led, opts, desired)
}

func isStatus(err error) bool {
	var status hooks.Status
	return errors.As(err, &status)
}

func notThere(err error) bool {
	return errors.Is(err, workload.ErrNotAnswering) || errors.Is(err, context.DeadlineExceeded)
}

// soleUnit stops every unit but the first: the lab's data is in the storage of one.
func soleUnit(ctx context.Context, u *hooks.Unit) error {
	goal, err := u.GoalState(ctx)
	if err != nil {
		return err
	}
	for unit := range goal.Units {
		if unitNumber(unit) < unitNumber(u.Name) {
			return hooks.Blocked("cert-controller runs as one unit, and %s is there already: remove this one", unit)
		}
	}
	return nil
}

func unitNumber(unit string) int {
	_, number, _ := strings.Cut(unit, "/")
	n, err := strconv.Atoi(number)
	if err != nil {
		return 0
	}
	return n
}

// desired is the desired state of the service but for the agents, and the addresses at which agents reach it, best first.
func (s service) desired(ctx context.Context, u *hooks.Unit, opts options) (order.ControllerDesired, []string, error) {
	d, err := opts.desired(u.Env.ModelName)
	if err != nil {
		return d, nil, err
	}
	if d.DataDir, err = s.storage(ctx, u); err != nil {
		return d, nil, err
	}
	network, err := u.NetworkGet(ctx, certagents.Endpoint)
	if err != nil {
		return d, nil, err
	}
	agents := slices.Clone(network.IngressAddresses)
	if d.BindAddress != "" {
		agents = []string{d.BindAddress}
	}
	agents = slices.DeleteFunc(agents, func(a string) bool { return a == "" })
	if len(agents) == 0 {
		return d, nil, hooks.Waiting("for the machine to have an address")
	}
	d.Unit, d.ModelUUID = u.Name, u.Env.ModelUUID
	d.DataMark = markFile
	d.DispatchCommand = dispatchCommand(u)
	d.Addresses = certificateNames(agents, network, d.ExternalURL)
	return d, agents, nil
}

// certificateNames are the addresses and names that the server's certificate is to be good for.
func certificateNames(agents []string, network hooks.Network, external string) []string {
	names := slices.Clone(agents)
	add := func(name string) {
		if name != "" && !slices.Contains(names, name) && len(names) < maxAddresses {
			names = append(names, name)
		}
	}
	for _, address := range network.IngressAddresses {
		add(address)
	}
	for _, i := range network.BindAddresses {
		for _, a := range i.Addresses {
			add(a.Value)
		}
	}
	if u, err := url.Parse(external); err == nil {
		add(u.Hostname())
	}
	if name, err := os.Hostname(); err == nil {
		add(name)
	}
	return names
}

// dispatchCommand lets the service ask for a dispatch. It runs without Juju's PATH.
func dispatchCommand(u *hooks.Unit) []string {
	tool, err := exec.LookPath("juju-exec")
	if err != nil {
		tool = "/usr/bin/juju-exec"
	}
	return []string{tool, u.Name, filepath.Join(u.Env.CharmDir, "dispatch")}
}

// readDesired returns what was written last; nothing if that is lost.
func (s service) readDesired() (order.ControllerDesired, bool) {
	var d order.ControllerDesired
	data, err := os.ReadFile(s.file(order.ControllerDesiredFile))
	if err != nil || json.Unmarshal(data, &d) != nil {
		return order.ControllerDesired{}, false
	}
	return d, true
}

// writeDesired writes the desired state and returns its SHA-256, by which the service says that it has applied it.
func (s service) writeDesired(d order.ControllerDesired) (sum string, err error) {
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return "", err
	}
	data = append(data, '\n')
	if _, err := s.WriteFile(s.file(order.ControllerDesiredFile), data, 0o600); err != nil {
		return "", err
	}
	hash := sha256.Sum256(data)
	return hex.EncodeToString(hash[:]), nil
}

// settleOn writes the desired state, tells the service of it if it has applied another one, and gives it a moment to apply it. One that
// does not answer yet is not signalled: it may not be ready for that, and reads the file anyway. While the answer's Applied is
// not what was written, Ready is false.
func (s service) settleOn(ctx context.Context, d order.ControllerDesired) (order.ControllerHealth, error) {
	sum, err := s.writeDesired(d)
	if err != nil {
		return order.ControllerHealth{}, err
	}
	var health order.ControllerHealth
	told := false
	workload.WaitFor(ctx, settleTime, func(ctx context.Context) bool {
		if health, err = s.health(ctx); err != nil {
			return false
		}
		if health.Applied != sum && !told {
			told = true
			_, err = s.Reload()
		}
		return err != nil || health.Applied == sum && (health.Ready || health.Problem != "")
	})
	health.Ready = health.Ready && health.Applied == sum
	return health, err
}

// publish tells agents where the API is and which certificates to trust. Only the leader may; led is false when something could not be
// written for that.
func (s service) publish(ctx context.Context, u *hooks.Unit, state map[string]string, relations, urls []string, want map[string]string) (led bool, err error) {
	for key := range state {
		if id, ok := strings.CutPrefix(key, bagKey); ok && !slices.Contains(relations, id) {
			want[key] = ""
		}
	}
	var public order.ControllerPublic
	data, err := os.ReadFile(s.file(order.ControllerPublicFile))
	if err != nil || json.Unmarshal(data, &public) != nil || len(public.CAs) == 0 {
		return true, nil // certlabd is making its certificates, and asks for a dispatch then
	}
	bag := certagents.Controller{URLs: urls, CAs: public.CAs}.Encode()
	hash := sha256.New()
	for _, key := range []string{"cas", "urls"} {
		fmt.Fprintf(hash, "%s=%s\n", key, bag[key])
	}
	sum := hex.EncodeToString(hash.Sum(nil))[:32]
	for _, relation := range relations {
		if state[bagKey+relation] == sum {
			continue
		}
		leader, err := u.IsLeader(ctx)
		if err != nil || !leader {
			return false, err
		}
		if err := u.RelationWriteApp(ctx, relation, bag); err != nil {
			return false, err
		}
		want[bagKey+relation] = sum
	}
	return true, nil
}

// notAnswering says why there is no service to ask.
func (s service) notAnswering(ctx context.Context) error {
	state, err := s.State(ctx)
	if err != nil {
		return err
	}
	if state.Processes == 0 && (state.Service == "backoff" || state.Service == "error") {
		return hooks.Blocked("certlabd does not stay up: %s", s.LastLog(ctx))
	}
	return hooks.Waiting("starting")
}

// unitStatus is what `juju status` shows of a service that answers.
func unitStatus(h order.ControllerHealth, problem, note string, led bool, opts options, d order.ControllerDesired) hooks.Status {
	switch {
	case h.Applied == "":
		return hooks.Waiting("starting")
	case trouble(h) != "" && !h.DiskLow:
		return hooks.Blocked("%s", trouble(h))
	case h.DiskLow:
		return hooks.Blocked("disk: less than %d MiB are free in %s, so no new runs are handed out: free some, or lower min-free-space", opts.MinFreeSpace, d.DataDir)
	case problem != "":
		return hooks.Blocked("%s", problem)
	case !led:
		return hooks.Waiting("to lead the application: agents cannot be told the address (remove other units)")
	case !h.Ready:
		return hooks.Waiting("starting")
	}
	machines := "machines"
	if h.Machines == 1 {
		machines = "machine"
	}
	region := ""
	switch {
	case d.Fleet.MAAS.URL != "":
		region = ", MAAS by " + d.Fleet.MAAS.Source
	case note != "":
		region = "; " + note
	}
	return hooks.Active("%d %s, %d running%s", h.Machines, machines, h.Running, region)
}

// trouble is the gravest problem, and how many more there are.
func trouble(h order.ControllerHealth) string {
	problem := h.Problem
	if problem == "" && len(h.Problems) > 0 {
		problem = h.Problems[0]
	}
	if n := len(h.Problems) - 1; n > 0 {
		problem += fmt.Sprintf(" (and %d more)", n)
	}
	return problem
}

// remove ends the service and takes its programs off the machine. The storage is Juju's, and stays as it is.
func (sys system) remove(ctx context.Context, u *hooks.Unit) error {
	s, err := sys.service(u)
	if err != nil {
		return err
	}
	if err := s.Remove(ctx); err != nil {
		return err
	}
	for _, shelf := range []workload.Shelf{s.providers(), s.site()} {
		if err := shelf.Remove(); err != nil {
			return fmt.Errorf("cannot remove the service's files: %w", err)
		}
	}
	for _, path := range []string{s.Dir(), filepath.Join(s.Base(), storageFile), filepath.Join(s.Base(), relationsFile), filepath.Join(s.Base(), outfitFile)} {
		s.Step("remove " + filepath.Base(path))
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("cannot remove the service's files: %w", err)
		}
	}
	_ = os.Remove(s.Base()) // what is not ours stays, and the directory with it
	return nil
}
