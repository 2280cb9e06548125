package checkbox

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// desktopVariables are what a program needs to find a user's graphical session.
var desktopVariables = []string{
	"DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "XAUTHORITY",
	"XDG_SESSION_TYPE", "XDG_CURRENT_DESKTOP", "XDG_SESSION_DESKTOP", "DESKTOP_SESSION", "XDG_SESSION_ID",
}

// desktopProcesses run inside of a graphical session and have its environment, best first.
var desktopProcesses = []string{
	"gnome-shell", "gnome-session-b", "plasmashell", "kwin_wayland", "xfce4-session", "mate-session", "cinnamon", "lxqt-session",
	"budgie-panel", "sway", "Xwayland", "unity-greeter",
}

// A Desktop is the graphical session of a user who is logged in.
type Desktop struct {
	User        string
	UID         int
	Environment map[string]string
}

// FindDesktop looks in proc (usually /proc) for the graphical session of user, or of anybody but the login screen's user if user is
// empty. It returns false if nobody is logged in at the desktop.
func FindDesktop(proc, user string) (Desktop, bool) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return Desktop{}, false
	}
	names := userNames("/etc/passwd")
	best, rank := Desktop{}, len(desktopProcesses)
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		dir := filepath.Join(proc, e.Name())
		comm, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil {
			continue
		}
		r := slices.Index(desktopProcesses, strings.TrimSpace(string(comm)))
		if r < 0 || r >= rank {
			continue
		}
		info, err := os.Stat(dir)
		if err != nil {
			continue
		}
		uid := 0
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			uid = int(st.Uid)
		}
		name := names[uid]
		if name == "gdm" || name == "lightdm" || name == "sddm" || user != "" && name != user {
			continue
		}
		environ, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil {
			continue
		}
		found := make(map[string]string)
		for _, pair := range strings.Split(string(environ), "\x00") {
			key, value, ok := strings.Cut(pair, "=")
			if ok && value != "" && slices.Contains(desktopVariables, key) && !strings.ContainsAny(value, "\r\n") {
				found[key] = value
			}
		}
		if found["DISPLAY"] == "" && found["WAYLAND_DISPLAY"] == "" {
			continue
		}
		if found["XDG_RUNTIME_DIR"] == "" {
			found["XDG_RUNTIME_DIR"] = fmt.Sprintf("/run/user/%d", uid)
		}
		if found["DBUS_SESSION_BUS_ADDRESS"] == "" {
			found["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=" + found["XDG_RUNTIME_DIR"] + "/bus"
		}
		best, rank = Desktop{User: name, UID: uid, Environment: found}, r
	}
	return best, rank < len(desktopProcesses)
}

// NeedsDesktop reports whether a plan is meant to run in a user's graphical session. Checkbox's plans say so in their ids only.
func NeedsDesktop(plan string) bool {
	id := plan[strings.LastIndex(plan, ":")+1:]
	return strings.Contains(id, "desktop") || strings.HasPrefix(id, "cdts-") || strings.HasPrefix(id, "dock-") || strings.HasPrefix(id, "touchpad")
}

// NormalUser returns the user whom unprivileged jobs run as where none was named: ubuntu, then uid 1000, then 1001, as Checkbox itself
// looks for one. It is empty if there is none.
func NormalUser(passwd string) string {
	names := userNames(passwd)
	for _, name := range names {
		if name == "ubuntu" {
			return name
		}
	}
	if names[1000] != "" {
		return names[1000]
	}
	return names[1001]
}

// UserExists reports whether passwd knows the user.
func UserExists(passwd, user string) bool {
	for _, name := range userNames(passwd) {
		if name == user {
			return true
		}
	}
	return false
}

func userNames(passwd string) map[int]string {
	text, _ := os.ReadFile(passwd)
	names := make(map[int]string)
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(line, ":")
		if len(fields) < 4 {
			continue
		}
		if uid, err := strconv.Atoi(fields[2]); err == nil {
			if _, ok := names[uid]; !ok {
				names[uid] = fields[0]
			}
		}
	}
	return names
}
