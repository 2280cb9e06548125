package locallab

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"certlab/internal/durable"
)

// bootMain is the first half of a machine's process 1: inside the new namespaces, and still on the host's file system, it puts the
// machine's together, moves into it, and starts the second half, which only ever sees the machine.
func bootMain() int {
	runtime.LockOSThread() // capabilities are given up for the thread that starts the second half
	unix.Umask(0o022)
	config, err := readBootConfig(configFD)
	if os.Getpid() != 1 {
		err = errNotFirst // what follows is for namespaces of its own, and not for the host
	}
	if err == nil {
		err = boot(config)
	}
	fmt.Fprintf(os.Stderr, "cannot boot machine: %v\n", err)
	return exitBootFailed
}

var errNotFirst = errors.New("this is a part of the local lab, which starts it itself")

// initPanics tells the second half that the machine has gone no further than its kernel.
const initPanics = "panics"

// Exit codes of a machine's first process.
const (
	exitPowerOff   = 0
	exitReboot     = 3
	exitBootFailed = 4
)

func boot(c bootConfig) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot make mounts private: %w", err)
	}
	logs, err := unix.Open(filepath.Join(c.Dir, "log"), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	root := filepath.Join(c.Dir, "root")
	if c.Rootless {
		err = mountRootless(c, root)
	} else {
		err = mountRoot(c, root)
	}
	if err != nil {
		return err
	}
	var kernel *bootedKernel
	if c.Kernels != nil {
		if kernel, err = c.Kernels.bootAt(root, c.Rootless); err != nil {
			return err
		}
	}
	if err := mountKernel(c, root, kernel); err != nil {
		return err
	}
	if err := mountShared(c, root, exe, kernel != nil); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(c.Hostname)); err != nil {
		return fmt.Errorf("cannot set host name: %w", err)
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("cannot change the root directory: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("cannot leave the host's file system: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := writeIdentity(c); err != nil {
		return err
	}
	if err := writeCloud(c.Cloud); err != nil {
		return err
	}
	if err := dropCapabilities(); err != nil {
		return err
	}
	for _, fd := range []int{controlFD, configFD, logs} {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return err
		}
	}
	args := []string{appletInit, strconv.Itoa(logs)}
	if kernel != nil && kernel.panics {
		args = append(args, initPanics)
	}
	return unix.Exec(insideExe, args, []string{"PATH=" + defaultPath, "GOTRACEBACK=single"})
}

