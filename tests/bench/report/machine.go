package report

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Machine describes the machine that runs this, and the disk under dir.
func Machine(dir string) string {
	memory := "memory unknown"
	if kib := firstField("/proc/meminfo", "MemTotal:"); kib != "" {
		var n int64
		if _, err := fmt.Sscanf(kib, "%d", &n); err == nil {
			memory = fmt.Sprintf("%.1f GiB of memory", float64(n)/(1<<20))
		}
	}
	cpu := firstField("/proc/cpuinfo", "model name")
	if cpu == "" {
		cpu = "unknown processor"
	}
	kernel := "unknown kernel"
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		kernel = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
	}
	return fmt.Sprintf("%s, %d cores, %s, %s, %s, %s/%s, %s", cpu, runtime.NumCPU(), memory, disk(dir), kernel, runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// Heading is the line above a table.
func Heading(machine string, at time.Time) string {
	return fmt.Sprintf("Measured on %s, on %s.", at.UTC().Format("2006-01-02"), machine)
}

// firstField returns what follows key and a colon on the first line of file that begins with key.
func firstField(file, key string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), key); ok {
			return strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(rest), ":"))
		}
	}
	return ""
}

// disk names the file system of dir and what it is on.
func disk(dir string) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "unknown disk"
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "unknown disk"
	}
	defer f.Close()
	kind, source, longest := "unknown file system", "", -1
	for s := bufio.NewScanner(f); s.Scan(); {
		// 22 27 254:0 / /mnt rw,relatime shared:1 - ext4 /dev/vda rw
		left, right, ok := strings.Cut(s.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 5 || len(r) < 2 {
			continue
		}
		if at := l[4]; (at == "/" || dir == at || strings.HasPrefix(dir, at+"/")) && len(at) >= longest {
			kind, source, longest = r[0], r[1], len(at)
		}
	}
	rotating, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(source), "queue", "rotational"))
	switch {
	case err != nil:
		return kind + " on " + source
	case strings.TrimSpace(string(rotating)) == "0":
		return kind + " on " + source + " (no rotating disk)"
	}
	return kind + " on " + source + " (rotating, or its host does not say)"
}
