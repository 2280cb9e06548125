package juju

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// A toolSpec is one hook tool. Flags and formats are those that Juju 4.0.15 shows in each tool's help.
type toolSpec struct {
	args    string
	purpose string
	format  string // default of --format: smart, yaml, or none
	flags   []flagSpec
	majors  []int // in which major versions of Juju it is; empty: all
	run     func(*invocation) error
}

func (t toolSpec) in(major int) bool { return len(t.majors) == 0 || slices.Contains(t.majors, major) }

func (t toolSpec) allFlags() []flagSpec {
	flags := t.flags
	if t.format != "" {
		flags = append(slices.Clone(flags), flagSpec{names: []string{"format"}, def: t.format}, flagSpec{names: []string{"o", "output"}})
	}
	return flags
}

func (t toolSpec) help(name string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s", name)
	if len(t.allFlags()) > 0 {
		b.WriteString(" [options]")
	}
	if t.args != "" {
		b.WriteString(" " + t.args)
	}
	fmt.Fprintf(&b, "\n\nSummary:\n%s\n", t.purpose)
	if flags := t.allFlags(); len(flags) > 0 {
		b.WriteString("\nOptions:\n")
		for _, f := range flags {
			var names []string
			for _, name := range f.names {
				names = append(names, dashed(name))
			}
			def := f.def
			if f.kind == textFlag && f.names[0] != "format" {
				def = fmt.Sprintf("%q", def)
			} else if f.kind == boolFlag {
				def = "false"
			}
			fmt.Fprintf(&b, "%s  (= %s)\n", strings.Join(names, ", "), def)
		}
	}
	return b.String()
}

