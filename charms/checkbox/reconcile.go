package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"certlab/internal/hooks"
	"certlab/internal/order"
	"certlab/internal/relate/certagents"
	"certlab/internal/workload"
)

const (
	// settleTime is how long a hook waits for the agent to start or to apply a new desired state. What takes longer shows at
	// the next dispatch, which the agent asks for.
	settleTime = 5 * time.Second
	// identityTimeout bounds the making of the agent's key.
	identityTimeout = 30 * time.Second
	// deliveryTime is how long a unit that is being removed waits for its last results to be taken.
	deliveryTime = 30 * time.Second
)

// reconcile makes the machine as Juju says it should be, and reports how it is.
func (sys system) reconcile(ctx context.Context, u *hooks.Unit) error {
	a, err := sys.agent(u)
	if err != nil {
		return err
	}
	if err := sys.claimMachine(ctx, u); err != nil {
		return err
	}
	var opts options
	if err := u.Config(ctx, &opts); err != nil {
		return err
	}
	if err := os.MkdirAll(a.Dir(), 0o700); err != nil {
		return fmt.Errorf("cannot make the agent's directory: %w", err)
	}
	link, err := a.readRelation(ctx, u)
	if err != nil {
		return err
	}
	// A malformed option leaves the agent as it was: a run in progress, and one that is to be delivered, go on.
	desired, problem := a.desired(ctx, u, opts, link, sys.charm(u))
	if problem != nil && !isStatus(problem) {
		return problem
	}
	if problem != nil {
		return errors.Join(a.revoke(link), problem)
	}
	before, _ := a.status(ctx) // one that does not answer is not running anything
	idle := before.Current == nil && before.Queued == 0
	sum, err := a.writeDesired(desired)
	if err != nil {
		return err
	}
	if err := a.makeIdentity(ctx, desired.Binary, link); err != nil {
		return err
	}
	if _, err := a.Apply(ctx, workload.Options{MayInterrupt: idle}); err != nil {
		return err
	}
	sys.linkCommand(u, a)
	if err := a.publish(ctx, u, link); err != nil {
		return err
	}
	if idle {
		if err := a.removeOldProviders(desired.ProviderPaths); err != nil {
			return err
		}
	}
	status, err := a.settle(ctx, sum)
	if errors.Is(err, workload.ErrNotAnswering) || errors.Is(err, context.DeadlineExceeded) {
		return a.notAnswering(ctx)
	}
	if err != nil {
		return err
	}
	a.deliverBeforeLeaving(ctx, u, status)
	if status.CheckboxVersion != "" && u.Event.Kind != hooks.Install {
		if err := u.SetApplicationVersion(ctx, status.CheckboxVersion); err != nil {
			return err
		}
	}
	return unitStatus(status, link, sum)
}

func isStatus(err error) bool {
	var status hooks.Status
	return errors.As(err, &status)
}

// claimMachine makes sure that no other unit tests this machine: two Checkboxes would disturb each other's results. What a unit
// has left that Juju has dropped without a hook is stopped.
func (sys system) claimMachine(ctx context.Context, u *hooks.Unit) error {
	root := sys.root
	if root == "" {
		root = workload.Root
	}
	others, err := filepath.Glob(filepath.Join(root, "unit-*", agentDir))
	if err != nil {
		return fmt.Errorf("cannot look for other units: %w", err)
	}
	for _, path := range others {
		tag := filepath.Base(filepath.Dir(path))
		if tag == u.Env.UnitTag() {
			continue
		}
		other, err := sys.agentOf(u, unitOfTag(tag))
		if err != nil {
			continue // no unit's name, so none of ours
		}
		if !other.Installed() {
			continue
		}
		// The agents' directories are siblings: …/agents/unit-checkbox-0/charm.
		if _, err := os.Stat(filepath.Join(filepath.Dir(filepath.Dir(sys.charm(u))), tag)); !errors.Is(err, fs.ErrNotExist) {
			return hooks.Blocked("only one unit can test a machine, and %s is here already: remove this one, or that one", unitOfTag(tag))
		}
		u.Log.Warn("ending the agent of a unit that Juju has dropped without a word; its results stay", "unit", unitOfTag(tag), "directory", other.Dir())
		if err := other.Remove(ctx); err != nil {
			return err
		}
	}
	return nil
}

