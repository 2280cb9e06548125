package maastest

// A Difference is where the simulation does not do what a real MAAS was seen to do.
type Difference struct {
	Where string // a line of a transcript, or a field of a machine's document
	What  string
	Why   string
}

// Differences returns all that tests of the transcripts pass over. docs/reference/maas-simulation.md lists them too.
func Differences() []Difference {
	return []Difference{
		{"tr2.txt:13", "the key of a machine's own requests", "keys are random"},
		{"machines.jsonl: cpu_count", "0, of 16 cores", "the machines' commissioning was emulated there and never said how many; here a machine has as many as its NUMA nodes"},
		{"machines.jsonl: bios_boot_method", "null", "the same: these machines never booted; here a machine has one"},
		{"machines.jsonl: partitions[].uuid", "random", "UUIDs are random there and made from the disk's number here"},
		{"machines.jsonl: id, device_id, resource_uri of disks, partitions and interfaces, id of links", "numbers of rows of a database", "numbers are given in another order"},
		{"machines.jsonl: current_commissioning_result_id, current_testing_result_id", "numbers of rows of a database", "the same"},
	}
}