// mountRoot lays the machine's own upper layer over each of the host's file systems that a machine should see.
func mountRoot(c bootConfig, root string) error {
	mounts, err := hostMounts("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	fresh := false
	marker := filepath.Join(c.Dir, "provisioned")
	if _, err := os.Stat(marker); errors.Is(err, os.ErrNotExist) {
		fresh = true
	}
	if fresh {
		if err := provision(filepath.Join(c.Dir, "layers", layerName("/")), "trusted.overlay.opaque", c.blankDirs()); err != nil {
			return fmt.Errorf("cannot prepare the machine's file system: %w", err)
		}
	}
	if c.Kernels != nil { // its kernels are not the host's
		mounts = slices.DeleteFunc(mounts, func(mount string) bool { return mount == "/boot" || strings.HasPrefix(mount, "/boot/") })
	}
	for _, mount := range mounts {
		if err := mountLayer(c, root, mount, ""); err != nil {
			if mount == "/" {
				return fmt.Errorf("cannot mount an overlay over the host's file system, its upper layer in %s: %w (choose another directory for the lab: "+
					"not on an overlay, NFS, or FUSE)", c.Dir, err)
			}
			// What cannot have a layer of its own is shown as it is, and cannot be written.
			if err := bind(mount, filepath.Join(root, mount), true); err != nil {
				fmt.Fprintf(os.Stderr, "machine does not see %s: %v\n", mount, err)
			}
		}
	}
	if fresh {
		return durable.WriteFile(marker, nil, 0o600)
	}
	return nil
}

// layerName is the name of the directory that holds what a machine wrote in the host's file system at path.
func layerName(path string) string {
	if path == "/" {
		return "root"
	}
	return "at" + strings.ReplaceAll(strings.ReplaceAll(path, "_", "__"), "/", "_")
}

func mountLayer(c bootConfig, root, path, options string) error {
	layer := filepath.Join(c.Dir, "layers", layerName(path))
	for _, dir := range []string{"upper", "work"} {
		if err := os.MkdirAll(filepath.Join(layer, dir), 0o755); err != nil {
			return err
		}
	}
	if err := likeHost(path, filepath.Join(layer, "upper")); err != nil {
		return err
	}
	// Names in the options would have to be quoted; relative ones need not.
	if err := os.Chdir(layer); err != nil {
		return err
	}
	defer os.Chdir("/")
	return unix.Mount("overlay", filepath.Join(root, path), "overlay", 0, "lowerdir="+path+",upperdir=upper,workdir=work"+options)
}

// likeHost gives a directory of an upper layer the mode and owner of the host's that it covers.
func likeHost(path, upper string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil // the host has none: there is nothing to be like
	}
	if err := unix.Chmod(upper, st.Mode&0o7777); err != nil {
		return err
	}
	if err := unix.Chown(upper, int(st.Uid), int(st.Gid)); err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

// blankDirs are the directories that start empty on a machine, whatever the host has in them.
var blankDirs = []string{
	"/etc/systemd/system", "/var/lib/juju", "/var/lib/certlab", "/var/lib/cloud", "/var/lib/private", "/var/tmp", "/srv/certlab",
}

// blankDirs are those of this machine.
func (c bootConfig) blankDirs() []string {
	if c.Kernels == nil {
		return blankDirs
	}
	return slices.Concat(blankDirs, kernelDirs)
}

// provision makes the upper layer of a new machine: without the host's units, agents and data, and with a policy-rc.d that keeps
// packages from starting services on the shared network. It can be repeated.
func provision(layer, opaque string, blank []string) error {
	upper := filepath.Join(layer, "upper")
	if err := os.MkdirAll(upper, 0o755); err != nil {
		return err
	}
	for _, dir := range blank {
		if err := upperDirs(upper, dir); err != nil {
			return err
		}
		if err := unix.Setxattr(filepath.Join(upper, dir), opaque, []byte("y"), 0); err != nil {
			return err
		}
	}
	if err := upperDirs(upper, "/usr/sbin"); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(upper, "usr/sbin/policy-rc.d"), []byte("#!/bin/sh\nexit 101\n"), 0o755)
}

// upperDirs makes path and what leads to it in an upper layer, each directory like the host's.
func upperDirs(upper, path string) error {
	made := ""
	for _, part := range strings.Split(strings.Trim(path, "/"), "/") {
		made += "/" + part
		if err := os.Mkdir(filepath.Join(upper, made), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if err := likeHost(made, filepath.Join(upper, made)); err != nil {
			return err
		}
	}
	return nil
}

// mountKernel mounts the kernel's file systems, and those that are empty at each boot.
func mountKernel(c bootConfig, root string, kernel *bootedKernel) error {
	const safe = unix.MS_NOSUID | unix.MS_NODEV
	type mount struct {
		source, target, kind string
		flags                uintptr
		options              string
	}
	mounts := []mount{
		{"tmpfs", "dev", "tmpfs", unix.MS_NOSUID, "mode=755,size=1m"},
		{"proc", "proc", "proc", safe | unix.MS_NOEXEC, ""},
		{"tmpfs", "run", "tmpfs", safe, "mode=755,size=256m"},
		{"tmpfs", "tmp", "tmpfs", safe, "mode=1777"},
	}
	for _, m := range mounts {
		target := filepath.Join(root, m.target)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, target, m.kind, m.flags, m.options); err != nil {
			return fmt.Errorf("cannot mount %s: %w", m.target, err)
		}
	}
	if err := mountSys(root); err != nil {
		return fmt.Errorf("cannot mount sys: %w", err)
	}
	if err := mountDev(c, root); err != nil {
		return err
	}
	// The kernel is the host's: its settings are read here and not written.
	for _, path := range []string{"proc/sys", "proc/sysrq-trigger", "proc/irq", "proc/bus"} {
		target := filepath.Join(root, path)
		if _, err := os.Stat(target); err != nil {
			continue
		}
		if err := bind(target, target, true); err != nil {
			return fmt.Errorf("cannot protect %s: %w", path, err)
		}
	}
	for _, dir := range []struct {
		path string
		mode os.FileMode
	}{{"run/lock", 0o777 | os.ModeSticky}, {"run/user", 0o755}, {strings.TrimPrefix(insideDir, "/"), 0o755}} {
		target := filepath.Join(root, dir.path)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(target, dir.mode); err != nil {
			return err
		}
	}
	if err := mountDMI(root); err != nil {
		fmt.Fprintf(os.Stderr, "machine has no product UUID: %v\n", err)
	}
	covers := []cover{
		{"boot_id", c.BootID + "\n", "proc/sys/kernel/random/boot_id"},
		{"product_uuid", c.ProductUUID + "\n", "sys/class/dmi/id/product_uuid"},
	}
	if kernel != nil && kernel.release != "" {
		covers = append(covers, kernel.covers()...)
	}
	for _, cover := range covers {
		target := filepath.Join(root, cover.target)
		if _, err := os.Stat(target); err != nil {
			continue // this host's kernel has none
		}
		source := filepath.Join(root, insideDir, cover.name)
		if err := os.WriteFile(source, []byte(cover.content), 0o444); err != nil {
			return err
		}
		if err := bind(source, target, true); err != nil {
			return fmt.Errorf("cannot set %s: %w", cover.name, err)
		}
	}
	return nil
}

