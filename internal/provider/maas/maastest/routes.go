package maastest

import (
	"net/http"
	"slices"
	"strings"
)

// route is one operation of the API, named as MAAS's own description names it.
type route struct {
	Handler string // MachineHandler
	Name    string // deploy
	Method  string
	Op      string // empty: the resource itself
	Path    string // machines/{system_id}/
	Model   string // what a 404 says there is none of
	Perm    permission
	Params  []string // what it reads; "*" is any name
	do      func(*call) reply
}

// op is the operation's name in Call and Entry: machine.deploy.
func (t *route) op() string {
	return strings.ToLower(strings.TrimSuffix(t.Handler, "Handler")) + "." + t.Name
}

func (t *route) reads(param string) bool {
	for _, p := range t.Params {
		if p == param || strings.HasSuffix(p, "*") && strings.HasPrefix(param, strings.TrimSuffix(p, "*")) {
			return true
		}
	}
	return false
}

// listFilters are what a list of machines can be filtered by.
func listFilters() []string {
	return []string{
		"id", "hostname", "mac_address", "domain", "zone", "pool", "agent_name", "status", "cpu_count", "mem", "fabrics", "not_fabrics", "vlans",
		"not_vlans", "subnets", "not_subnets", "link_speed", "pod", "not_pod", "pod_type", "not_pod_type", "devices",
		"not_id", "not_hostname", "not_domain", "not_in_zone", "not_in_pool", "not_agent_name", "not_status", "arch", "not_arch", "tags", "not_tags",
		"owner", "not_owner", "power_state", "not_power_state", "cpu_speed",
	}
}

// allocateConstraints are what allocate can choose by.
func allocateConstraints() []string {
	return []string{
		"name", "system_id", "arch", "cpu_count", "mem", "tags", "not_tags", "zone", "not_in_zone", "pool", "not_in_pool", "pod", "not_pod",
		"pod_type", "not_pod_type", "subnets", "not_subnets", "storage", "interfaces", "fabrics", "not_fabrics", "fabric_classes",
		"not_fabric_classes", "devices",
	}
}

