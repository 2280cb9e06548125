package lab

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Process is one of a machine, as the host sees it.
type Process struct {
	PID     int
	Parent  int
	Start   uint64        // clock ticks since the host's boot; with PID it names the process for good
	Name    string        // as the kernel has it, of at most 15 bytes
	State   string        // as in /proc: R, S, D, T, …
	RSS     int64         // bytes
	CPU     time.Duration // of the processor, its own and of the children that it has waited for
	Args    []string
	Machine string // number of the machine
}

func (p Process) String() string { return fmt.Sprintf("%d (%s)", p.PID, strings.Join(p.Args, " ")) }

// Role says what a process of a machine is to the lab.
type Role string

// Roles of processes.
const (
	Init     Role = "init"
	Pebble   Role = "pebble"
	Certlabd Role = "certlabd"
	Agent    Role = "agent"
	Keeper   Role = "keeper"
	Checkbox Role = "checkbox"
	Job      Role = "job" // of the plans that take some seconds
	Dispatch Role = "dispatch"
	Other    Role = "other"
)

// Role tells by the process's arguments what it is.
func (p Process) Role() Role {
	arg := func(n int) string {
		if n < len(p.Args) {
			return p.Args[n]
		}
		return ""
	}
	switch base := filepath.Base(arg(0)); {
	case base == "certlab-lab-init":
		return Init
	case base == "pebble" && arg(1) == "run":
		return Pebble
	case base == "certlabd" && arg(1) == "run":
		return Certlabd
	case base == "certlab-agent" && arg(1) == "run":
		return Agent
	case base == "certlab-agent" && arg(1) == "keep":
		return Keeper
	case base == "dispatch":
		return Dispatch
	case filepath.Base(arg(1)) == "checkbox-cli":
		return Checkbox
	case filepath.Base(arg(1)) == "certlab-count":
		return Job
	}
	return Other
}

// Environment returns a variable of the environment that the process was started with, or "".
func (p Process) Environment(name string) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.PID)) // gone: empty
	for pair := range bytes.SplitSeq(data, []byte{0}) {
		if value, ok := bytes.CutPrefix(pair, []byte(name+"=")); ok {
			return string(value)
		}
	}
	return ""
}

// Signal sends a signal to the process, and reports whether that very process was there to get it.
func (p Process) Signal(sig unix.Signal) bool {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	// The descriptor holds on to whoever has the number now: is it still the same one?
	if now, ok := readProcess(p.PID); !ok || now.Start != p.Start {
		return false
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0) == nil
}

// Now returns the process as it is now, if it lives.
func (p Process) Now() (Process, bool) {
	now, ok := readProcess(p.PID)
	now.Machine, now.Args = p.Machine, p.Args
	return now, ok && now.Start == p.Start && now.State != "Z" && now.State != "X"
}

func readProcess(pid int) (Process, bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Process{}, false
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from field 3, the state
	if len(fields) < 22 {
		return Process{}, false
	}
	p := Process{PID: pid, Name: string(stat[bytes.IndexByte(stat, '(')+1 : bytes.LastIndexByte(stat, ')')]), State: fields[0]}
	p.Parent, _ = strconv.Atoi(fields[1])
	p.Start, _ = strconv.ParseUint(fields[19], 10, 64)
	for _, text := range fields[11:15] {
		ticks, _ := strconv.ParseInt(text, 10, 64)
		p.CPU += time.Duration(ticks) * (time.Second / 100) // USER_HZ, which is the same everywhere
	}
	pages, _ := strconv.ParseInt(fields[21], 10, 64)
	p.RSS = pages * int64(os.Getpagesize())
	return p, true
}

// arguments returns a process's command line; nothing if it is gone.
func arguments(pid int) []string {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if line = bytes.TrimRight(line, "\x00"); len(line) == 0 {
		return nil
	}
	return strings.Split(string(line), "\x00")
}

// Processes are those of a lab at one moment.
type Processes struct {
	Daemon   Process // of the lab; PID 0: there is none
	Machines map[string][]Process
}

// Processes looks at what runs in the lab's machines. Zombies are left out.
func (l *Lab) Processes() (Processes, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return Processes{}, err
	}
	out := Processes{Machines: map[string][]Process{}}
	children := map[int][]Process{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		p, ok := readProcess(pid)
		if !ok || p.State == "Z" || p.State == "X" {
			continue
		}
		children[p.Parent] = append(children[p.Parent], p)
		// What starts a process every few milliseconds must not read the command lines of a whole host each time.
		if p.Name == "certlab" || p.Name == "exe" {
			if p.Args = arguments(pid); len(p.Args) > 1 && p.Args[0] == "certlab-lab-daemon" && p.Args[1] == l.Dir {
				out.Daemon = p
			}
		}
	}
	if out.Daemon.PID == 0 {
		return out, nil
	}
	for _, first := range children[out.Daemon.PID] {
		first.Args = arguments(first.PID)
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/etc/hostname", first.PID))
		number, ok := strings.CutPrefix(strings.TrimSpace(string(name)), "machine-")
		if first.Role() != Init || err != nil || !ok {
			continue // it is coming up or going down
		}
		for queue := []Process{first}; len(queue) > 0; {
			p := queue[0]
			p.Machine, p.Args = number, arguments(p.PID)
			out.Machines[number] = append(out.Machines[number], p)
			queue = append(queue[1:], children[p.PID]...)
		}
	}
	return out, nil
}

// CPU is the processor time that the lab has taken since it was started. What is still to be waited for is missing.
func (ps Processes) CPU() time.Duration {
	sum := ps.Daemon.CPU
	for _, machine := range ps.Machines {
		for _, p := range machine {
			sum += p.CPU
		}
	}
	return sum
}

// Of returns a machine's processes of a role.
func (ps Processes) Of(machine string, role Role) []Process {
	var found []Process
	for _, p := range ps.Machines[machine] {
		if p.Role() == role {
			found = append(found, p)
		}
	}
	return found
}

// Path returns where the host sees a path of a machine that is on, or "".
func (ps Processes) Path(machine, path string) string {
	first := ps.Of(machine, Init)
	if len(first) == 0 {
		return ""
	}
	return filepath.Join(fmt.Sprintf("/proc/%d/root", first[0].PID), path)
}

// Numbers returns the machines that are on, in order.
func (ps Processes) Numbers() []string {
	var numbers []string
	for number := range ps.Machines {
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	return numbers
}