// ToolNames lists the hook tools of a major version of Juju, for the links in a unit's tools directory.
func ToolNames(major int) []string {
	var names []string
	for name, spec := range tools {
		if spec.in(major) {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

var (
	appFlag     = flagSpec{names: []string{"app"}, kind: boolFlag}
	relFlag     = flagSpec{names: []string{"r", "relation"}, kind: relationFlag}
	fileFlag    = flagSpec{names: []string{"file"}}
	oldFormat   = flagSpec{names: []string{"format"}} // accepted and without effect
	appStatus   = flagSpec{names: []string{"application"}, kind: boolFlag}
	labelFlag   = flagSpec{names: []string{"label"}}
	secretFlags = []flagSpec{labelFlag, fileFlag, {names: []string{"description"}}, {names: []string{"expire"}},
		{names: []string{"owner"}, def: "application"}, {names: []string{"rotate"}}}
)

// tools is filled by init alone, since the tools' code looks at it.
var tools map[string]toolSpec

func init() {
	tools = map[string]toolSpec{
		"config-get": {args: "[<key>]", purpose: "Print application configuration.", format: "smart",
			flags: []flagSpec{{names: []string{"a", "all"}, kind: boolFlag}}, run: configGet},
		"unit-get":  {args: "<setting>", purpose: "Print public-address or private-address.", format: "smart", run: unitGet},
		"is-leader": {purpose: "Print application leadership status.", format: "smart", run: isLeader},
		"application-version-set": {args: "<new-version>", purpose: "Specify which version of the application is deployed.",
			run: applicationVersionSet},
		"juju-log": {args: "<message>", purpose: "Write a message to Juju's log.",
			flags: []flagSpec{{names: []string{"debug"}, kind: boolFlag}, {names: []string{"l", "log-level"}, def: "INFO"}, oldFormat},
			run:   jujuLog},
		"juju-reboot":    {purpose: "Reboot the host machine.", flags: []flagSpec{{names: []string{"now"}, kind: boolFlag}}, run: jujuReboot},
		"goal-state":     {purpose: "Print the status of the charm's peers and related units.", format: "yaml", run: goalState},
		"credential-get": {purpose: "Access cloud credentials.", format: "smart", run: credentialGet},
		"resource-get":   {args: "<resource name>", purpose: "Get the path to the locally cached resource file.", run: resourceGet},

		"status-get": {args: "[--include-data] [--application]", purpose: "Print status information.", format: "smart",
			flags: []flagSpec{{names: []string{"include-data"}, kind: boolFlag}, appStatus}, run: statusGet},
		"status-set": {args: "<status> [<message>]", purpose: "Set status information.", flags: []flagSpec{appStatus}, run: statusSet},

		"relation-ids":  {args: "<name>", purpose: "List all relation IDs for the given endpoint.", format: "smart", run: relationIDs},
		"relation-list": {purpose: "List relation units.", format: "smart", flags: []flagSpec{appFlag, relFlag}, run: relationList},
		"relation-get": {args: "<key> <unit id>", purpose: "Get relation settings.", format: "smart",
			flags: []flagSpec{appFlag, relFlag}, run: relationGet},
		"relation-set": {args: "key=value [key=value ...]", purpose: "Set relation settings.",
			flags: []flagSpec{appFlag, relFlag, fileFlag, oldFormat}, run: relationSet},
		"relation-model-get": {purpose: "Get details about the model housing a related application.", format: "smart",
			flags: []flagSpec{relFlag}, run: relationModelGet},

		"state-get": {args: "[<key>]", purpose: "Print server-side-state value.", format: "smart",
			flags: []flagSpec{{names: []string{"strict"}, kind: boolFlag}}, run: stateGet},
		"state-set":    {args: "key=value [key=value ...]", purpose: "Set server-side-state values.", flags: []flagSpec{fileFlag}, run: stateSet},
		"state-delete": {args: "<key>", purpose: "Delete server-side-state key value pairs.", run: stateDelete},

		"network-get": {args: "<binding-name> [--ingress-address] [--bind-address] [--egress-subnets]", purpose: "Get network config.",
			format: "smart", flags: []flagSpec{{names: []string{"bind-address"}, kind: boolFlag},
				{names: []string{"egress-subnets"}, kind: boolFlag}, {names: []string{"ingress-address"}, kind: boolFlag},
				{names: []string{"primary-address"}, kind: boolFlag}, relFlag}, run: networkGet},
		"open-port": {args: portArgs, purpose: "Register a request to open a port or port range.",
			flags: []flagSpec{{names: []string{"endpoints"}}, oldFormat}, run: openPort},
		"close-port": {args: portArgs, purpose: "Register a request to close a port or port range.",
			flags: []flagSpec{{names: []string{"endpoints"}}, oldFormat}, run: closePort},
		"opened-ports": {purpose: "List all ports or port ranges opened by the unit.", format: "smart",
			flags: []flagSpec{{names: []string{"endpoints"}, kind: boolFlag}}, run: openedPorts},

		"storage-list": {args: "[<storage-name>]", purpose: "List storage attached to the unit.", format: "smart", run: storageList},
		"storage-get": {args: "[<key>]", purpose: "Print information for the storage instance with the specified ID.", format: "smart",
			flags: []flagSpec{{names: []string{"s"}, kind: storageFlag}}, run: storageGet},
		"storage-add": {args: "<charm storage name>[=count] ...", purpose: "Add storage instances.", run: storageAdd},

		"action-get":  {args: "[<key>[.<key>.<key>...]]", purpose: "Get action parameters.", format: "smart", run: actionGet},
		"action-set":  {args: "<key>=<value> [<key>=<value> ...]", purpose: "Set action results.", run: actionSet},
		"action-fail": {args: `["<failure message>"]`, purpose: "Set action fail status with message.", run: actionFail},
		"action-log":  {args: "<message>", purpose: "Record a progress message for the current action.", run: actionLog},

		"secret-add": {args: "[key[#base64|#file]=value...]", purpose: "Add a new secret.", flags: secretFlags, run: secretAdd},
		"secret-set": {args: "<ID> [key[#base64]=value...]", purpose: "Update an existing secret.", flags: secretFlags, run: secretSet},
		"secret-get": {args: "<ID> [key[#base64]]", purpose: "Get the content of a secret.", format: "yaml",
			flags: []flagSpec{labelFlag, {names: []string{"peek"}, kind: boolFlag}, {names: []string{"refresh"}, kind: boolFlag}}, run: secretGet},
		"secret-info-get": {args: "<ID>", purpose: "Get a secret's metadata info.", format: "yaml", flags: []flagSpec{labelFlag}, run: secretInfoGet},
		"secret-ids":      {purpose: "Print secret IDs.", format: "smart", run: secretIDs},
		"secret-grant": {args: "<ID>", purpose: "Grant access to a secret.", flags: []flagSpec{relFlag, {names: []string{"unit"}}},
			run: secretGrant},
		"secret-revoke": {args: "<ID>", purpose: "Revoke access to a secret.",
			flags: []flagSpec{{names: []string{"app", "application"}}, relFlag, {names: []string{"unit"}}}, run: secretRevoke},
		"secret-remove": {args: "<ID>", purpose: "Remove an existing secret.", flags: []flagSpec{{names: []string{"revision"}, def: "0"}},
			run: secretRemove},

		"leader-get": {args: "[<key>]", purpose: "Print application leadership settings.", format: "smart", majors: []int{3}, run: leaderGet},
		"leader-set": {args: "<key>=<value> [...]", purpose: "Write application leadership settings.", majors: []int{3}, run: leaderSet},
	}
}
