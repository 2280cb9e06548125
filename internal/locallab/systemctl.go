package locallab

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// A systemctlRequest is one call of systemctl, as typed.
type systemctlRequest struct {
	Name string   `json:"name"` // systemctl, reboot, …
	Args []string `json:"args"`
}

type systemctlReply struct {
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr"`
	Code   int    `json:"code"`
}

// maxSystemctl bounds a request and a reply, in bytes.
const maxSystemctl = 1 << 20

// systemctlMain is systemctl, reboot, poweroff, halt or shutdown on a machine: it hands what was typed to process 1 and prints the
// answer.
func systemctlMain(name string, args []string) int {
	if args, ok := asSystemctl(name, args); ok {
		name = "systemctl"
		return callInit(systemctlRequest{Name: name, Args: args})
	}
	fmt.Fprintf(os.Stderr, "%s: this use is not understood on a lab machine\n", name)
	return 1
}

func callInit(req systemctlRequest) int {
	conn, err := net.Dial("unix", insideSocket)
	if err != nil {
		fmt.Fprintf(os.Stderr, "Failed to connect to the machine's first process: %v\n", err)
		return 1
	}
	defer conn.Close()
	if err := json.NewEncoder(conn).Encode(req); err != nil {
		fmt.Fprintf(os.Stderr, "Failed to ask the machine's first process: %v\n", err)
		return 1
	}
	var reply systemctlReply
	if err := json.NewDecoder(io.LimitReader(conn, maxSystemctl)).Decode(&reply); err != nil {
		fmt.Fprintf(os.Stderr, "Failed to hear from the machine's first process: %v\n", err)
		return 1
	}
	_, _ = io.WriteString(os.Stderr, reply.Stderr)
	_, _ = io.WriteString(os.Stdout, reply.Stdout)
	return reply.Code
}

// asSystemctl turns a call of one of systemctl's relatives into systemctl's own arguments.
func asSystemctl(name string, args []string) ([]string, bool) {
	has := func(short string, long string) bool {
		for _, arg := range args {
			if arg == long || len(arg) > 1 && arg[0] == '-' && arg[1] != '-' && strings.Contains(arg[1:], short) {
				return true
			}
		}
		return false
	}
	switch name {
	case "systemctl":
		return args, true
	case "reboot", "poweroff", "halt":
		if has("p", "--poweroff") && name == "halt" {
			name = "poweroff"
		}
		if has("\x00", "--reboot") {
			name = "reboot"
		}
		return []string{name}, true
	case "shutdown":
		verb := "poweroff"
		switch {
		case has("c", ""):
			return []string{"cancel"}, true
		case has("r", "--reboot"):
			verb = "reboot"
		}
		for _, arg := range args {
			if strings.HasPrefix(arg, "-") {
				continue
			}
			delay, ok := shutdownDelay(arg, time.Now())
			return []string{verb, fmt.Sprintf("--after=%s", delay)}, ok
		}
		return []string{verb, "--after=1m0s"}, true
	}
	return nil, false
}

// shutdownDelay reads shutdown's time: now, +minutes, or hh:mm.
func shutdownDelay(arg string, now time.Time) (time.Duration, bool) {
	if arg == "now" {
		return 0, true
	}
	var minutes int
	if rest, ok := strings.CutPrefix(arg, "+"); ok {
		if _, err := fmt.Sscanf(rest, "%d", &minutes); err != nil || minutes < 0 || minutes > 7*24*60 {
			return 0, false
		}
		return time.Duration(minutes) * time.Minute, true
	}
	clock, err := time.ParseInLocation("15:04", arg, now.Location())
	if err != nil {
		return 0, false
	}
	at := time.Date(now.Year(), now.Month(), now.Day(), clock.Hour(), clock.Minute(), 0, 0, now.Location())
	if !at.After(now) {
		at = at.AddDate(0, 0, 1)
	}
	return at.Sub(now), true
}
