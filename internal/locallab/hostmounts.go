package locallab

import (
	"bufio"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
)

// passingKinds are file systems that a machine has its own of, or that hold nothing that it should see.
var passingKinds = map[string]bool{
	"proc": true, "sysfs": true, "devtmpfs": true, "devpts": true, "cgroup": true, "cgroup2": true, "mqueue": true, "debugfs": true,
	"tracefs": true, "securityfs": true, "pstore": true, "bpf": true, "configfs": true, "fusectl": true, "hugetlbfs": true, "autofs": true,
	"binfmt_misc": true, "efivarfs": true, "nsfs": true, "rpc_pipefs": true, "ramfs": true, "selinuxfs": true,
}

// ownDirs are the directories that a machine has its own of at each boot.
var ownDirs = []string{"/dev", "/proc", "/sys", "/run", "/tmp"}

// maxHostMounts bounds how many of the host's file systems a machine sees.
const maxHostMounts = 64

// hostMounts returns the directories at which the host has file systems that a machine should see, the root first and each before
// what lies in it. Single files that are mounted (as containers do with resolv.conf) are left out.
func hostMounts(mountinfo string) ([]string, error) {
	file, err := os.Open(mountinfo)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	seen := map[string]bool{"/": true}
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		path, kind, ok := parseMountinfo(scanner.Text())
		if !ok || passingKinds[kind] || strings.ContainsAny(path, ",:\\") {
			continue
		}
		own := false
		for _, dir := range ownDirs {
			own = own || path == dir || strings.HasPrefix(path, dir+"/")
		}
		if own {
			continue
		}
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			continue
		}
		seen[path] = true
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("cannot read the host's mounts: %w", err)
	}
	var mounts []string
	for path := range seen {
		mounts = append(mounts, path)
	}
	sort.Strings(mounts)
	if len(mounts) > maxHostMounts {
		mounts = mounts[:maxHostMounts]
	}
	return mounts, nil
}

// parseMountinfo takes the mount point and the kind of file system out of a line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
func parseMountinfo(line string) (path, kind string, ok bool) {
	before, after, found := strings.Cut(line, " - ")
	fields := strings.Fields(before)
	kinds := strings.Fields(after)
	if !found || len(fields) < 6 || len(kinds) < 1 {
		return "", "", false
	}
	return unescapeMount(fields[4]), kinds[0], true
}

// unescapeMount undoes the kernel's \ooo for space, tab, newline and backslash.
func unescapeMount(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}
