package hooks

import (
	"fmt"
	"strconv"
	"strings"
)

// Kind says what happened. For a relation's, a storage's and a container's hook it is the hook's name without the endpoint's,
// storage's or container's; for any other hook it is the hook's name.
type Kind string

// Kinds that Juju 3.6 and 4.x send to a charm on a machine. Others come through with the hook's name as their kind.
const (
	Install       Kind = "install"
	Start         Kind = "start"
	ConfigChanged Kind = "config-changed"
	LeaderElected Kind = "leader-elected"
	UpdateStatus  Kind = "update-status"
	UpgradeCharm  Kind = "upgrade-charm"
	Stop          Kind = "stop"
	Remove        Kind = "remove"

	RelationCreated  Kind = "relation-created"
	RelationJoined   Kind = "relation-joined"
	RelationChanged  Kind = "relation-changed"
	RelationDeparted Kind = "relation-departed"
	RelationBroken   Kind = "relation-broken"

	StorageAttached  Kind = "storage-attached"
	StorageDetaching Kind = "storage-detaching"

	SecretChanged Kind = "secret-changed"
	SecretRemove  Kind = "secret-remove"
	SecretRotate  Kind = "secret-rotate"
	SecretExpired Kind = "secret-expired"

	// RunAction is an action.
	RunAction Kind = "action"
	// Exec is dispatch run by `juju exec` or juju-exec: no event at all.
	Exec Kind = "exec"
)

// An Event is why dispatch was started. Fields that do not belong to its kind are empty.
type Event struct {
	Kind Kind
	Hook string // the hook's full name, such as cert-agents-relation-changed; empty for an action and for Exec

	Relation      string // endpoint
	RelationID    string // such as cert-agents:3
	RemoteUnit    string // empty for created and broken, and in changed when the remote application's databag is what changed
	RemoteApp     string // may be empty in broken, when the other application goes away
	DepartingUnit string // only in departed; the unit itself when it is the one that leaves

	SecretID       SecretID
	SecretLabel    string
	SecretRevision int // 0: not told

	StorageID       string // such as data/0
	StorageKind     string // filesystem or block
	StorageLocation string // mount point or device

	ActionName string
	ActionID   string // the task's number
}

// IsRelation reports whether the event is one of a relation.
func (e Event) IsRelation() bool { return e.RelationID != "" }

// Env is what Juju tells dispatch in its environment, whatever the event.
type Env struct {
	UnitName         string // checkbox/0
	ModelUUID        string
	ModelName        string
	CharmDir         string
	MachineID        string
	AvailabilityZone string // empty where the cloud has none
	JujuVersion      string // such as 3.6.28 or 4.0.15
	ContextID        string // names this dispatch in the agent's log
	PrincipalUnit    string // of a subordinate
	Proxy            Proxy
}

// Proxy holds the model's proxies for charms (juju-http-proxy and so on). Juju does not set HTTP_PROXY itself: a charm passes
// them on to what it starts.
type Proxy struct {
	HTTP, HTTPS, FTP string // URLs
	No               string // comma-separated hosts and networks
}

// App is the name of the unit's application.
func (e Env) App() string {
	app, _, _ := strings.Cut(e.UnitName, "/")
	return app
}

// UnitTag is the unit's name as Juju writes it in file names: unit-checkbox-0.
func (e Env) UnitTag() string { return "unit-" + strings.Replace(e.UnitName, "/", "-", 1) }

// JujuMajor is the first number of Juju's version, 0 if it cannot be read.
func (e Env) JujuMajor() int {
	major, _, _ := strings.Cut(e.JujuVersion, ".")
	n, err := strconv.Atoi(major)
	if err != nil {
		return 0
	}
	return n
}