// desired is the whole desired state of the agent.
func (a agent) desired(ctx context.Context, u *hooks.Unit, opts options, l link, charmDir string) (order.AgentDesired, error) {
	d, err := opts.desired()
	if err != nil {
		return d, err
	}
	programs, err := a.Install(ctx)
	if err != nil {
		return d, err
	}
	d.Unit, d.ModelUUID = u.Name, u.Env.ModelUUID
	d.ControllerURLs, d.ControllerCAs = l.controller.URLs, l.controller.CAs
	if l.problem != nil && !errors.Is(l.problem, certagents.ErrNotReady) {
		// What was good goes on: a controller that writes nonsense may still take results.
		if old, err := a.readDesired(); err == nil && old.ModelUUID == u.Env.ModelUUID {
			d.ControllerURLs, d.ControllerCAs = old.ControllerURLs, old.ControllerCAs
		}
	}
	d.Proxy = order.Proxy{HTTP: u.Env.Proxy.HTTP, HTTPS: u.Env.Proxy.HTTPS, FTP: u.Env.Proxy.FTP, No: u.Env.Proxy.No}
	d.Binary = filepath.Join(programs, "certlab-agent")
	d.DispatchCommand = dispatchCommand(u)
	if d.SecretEnvFile, err = a.writeSecret(ctx, u, opts.SecretEnvironment); err != nil {
		return d, err
	}
	resource, err := a.resource(ctx, u)
	if err != nil {
		return d, err
	}
	d.ProviderPaths, err = a.providers(ctx, filepath.Join(charmDir, "provider"), resource)
	return d, err
}

// dispatchCommand lets the agent ask for a dispatch. It runs without Juju's PATH.
func dispatchCommand(u *hooks.Unit) []string {
	tool, err := exec.LookPath("juju-exec")
	if err != nil {
		tool = "/usr/bin/juju-exec"
	}
	return []string{tool, u.Name, filepath.Join(u.Env.CharmDir, "dispatch")}
}

// resourceFile remembers where Juju has put the resource.
const resourceFile = "resource.json"

// resource returns the path of the resource's file, or nothing. Juju is asked when it may have another one: attaching one
// leads to upgrade-charm.
func (a agent) resource(ctx context.Context, u *hooks.Unit) (string, error) {
	path := filepath.Join(a.Base(), resourceFile)
	var known struct {
		Path string `json:"path"`
	}
	switch u.Event.Kind {
	case hooks.Install, hooks.UpgradeCharm, hooks.UpdateStatus:
	default:
		data, err := os.ReadFile(path)
		if err == nil && json.Unmarshal(data, &known) == nil {
			return known.Path, nil
		}
	}
	var err error
	known.Path, err = u.ResourceGet(ctx, "provider")
	var refused *hooks.ToolError
	switch {
	case errors.Is(err, hooks.ErrNotFound):
	case errors.As(err, &refused):
		// The controller's store may be down for a moment; what is there goes on.
		u.Log.Warn("cannot get the resource provider", "error", err)
		data, err := os.ReadFile(path)
		if err == nil && json.Unmarshal(data, &known) == nil {
			return known.Path, nil
		}
		return "", nil
	case err != nil:
		return "", err
	}
	data, err := json.Marshal(known)
	if err != nil {
		return "", err
	}
	_, err = a.WriteFile(path, data, 0o644)
	return known.Path, err
}

// writeDesired writes the desired state and returns its SHA-256, by which the agent says that it has applied it.
func (a agent) writeDesired(d order.AgentDesired) (sum string, err error) {
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return "", err
	}
	data = append(data, '\n')
	if _, err := a.WriteFile(a.file(order.AgentDesiredFile), data, 0o600); err != nil {
		return "", err
	}
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:]), nil
}

// revoke takes the controller's address out of the desired state when the relation is gone, also while an option is malformed.
func (a agent) revoke(l link) error {
	if l.id != "" {
		return nil
	}
	d, err := a.readDesired()
	if err != nil || len(d.ControllerURLs) == 0 {
		return nil // nothing to take out
	}
	d.ControllerURLs, d.ControllerCAs = nil, nil
	if _, err := a.writeDesired(d); err != nil {
		return err
	}
	_, err = a.Reload()
	return err
}

// readDesired reads what was written last.
func (a agent) readDesired() (d order.AgentDesired, err error) {
	data, err := os.ReadFile(a.file(order.AgentDesiredFile))
	if err == nil {
		err = json.Unmarshal(data, &d)
	}
	return d, err
}

