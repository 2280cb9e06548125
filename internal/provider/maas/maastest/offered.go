package maastest

// An Operation is one that the region offers, named as MAAS's own description of its API names it.
type Operation struct {
	Handler, Name, Method, Op, Path string
	Params                          []string
}

// Offered returns all operations that the region offers.
func Offered() []Operation {
	var all []Operation
	for _, t := range routes() {
		all = append(all, Operation{t.Handler, t.Name, t.Method, t.Op, t.Path, t.Params})
	}
	return all
}

// NotOffered returns the operations on machines that MAAS has and the region answers with "Unrecognised signature", and why.
func NotOffered() map[string]string {
	const network, enlist, vm = "a machine's network is one fixed subnet", "machines are added by AddMachine", "no storage is modelled beyond a list of disks"
	return map[string]string{
		"machines.accept": enlist, "machines.accept_all": enlist, "machines.add_chassis": enlist, "machines.create": enlist,
		"machines.is_action_in_progress": "nobody asks it", "machines.clone": "neither networks nor storage are modelled",
		"machine.clear_default_gateways": network, "machine.restore_networking_configuration": network,
		"machine.get_curtin_config":             "nothing is installed by curtin",
		"machine.mount_special":                 vm,
		"machine.unmount_special":               vm,
		"machine.restore_default_configuration": "neither networks nor storage are modelled",
		"machine.restore_storage_configuration": vm, "machine.set_storage_layout": vm,
	}
}

// Undocumented returns the parameters that the region reads though MAAS's description does not have them, and how they are known.
func Undocumented() map[string]string {
	filters := "a field of the form that lists are filtered by, in MAAS's source"
	all := map[string]string{
		"MachineHandler update power_parameters_*":  "its documentation is the list of power types; seen in tr2.txt",
		"MachineHandler set_owner_data *":           "any name",
		"MachineHandler set_workload_annotations *": "any name",
		"MachinesHandler list_allocated id":         "in MAAS's source",
	}
	for _, name := range []string{
		"not_id", "not_hostname", "not_domain", "not_in_zone", "not_in_pool", "not_agent_name", "not_status", "arch", "not_arch", "tags", "not_tags",
		"owner", "not_owner", "power_state", "not_power_state", "cpu_speed",
	} {
		all["MachinesHandler read "+name] = filters
	}
	return all
}