// A cover is a file that a machine sees instead of one of the kernel's.
type cover struct{ name, content, target string }

func mountSys(root string) error {
	target := filepath.Join(root, "sys")
	err := unix.Mount("sysfs", target, "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RDONLY, "")
	if err == nil {
		return nil
	}
	// Without power over the host's network there is no new sysfs, but the host's can be seen through.
	if err := unix.Mount("/sys", target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return unix.MountSetattr(-1, target, unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

// mountDMI makes a place for a product UUID where the host's kernel has none, as in many virtual machines: an overlay over sysfs' classes.
func mountDMI(root string) error {
	classes := filepath.Join(root, "sys/class")
	if _, err := os.Stat(filepath.Join(classes, "dmi/id/product_uuid")); err == nil {
		return nil
	}
	const own = "dmi-class"
	dir := filepath.Join(root, insideDir, own, "dmi/id")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "product_uuid"), nil, 0o444); err != nil {
		return err
	}
	// Names in the options would have to be quoted; relative ones need not.
	if err := os.Chdir(filepath.Join(root, insideDir)); err != nil {
		return err
	}
	defer os.Chdir("/")
	depth := strings.Repeat("../", strings.Count(strings.Trim(insideDir, "/"), "/")+1)
	return unix.Mount("overlay", classes, "overlay", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "lowerdir="+own+":"+depth+"sys/class")
}

// mountDev makes a /dev of the few devices that belong to nobody, so that no test can reach the host's disks.
func mountDev(c bootConfig, root string) error {
	dev := filepath.Join(root, "dev")
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty", "fuse"} {
		source := filepath.Join("/dev", name)
		if _, err := os.Stat(source); err != nil {
			continue
		}
		target := filepath.Join(dev, name)
		if err := os.WriteFile(target, nil, 0o666); err != nil {
			return err
		}
		if err := bind(source, target, false); err != nil {
			return fmt.Errorf("cannot show %s: %w", source, err)
		}
	}
	for _, dir := range []string{"pts", "shm", "mqueue"} {
		if err := os.Mkdir(filepath.Join(dev, dir), 0o755); err != nil {
			return err
		}
	}
	const safe = unix.MS_NOSUID | unix.MS_NOEXEC
	options := "newinstance,ptmxmode=0666,mode=0620"
	if !c.Rootless {
		options += ",gid=5"
	}
	if err := unix.Mount("devpts", filepath.Join(dev, "pts"), "devpts", safe, options); err != nil {
		return fmt.Errorf("cannot mount dev/pts: %w", err)
	}
	if err := unix.Mount("tmpfs", filepath.Join(dev, "shm"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
		return fmt.Errorf("cannot mount dev/shm: %w", err)
	}
	links := map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	return nil
}

// mountShared brings in what lies outside the machine's file system: storage, this program, and what the machine must see although
// the host keeps it where a machine has a directory of its own. It also hides the lab.
func mountShared(c bootConfig, root, exe string, uname bool) error {
	for _, path := range c.Hide {
		target := filepath.Join(root, path)
		if info, err := os.Stat(target); err != nil || !info.IsDir() {
			continue
		}
		if err := unix.Mount("tmpfs", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_RDONLY, "mode=755,size=4k"); err != nil {
			return fmt.Errorf("cannot hide %s: %w", path, err)
		}
	}
	for _, path := range c.Share {
		if err := share(root, path); err != nil {
			return fmt.Errorf("cannot show %s: %w", path, err)
		}
	}
	if c.Storage != "" {
		target := filepath.Join(root, storageDir)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := bind(c.Storage, target, false); err != nil {
			return fmt.Errorf("cannot bring in storage: %w", err)
		}
	}
	for _, m := range c.Mounts {
		source, target := filepath.Join(root, m.Source), filepath.Join(root, m.Path)
		for _, dir := range []string{source, target} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		if err := bind(source, target, false); err != nil {
			return fmt.Errorf("cannot mount %s: %w", m.Path, err)
		}
	}
	programs := map[string]string{filepath.Base(insideExe): exe}
	maps.Copy(programs, c.Programs)
	if path, err := exec.LookPath("uname"); err == nil && uname {
		programs[filepath.Base(insideUname)] = path
	}
	for name, path := range programs {
		inside := filepath.Join(root, insideDir, name)
		if err := os.WriteFile(inside, nil, 0o755); err != nil {
			return err
		}
		if err := bind(path, inside, true); err != nil {
			return fmt.Errorf("cannot bring in %s: %w", path, err)
		}
	}
	if err := os.Symlink(insideExe, filepath.Join(root, insideUnpack)); err != nil {
		return err
	}
	if programs[filepath.Base(insideUname)] != "" {
		if err := writeInside(root, "usr/bin/uname", unameScript, 0o755); err != nil {
			return err
		}
	}
	return coverPrograms(root)
}

// coverPrograms puts this program in front of systemctl and its relatives.
func coverPrograms(root string) error {
	for name := range insideApplets {
		for _, dir := range []string{"usr/bin", "usr/sbin", "bin", "sbin"} {
			if info, err := os.Lstat(filepath.Join(root, dir)); err != nil || !info.IsDir() {
				continue // merged into /usr, where it is covered
			}
			target := filepath.Join(root, dir, name)
			if link, err := os.Readlink(target); err == nil && link == insideExe {
				continue
			}
			always := dir == "usr/sbin" && name != "systemctl" || dir == "usr/bin" && name == "systemctl"
			if _, err := os.Lstat(target); errors.Is(err, os.ErrNotExist) && !always {
				continue
			}
			// A link, not a mount: a package that brings its own can still be installed.
			if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			if err := os.Symlink(insideExe, target); err != nil {
				return err
			}
		}
	}
	return nil
}

// share shows the host's path on the machine, read-only, unless the machine's file system has it already.
func share(root, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	target := filepath.Join(root, path)
	var here, there unix.Stat_t
	if unix.Stat(path, &here) == nil && unix.Stat(target, &there) == nil && here.Ino == there.Ino && here.Mode == there.Mode {
		return nil
	}
	if info.IsDir() {
		err = os.MkdirAll(target, 0o755)
	} else {
		if err = os.MkdirAll(filepath.Dir(target), 0o755); err == nil {
			var file *os.File
			if file, err = os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o644); err == nil {
				file.Close()
			}
		}
	}
	if err != nil {
		return err
	}
	return bind(path, target, true)
}

func bind(source, target string, readOnly bool) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if !readOnly {
		return nil
	}
	return unix.MountSetattr(-1, target, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

// dropped are the capabilities that a machine's root does not have, because they reach the host through the shared kernel and network
// by accident: the clock, modules, raw input and output, device nodes, network configuration.
var dropped = []uintptr{unix.CAP_SYS_TIME, unix.CAP_SYS_MODULE, unix.CAP_SYS_RAWIO, unix.CAP_MKNOD, unix.CAP_NET_ADMIN, unix.CAP_WAKE_ALARM}

func dropCapabilities() error {
	for _, capability := range dropped {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("cannot give up capability %d: %w", capability, err)
		}
	}
	return nil
}