// makeIdentity lets the agent make its key, if a controller is to be told of it and the agent has not run yet.
func (a agent) makeIdentity(ctx context.Context, program string, l link) error {
	if l.id == "" {
		return nil
	}
	if _, err := os.Stat(a.file(order.AgentPublicFile)); err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	a.Step("make identity")
	cmd := exec.CommandContext(ctx, program, "identity", "--dir", a.Dir())
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot make the agent's key: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// settle asks the agent how it is, tells it that there is another desired state if it has applied an old one, and gives it a moment
// to start and to apply it. One that does not answer yet is not signalled: it may not be ready for that, and reads the file anyway.
func (a agent) settle(ctx context.Context, sum string) (order.AgentStatus, error) {
	var status order.AgentStatus
	var err error
	told := false
	workload.WaitFor(ctx, settleTime, func(ctx context.Context) bool {
		if status, err = a.status(ctx); err != nil {
			return false
		}
		if status.Applied != sum && !told {
			told = true
			_, err = a.Reload()
		}
		return err != nil || status.Applied == sum
	})
	return status, err
}

// notAnswering says why there is no agent to ask.
func (a agent) notAnswering(ctx context.Context) error {
	state, err := a.State(ctx)
	if err != nil {
		return err
	}
	if state.Processes == 0 && (state.Service == "backoff" || state.Service == "error") {
		return hooks.Blocked("the agent does not stay up, see juju debug-log; it said: %s", a.LastLog(ctx))
	}
	return hooks.Waiting("for the agent to start")
}

// deliverBeforeLeaving waits a little for the controller to take what it has not got yet, when this unit is about to lose its access.
func (a agent) deliverBeforeLeaving(ctx context.Context, u *hooks.Unit, status order.AgentStatus) {
	leaving := u.Event.Kind == hooks.RelationDeparted && u.Event.DepartingUnit == u.Name
	if !leaving || status.Undelivered == 0 || status.Controller != "enrolled" {
		return
	}
	workload.WaitFor(ctx, deliveryTime, func(ctx context.Context) bool {
		now, err := a.status(ctx)
		return err != nil || now.Undelivered == 0
	})
}

// link is the relation to the controller.
type link struct {
	id         string // empty: not related
	controller certagents.Controller
	problem    error // why controller is empty: certagents.ErrNotReady, or a malformed databag
}

// relationFile remembers which application a relation leads to: a relation's id never leads to another one.
const relationFile = "relation.json"

// readRelation reads the controller's databag.
func (a agent) readRelation(ctx context.Context, u *hooks.Unit) (link, error) {
	ids, err := u.RelationIDs(ctx, certagents.Endpoint)
	if err != nil {
		return link{}, err
	}
	if len(ids) == 0 {
		return link{}, nil
	}
	l := link{id: slices.Max(ids)} // the limit is one; while one goes and another comes, the newest counts
	app, err := a.remoteApp(ctx, u, l.id)
	if errors.Is(err, hooks.ErrNotFound) {
		return link{}, nil // it is being removed
	}
	if err != nil {
		return link{}, err
	}
	bag, err := u.RelationGetApp(ctx, l.id, app)
	if errors.Is(err, hooks.ErrNotFound) {
		return link{}, nil // it is being removed
	}
	if err != nil {
		return link{}, err
	}
	l.controller, l.problem = certagents.DecodeController(bag)
	return l, nil
}

func (a agent) remoteApp(ctx context.Context, u *hooks.Unit, id string) (string, error) {
	path := filepath.Join(a.Base(), relationFile)
	// The file may be of a unit of the same name, in another model, whose end the charm was never told of.
	var known struct {
		Model string `json:"model"`
		ID    string `json:"id"`
		App   string `json:"app"`
	}
	if data, err := os.ReadFile(path); err == nil && json.Unmarshal(data, &known) == nil && known.Model == u.Env.ModelUUID && known.ID == id && known.App != "" {
		return known.App, nil
	}
	app, err := u.RelationApp(ctx, id)
	if err != nil {
		return "", err
	}
	known.Model, known.ID, known.App = u.Env.ModelUUID, id, app
	data, err := json.Marshal(known)
	if err != nil {
		return "", err
	}
	_, err = a.WriteFile(path, data, 0o644)
	return app, err
}

// publish puts the agent's key and identity into the unit's databag.
func (a agent) publish(ctx context.Context, u *hooks.Unit, l link) error {
	if l.id == "" {
		return nil
	}
	data, err := os.ReadFile(a.file(order.AgentPublicFile))
	if err != nil {
		return fmt.Errorf("cannot read what the agent says of itself: %w", err)
	}
	var public order.AgentPublic
	if err := json.Unmarshal(data, &public); err != nil {
		return fmt.Errorf("cannot read what the agent says of itself: %w", err)
	}
	if public.PublicKey == "" {
		return errors.New("cannot publish the agent's key: the agent has written none")
	}
	return u.RelationSet(ctx, l.id, certagents.Agent(public).Encode())
}
