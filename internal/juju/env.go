package juju

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// systemPath is what follows the hook tools in a hook's PATH.
const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Env is the whole environment of the context's process, sorted. There is no HOME and no USER in it. It is that which hooks of
// 4.0.15 were seen with; 3.6 differs as its source says.
func (c *Context) Env() []string {
	s := c.model.Snapshot()
	env := map[string]string{
		"APT_LISTCHANGES_FRONTEND":  "none",
		"CHARM_DIR":                 c.paths.CharmDir,
		"CLOUD_API_VERSION":         "",
		"DEBIAN_FRONTEND":           "noninteractive",
		"JUJU_AGENT_SOCKET_ADDRESS": c.paths.AgentSocket,
		"JUJU_AGENT_SOCKET_NETWORK": "unix",
		"JUJU_API_ADDRESSES":        strings.Join(s.Model.APIAddresses, " "),
		"JUJU_CHARM_DIR":            c.paths.CharmDir,
		"JUJU_CHARM_FTP_PROXY":      s.ModelConfig("juju-ftp-proxy"),
		"JUJU_CHARM_HTTPS_PROXY":    s.ModelConfig("juju-https-proxy"),
		"JUJU_CHARM_HTTP_PROXY":     s.ModelConfig("juju-http-proxy"),
		"JUJU_CHARM_NO_PROXY":       s.ModelConfig("juju-no-proxy"),
		"JUJU_CONTEXT_ID":           c.id,
		"JUJU_HOOK_NAME":            "",
		"JUJU_MODEL_NAME":           s.Model.Name,
		"JUJU_MODEL_UUID":           s.Model.UUID,
		"JUJU_PRINCIPAL_UNIT":       "",
		"JUJU_UNIT_NAME":            c.unit,
		"JUJU_VERSION":              s.Model.Version,
		"LANG":                      "C.UTF-8",
		"PATH":                      c.paths.ToolsDir + ":" + systemPath,
		"TERM":                      "tmux-256color",
	}
	if s.Model.Major() >= 4 {
		env["JUJU_CHARM_TRACE_CONFIG_CA_CERT"] = ""
		env["JUJU_CHARM_TRACE_CONFIG_GRPC"] = ""
		env["JUJU_CHARM_TRACE_CONFIG_HTTP"] = ""
	} else {
		env["JUJU_SLA"] = "unsupported"
	}
	env["JUJU_MACHINE_ID"], env["JUJU_AVAILABILITY_ZONE"] = "", ""
	if unit := s.Units[c.unit]; unit != nil {
		env["JUJU_MACHINE_ID"] = unit.Machine
		if m := s.Machines[unit.Machine]; m != nil {
			env["JUJU_AVAILABILITY_ZONE"] = m.Zone
		}
	}
	// What the model's http-proxy and the like say is set in both spellings, for programs other than charms.
	for _, name := range []string{"http", "https", "ftp", "no"} {
		if value := s.Config[name+"-proxy"]; value != "" {
			env[name+"_proxy"], env[strings.ToUpper(name)+"_PROXY"] = value, value
		}
	}
	switch c.kind {
	case RunHook:
		env["JUJU_HOOK_NAME"] = c.hook.Name
		env["JUJU_DISPATCH_PATH"] = "hooks/" + c.hook.Name
		c.hookEnv(s, env)
	case RunAction:
		env["JUJU_DISPATCH_PATH"] = "actions/" + c.action
		fallthrough
	case RunExec:
		if c.task != 0 {
			env["JUJU_ACTION_NAME"] = c.action
			env["JUJU_ACTION_UUID"] = strconv.Itoa(c.task)
			env["JUJU_ACTION_TAG"] = "action-" + strconv.Itoa(c.task)
		}
	}
	lines := make([]string, 0, len(env))
	for name, value := range env {
		lines = append(lines, name+"="+value)
	}
	sort.Strings(lines)
	return lines
}

func (c *Context) hookEnv(s *State, env map[string]string) {
	h := c.hook
	switch {
	case h.Kind.IsRelation():
		name := strings.TrimSuffix(h.Name, "-"+string(h.Kind))
		env["JUJU_RELATION"] = name
		env["JUJU_RELATION_ID"] = fmt.Sprintf("%s:%d", name, h.Relation)
		env["JUJU_REMOTE_UNIT"] = h.RemoteUnit
		env["JUJU_REMOTE_APP"] = h.RemoteApp
		if h.Kind == RelationDeparted {
			env["JUJU_DEPARTING_UNIT"] = h.DepartingUnit
		}
	case h.Kind.IsStorage():
		env["JUJU_STORAGE_ID"] = h.Storage
		if st := s.Storage[h.Storage]; st != nil {
			env["JUJU_STORAGE_KIND"], env["JUJU_STORAGE_LOCATION"] = st.Kind, st.Location
		}
	case h.Kind.IsSecret():
		env["JUJU_SECRET_ID"] = "secret:" + h.Secret
		if h.Kind != SecretChanged {
			env["JUJU_SECRET_ID"] = h.Secret // seen bare in secret-remove
		}
		env["JUJU_SECRET_LABEL"] = s.secretLabel(c.unit, h.Secret)
		if h.SecretRevision > 0 {
			env["JUJU_SECRET_REVISION"] = strconv.Itoa(h.SecretRevision)
		}
	}
}

// secretLabel is the unit's own label for a secret.
func (s *State) secretLabel(unit, id string) string {
	secret := s.Secrets[id]
	if secret == nil {
		return ""
	}
	if s.manages(unit, secret) {
		return secret.Label
	}
	if consumer := secret.Consumers[unit]; consumer != nil {
		return consumer.Label
	}
	return ""
}