func routes() []route {
	const machine, machines = "machines/{system_id}/", "machines/"
	of := func(handler, model, path string, rs ...route) []route {
		for i := range rs {
			rs[i].Handler, rs[i].Path, rs[i].Model = handler, path, model
		}
		return rs
	}
	get := func(name, op string, p permission, do func(*call) reply, params ...string) route {
		return route{Name: name, Method: http.MethodGet, Op: op, Perm: p, do: do, Params: params}
	}
	post := func(name, op string, p permission, do func(*call) reply, params ...string) route {
		return route{Name: name, Method: http.MethodPost, Op: op, Perm: p, do: do, Params: params}
	}
	put := func(p permission, do func(*call) reply, params ...string) route {
		return route{Name: "update", Method: http.MethodPut, Perm: p, do: do, Params: params}
	}
	del := func(p permission, do func(*call) reply) route {
		return route{Name: "delete", Method: http.MethodDelete, Perm: p, do: do}
	}
	return slices.Concat(
		of("VersionHandler", "", "version/", get("read", "", nobody, (*call).version)),
		of("UsersHandler", "User", "users/",
			get("whoami", "whoami", anybody, (*call).whoami),
			get("read", "", anybody, (*call).listUsers)),
		of("MachinesHandler", "Machine", machines,
			get("read", "", anybody, (*call).listMachines, listFilters()...),
			get("list_allocated", "list_allocated", anybody, (*call).listAllocated, "id"),
			get("is_registered", "is_registered", nobody, (*call).isRegistered, "mac_address"),
			get("power_parameters", "power_parameters", anybody, (*call).allPowerParameters, "id"),
			post("allocate", "allocate", anybody, (*call).allocate,
				append(allocateConstraints(), "agent_name", "comment", "dry_run", "verbose", "bridge_all", "bridge_stp", "bridge_fd")...),
			post("release", "release", anybody, (*call).releaseMany, "machines", "comment"),
			post("set_zone", "set_zone", adminOnly, (*call).setZone, "zone", "nodes")),
		of("MachineHandler", "Machine", machine,
			get("read", "", view, (*call).readMachine),
			put(admin, (*call).updateMachine, "hostname", "description", "pool", "zone", "architecture", "min_hwe_kernel", "power_type",
				"power_parameters_*", "cpu_count", "memory"),
			del(admin, (*call).deleteMachine),
			post("deploy", "deploy", edit, (*call).deploy, "user_data", "osystem", "distro_series", "hwe_kernel", "agent_name", "comment",
				"ephemeral_deploy", "install_kvm", "register_vmhost", "install_rackd"),
			post("release", "release", edit, (*call).release, "comment", "erase", "secure_erase", "quick_erase", "force"),
			post("abort", "abort", edit, (*call).abort, "comment"),
			post("commission", "commission", admin, (*call).commission, "testing_scripts"),
			post("test", "test", admin, (*call).test, "testing_scripts"),
			post("override_failed_testing", "override_failed_testing", admin, (*call).overrideFailedTesting, "comment"),
			post("mark_broken", "mark_broken", edit, (*call).markBroken, "comment"),
			post("mark_fixed", "mark_fixed", admin, (*call).markFixed, "comment"),
			post("power_on", "power_on", edit, (*call).powerOn, "user_data", "comment"),
			post("power_off", "power_off", edit, (*call).powerOff, "stop_mode", "comment"),
			get("query_power_state", "query_power_state", view, (*call).queryPowerState),
			get("power_parameters", "power_parameters", adminRead, (*call).powerParameters),
			get("details", "details", view, (*call).details),
			get("get_token", "get_token", adminRead, (*call).getToken),
			post("set_owner_data", "set_owner_data", edit, (*call).setOwnerData, "*"),
			post("set_workload_annotations", "set_workload_annotations", edit, (*call).setOwnerData, "*"),
			post("lock", "lock", lockOnly, (*call).lock, "comment"),
			post("unlock", "unlock", lockOnly, (*call).unlock, "comment"),
			post("rescue_mode", "rescue_mode", admin, (*call).rescueMode),
			post("exit_rescue_mode", "exit_rescue_mode", admin, (*call).exitRescueMode)),
		of("EventsHandler", "", "events/",
			get("query", "query", anybody, (*call).events, "hostname", "mac_address", "id", "zone", "agent_name", "level", "limit", "before", "after",
				"owner")),
		of("TagsHandler", "Tag", "tags/",
			get("read", "", anybody, (*call).listTags),
			post("create", "", adminOnly, (*call).createTag, "name", "comment", "definition", "kernel_opts")),
		of("TagHandler", "Tag", "tags/{name}/",
			get("read", "", anybody, (*call).readTag),
			get("machines", "machines", anybody, (*call).taggedMachines),
			post("update_nodes", "update_nodes", anybody, (*call).updateTagged, "add", "remove"),
			put(adminOnly, (*call).updateTag, "name", "comment", "definition"),
			del(adminOnly, (*call).deleteTag)),
		of("ResourcePoolsHandler", "ResourcePool", "resourcepools/",
			get("read", "", anybody, (*call).listPools),
			post("create", "", adminOnly, (*call).createPool, "name", "description")),
		of("ResourcePoolHandler", "ResourcePool", "resourcepool/{id}/",
			get("read", "", anybody, (*call).readPool),
			put(adminOnly, (*call).updatePool, "name", "description"),
			del(adminOnly, (*call).deletePool)),
		of("ZonesHandler", "Zone", "zones/",
			get("read", "", anybody, (*call).listZones),
			post("create", "", adminOnly, (*call).createZone, "name", "description")),
		of("ZoneHandler", "Zone", "zones/{name}/", get("read", "", anybody, (*call).readZone)),
		of("BootResourcesHandler", "BootResource", "boot-resources/", get("read", "", anybody, (*call).listImages, "type")),
		of("MaasHandler", "", "maas/",
			get("get_config", "get_config", anybody, (*call).getConfig, "name"),
			post("set_config", "set_config", adminOnly, (*call).setConfig, "name", "value")),
		of("NodeScriptsHandler", "Script", "scripts/",
			get("read", "", anybody, (*call).listScripts, "type", "filters", "include_script"),
			post("create", "", adminOnly, (*call).createScript, "name", "script", "title", "description", "tags", "type", "timeout", "comment")),
		of("NodeScriptHandler", "Script", "scripts/{name}",
			get("read", "", anybody, (*call).readScript, "include_script"),
			get("download", "download", anybody, (*call).downloadScript),
			del(adminOnly, (*call).deleteScript)),
		of("NodeScriptResultsHandler", "Node", "nodes/{system_id}/results/",
			get("read", "", view, (*call).listResults, "type", "filters", "include_output")),
		of("NodeScriptResultHandler", "Node", "nodes/{system_id}/results/{id}/",
			get("read", "", view, (*call).readResult, "filters", "include_output"),
			get("download", "download", view, (*call).downloadResult, "filters", "output", "filetype")),
	)
}

// match returns the operations at a path and the variables in it.
func (r *Region) match(path string) (found []*route, vars map[string]string) {
	parts := strings.Split(path, "/")
	for i := range r.routes {
		pattern := strings.Split(r.routes[i].Path, "/")
		if len(pattern) != len(parts) {
			continue
		}
		v := map[string]string{}
		ok := true
		for j, p := range pattern {
			if name, variable := strings.CutPrefix(p, "{"); variable && parts[j] != "" {
				v[strings.TrimSuffix(name, "}")] = parts[j]
			} else if p != parts[j] {
				ok = false
				break
			}
		}
		if ok {
			found, vars = append(found, &r.routes[i]), v
		}
	}
	return found, vars
}

func pick(routes []*route, method, op string) *route {
	for _, t := range routes {
		if t.Method == method && t.Op == op {
			return t
		}
	}
	return nil
}
