package locallab

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// CheckPorts says which of the ports that a lab's controllers are to serve on is taken, and by what: machines of all labs share the
// host's network, and a controller whose port is taken would wait for it for ever.
func CheckPorts(ports []int) error {
	for _, port := range ports {
		listener, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(port)))
		if err == nil {
			listener.Close()
			continue
		}
		if errors.Is(err, unix.EADDRINUSE) {
			return fmt.Errorf("cannot serve the controller on port %d: it is taken by %s (end that, or give the application another one, such as port: %d, "+
				"by --overlay)", port, portHolder(port), port+1)
		}
	}
	return nil
}

// portHolder names the process that listens on a port of the host, as far as this one may know.
func portHolder(port int) string {
	sockets := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		file, err := os.Open(table)
		if err != nil {
			continue
		}
		scanner := bufio.NewScanner(file)
		for scanner.Scan() {
			if inode := listeningSocket(scanner.Text(), port); inode != "" {
				sockets["socket:["+inode+"]"] = true
			}
		}
		file.Close()
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is a good one
	for _, link := range links {
		if target, err := os.Readlink(link); err != nil || !sockets[target] {
			continue
		}
		pid := strings.Split(link, "/")[2]
		name, _ := os.ReadFile("/proc/" + pid + "/comm")
		holder := fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), pid)
		if dir := labOf(pid); dir != "" {
			holder += " of the lab in " + dir
		}
		return holder
	}
	return "another process"
}

// listeningSocket takes the inode out of a line of /proc/net/tcp (proc_pid_net(5)) if it is of a socket that listens on the port.
func listeningSocket(line string, port int) string {
	const listening = "0A"
	fields := strings.Fields(line)
	if len(fields) < 10 || fields[3] != listening {
		return ""
	}
	_, hex, _ := strings.Cut(fields[1], ":")
	if n, err := strconv.ParseUint(hex, 16, 16); err != nil || int(n) != port {
		return ""
	}
	return fields[9]
}

// labOf returns the directory of the lab whose machine the process is on.
func labOf(pid string) string {
	for pid != "" && pid != "0" {
		line, err := os.ReadFile("/proc/" + pid + "/cmdline")
		if err != nil {
			return ""
		}
		if args := strings.Split(string(line), "\x00"); len(args) > 1 && args[0] == appletDaemon {
			return args[1]
		}
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			return ""
		}
		// The parent follows the name, which is in parentheses and may hold any byte, and the state.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 2 {
			return ""
		}
		pid = fields[1]
	}
	return ""
}
