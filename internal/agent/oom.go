package agent

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// oomKills is how many processes the kernel has ended for want of memory since it booted; 0 where it does not say.
func oomKills(vmstat string) int64 {
	data, err := os.ReadFile(vmstat)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if text, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
			return n
		}
	}
	return 0
}

// killedBy says what ended a process that a signal ended: which signal, and, for KILL, whether the kernel did it for want of memory.
// before is what oomKills said when the process started.
func killedBy(pid int, signal syscall.Signal, vmstat string, before int64) string {
	name := unix.SignalName(signal)
	if name == "" {
		name = fmt.Sprintf("signal %d", signal)
	}
	if signal != syscall.SIGKILL {
		return name
	}
	switch {
	case kernelLogNames(pid):
		return name + " by the kernel, which was out of memory (journalctl -k says more)"
	case oomKills(vmstat) > before:
		return name + "; the kernel was out of memory and ended processes meanwhile (journalctl -k says which)"
	}
	return name
}

// kernelLogNames reports whether the kernel's log says that it ended the process for want of memory.
func kernelLogNames(pid int) bool {
	f, err := os.OpenFile("/dev/kmsg", os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	want := fmt.Appendf(nil, "Killed process %d ", pid)
	buffer := make([]byte, 8192) // one record at a time
	for range 100_000 {
		n, err := unix.Read(int(f.Fd()), buffer)
		if err == unix.EPIPE || err == unix.EINTR { // records were overwritten meanwhile
			continue
		}
		if err != nil || n <= 0 {
			return false
		}
		if bytes.Contains(buffer[:n], want) {
			return true
		}
	}
	return false
}