// ParseEnv reads Juju's variables from NAME=value strings as os.Environ returns them. It fails if they are not those of a hook,
// of an action or of juju-exec.
func ParseEnv(environ []string) (Env, Event, error) {
	vars := make(map[string]string, len(environ))
	for _, line := range environ {
		if name, value, ok := strings.Cut(line, "="); ok {
			vars[name] = value
		}
	}
	env := Env{
		UnitName:         vars["JUJU_UNIT_NAME"],
		ModelUUID:        vars["JUJU_MODEL_UUID"],
		ModelName:        vars["JUJU_MODEL_NAME"],
		CharmDir:         vars["JUJU_CHARM_DIR"],
		MachineID:        vars["JUJU_MACHINE_ID"],
		AvailabilityZone: vars["JUJU_AVAILABILITY_ZONE"],
		JujuVersion:      vars["JUJU_VERSION"],
		ContextID:        vars["JUJU_CONTEXT_ID"],
		PrincipalUnit:    vars["JUJU_PRINCIPAL_UNIT"],
		Proxy: Proxy{
			HTTP:  vars["JUJU_CHARM_HTTP_PROXY"],
			HTTPS: vars["JUJU_CHARM_HTTPS_PROXY"],
			FTP:   vars["JUJU_CHARM_FTP_PROXY"],
			No:    vars["JUJU_CHARM_NO_PROXY"],
		},
	}
	if env.UnitName == "" {
		return Env{}, Event{}, fmt.Errorf("cannot tell what to do: JUJU_UNIT_NAME is not set (run this through Juju: juju exec --unit UNIT ./dispatch)")
	}
	if app, number, ok := strings.Cut(env.UnitName, "/"); !ok || app == "" || !isNumber(number) || strings.ContainsAny(app, "/.\x00") {
		return Env{}, Event{}, fmt.Errorf("cannot tell what to do: JUJU_UNIT_NAME is %q, which is no unit's name", env.UnitName)
	}
	event, err := parseEvent(vars)
	if err != nil {
		return Env{}, Event{}, fmt.Errorf("cannot tell what to do: %w", err)
	}
	return env, event, nil
}

func parseEvent(vars map[string]string) (Event, error) {
	// Under juju-exec there is no dispatch path, while JUJU_ACTION_NAME may be juju-exec (seen on 4.0.15); so the path decides.
	dir, name, ok := strings.Cut(vars["JUJU_DISPATCH_PATH"], "/")
	switch {
	case dir == "":
		return Event{Kind: Exec}, nil
	case !ok || name == "" || strings.Contains(name, "/"):
		return Event{}, fmt.Errorf("JUJU_DISPATCH_PATH is %q", vars["JUJU_DISPATCH_PATH"])
	case dir == "actions":
		return Event{Kind: RunAction, ActionName: name, ActionID: vars["JUJU_ACTION_UUID"]}, nil
	case dir != "hooks":
		return Event{}, fmt.Errorf("JUJU_DISPATCH_PATH is %q", vars["JUJU_DISPATCH_PATH"])
	}

	e := Event{
		Kind:            Kind(name),
		Hook:            name,
		Relation:        vars["JUJU_RELATION"],
		RelationID:      vars["JUJU_RELATION_ID"],
		RemoteUnit:      vars["JUJU_REMOTE_UNIT"],
		RemoteApp:       vars["JUJU_REMOTE_APP"],
		DepartingUnit:   vars["JUJU_DEPARTING_UNIT"],
		SecretID:        SecretID(vars["JUJU_SECRET_ID"]),
		SecretLabel:     vars["JUJU_SECRET_LABEL"],
		StorageID:       vars["JUJU_STORAGE_ID"],
		StorageKind:     vars["JUJU_STORAGE_KIND"],
		StorageLocation: vars["JUJU_STORAGE_LOCATION"],
	}
	if e.RelationID != "" {
		kind, ok := strings.CutPrefix(name, e.Relation+"-")
		if e.Relation == "" || !ok || kind == "" {
			return Event{}, fmt.Errorf("hook %q does not belong to JUJU_RELATION %q", name, e.Relation)
		}
		if endpoint, number, ok := strings.Cut(e.RelationID, ":"); !ok || endpoint != e.Relation || !isNumber(number) {
			return Event{}, fmt.Errorf("JUJU_RELATION_ID is %q", e.RelationID)
		}
		e.Kind = Kind(kind)
	}
	if e.StorageID != "" {
		storage, _, _ := strings.Cut(e.StorageID, "/")
		kind, ok := strings.CutPrefix(name, storage+"-")
		if !ok || kind == "" {
			return Event{}, fmt.Errorf("hook %q does not belong to JUJU_STORAGE_ID %q", name, e.StorageID)
		}
		e.Kind = Kind(kind)
	}
	if text := vars["JUJU_SECRET_REVISION"]; text != "" {
		revision, err := strconv.Atoi(text)
		if err != nil || revision < 0 {
			return Event{}, fmt.Errorf("JUJU_SECRET_REVISION is %q", text)
		}
		e.SecretRevision = revision
	}
	return e, nil
}

func isNumber(s string) bool {
	if s == "" {
		return false
	}
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
