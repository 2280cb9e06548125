package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"certlab/internal/order"
)

// A disk is a small file system of its own, as the one that the agent's directory is on.
type disk struct {
	t   *testing.T
	dir string
}

// smallDisk mounts a file system of a few MiB and has the rig's agent use it, for its directory, Checkbox's sessions and temporary files.
func smallDisk(t *testing.T, g *rig) *disk {
	t.Helper()
	dir, err := os.MkdirTemp("", "certlab-disk-")
	require.NoError(t, err)
	if err := unix.Mount("certlab", dir, "tmpfs", 0, "size=4m"); err != nil {
		os.Remove(dir)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
			t.Skip("a full disk takes a file system of its own, and mounting one is not allowed here (it takes root)")
		}
		require.NoError(t, err)
	}
	t.Cleanup(func() {
		unix.Unmount(dir, unix.MNT_DETACH)
		os.Remove(dir)
	})
	g.dir = filepath.Join(dir, "agent")
	require.NoError(t, os.MkdirAll(g.dir, 0o700))
	g.opts.Dir, g.client = g.dir, NewClient(g.dir)
	g.opts.TempDir = filepath.Join(dir, "tmp")
	require.NoError(t, os.MkdirAll(g.opts.TempDir, 0o777))
	g.opts.MinFree, g.opts.KeepFree, g.opts.WriteRetry = 512<<10, 1, 50*time.Millisecond
	return &disk{t, dir}
}

// fill leaves so many bytes free; free gives all of it back.
func (d *disk) fill(left int64) {
	d.t.Helper()
	f, err := os.OpenFile(filepath.Join(d.dir, "filler"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(d.t, err)
	defer f.Close()
	block := make([]byte, 4096)
	for {
		free, err := freeBytes(d.dir)
		require.NoError(d.t, err)
		if free <= left {
			return
		}
		if _, err := f.Write(block); err != nil {
			require.ErrorIs(d.t, err, unix.ENOSPC)
			return
		}
	}
}

func (d *disk) free() { require.NoError(d.t, os.Remove(filepath.Join(d.dir, "filler"))) }

// says waits until the agent's status tells of a trouble with this text.
func (g *rig) says(text string) {
	g.t.Helper()
	g.until("the status says "+text, 30*time.Second, func() bool {
		s, err := g.client.Status(context.Background())
		require.NoError(g.t, err)
		return strings.Contains(strings.Join(s.Problems, "\n"), text)
	})
}

func (g *rig) untroubled() {
	g.t.Helper()
	g.until("nothing is wrong any more", 30*time.Second, func() bool {
		s, err := g.client.Status(context.Background())
		require.NoError(g.t, err)
		return len(s.Problems) == 0
	})
}

func (g *rig) delivered(id string) order.Run {
	g.t.Helper()
	var r order.Run
	g.until("the run is delivered", 60*time.Second, func() bool {
		var err error
		r, err = g.client.Run(context.Background(), id, 0)
		return err == nil && r.Delivered
	})
	return r
}

func TestFaultFullDiskBeforeARun(t *testing.T) {
	t.Parallel()
	g, _ := scriptedRig(t, small)
	d := smallDisk(t, g)
	c := newController(t)
	c.enrol(g)
	g.start()
	g.until("Checkbox is ready", 30*time.Second, func() bool {
		s, err := g.client.Status(context.Background())
		return err == nil && s.CheckboxVersion != "" && s.Controller == "enrolled"
	})

	// Nearly full: the run is accepted, and ends with what to do.
	d.fill(256 << 10)
	r := g.wait(g.run(order.Spec{Plan: small.Plan}))
	require.Equal(t, order.FailSpool, r.Failure.Type)
	require.Equal(t, "cannot begin the run: only 0 MiB are free in "+g.dir+" (make room on the machine's disk, and run the plan again)", r.Failure.Message)

	// Full: nothing is accepted, neither from an action nor from the controller.
	g.delivered(r.Run)
	d.fill(0)
	_, err := g.client.Start(context.Background(), order.RunRequest{Spec: order.Spec{Plan: small.Plan}})
	require.ErrorContains(t, err, "no space left on device (make room on the machine's disk)")
	c.mu.Lock()
	c.orders["rorder1"] = order.Order{Run: "rorder1", Spec: order.Spec{Plan: small.Plan}}
	c.mu.Unlock()
	g.says("cannot take run rorder1 from the controller: cannot start a run: ")
	c.mu.Lock()
	require.Empty(t, c.reports["rorder1"], "an order that is not on disk is not acknowledged")
	c.mu.Unlock()

	d.free()
	r = g.delivered("rorder1")
	require.Equal(t, order.Completed, r.State)
	g.untroubled()
}

func TestFaultFullDiskDuringARun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := small
	s.Wait, s.WaitLast = filepath.Join(dir, "archive"), filepath.Join(dir, "end")
	g, _ := scriptedRig(t, s)
	d := smallDisk(t, g)
	c := newController(t)
	c.enrol(g)
	g.start()
	// Its record is larger than what is freed by the way, such as what the keeper has reserved.
	id := g.run(order.Spec{Plan: small.Plan, Environment: map[string]string{"LARGE": strings.Repeat("x", 64<<10)}})
	archive := filepath.Join(g.dir, "runs", id, "attempt-1", "submission.tar.xz")
	touch := func(path string) { require.NoError(t, os.WriteFile(path, nil, 0o600)) }
	touch(s.Wait)
	g.until("Checkbox has written its archive", 60*time.Second, func() bool {
		info, err := os.Stat(archive)
		return err == nil && info.Size() > 0
	})
	// Not a byte is left when it comes to spooling: the keeper has room for its last word, the agent waits for some.
	d.fill(0)
	touch(s.WaitLast)
	g.says("cannot go on with run " + id + ": no space left on device (make room on the machine's disk; the run then goes on by itself)")
	r, err := g.client.Run(context.Background(), id, 0)
	require.NoError(t, err)
	require.Equal(t, order.Running, r.State)
	g.kill() // the agent starts on a full disk too, and waits on
	g.launch()
	g.says("cannot go on with run " + id + ": no space left on device")
	d.free()
	r = g.delivered(id)
	require.Equal(t, order.Completed, r.State)
	require.Empty(t, r.Interruptions, "the run was not taken for a killed one")
	c.mu.Lock()
	want, err := os.ReadFile(filepath.Join("testdata", small.Archive))
	require.NoError(t, err)
	require.Equal(t, want, c.files[r.Files[0].SHA256])
	c.mu.Unlock()
	g.untroubled()
	// Tried again many times, said a few times.
	text, err := os.ReadFile(g.log)
	require.NoError(t, err)
	require.Less(t, strings.Count(string(text), "cannot go on with a run"), 12)
}

func TestFaultFullDiskWhileCheckboxWrites(t *testing.T) {
	t.Parallel()
	s := small
	s.Wait = filepath.Join(t.TempDir(), "archive")
	g, _ := scriptedRig(t, s)
	d := smallDisk(t, g)
	g.start()
	id := g.run(order.Spec{Plan: small.Plan})
	g.until("Checkbox has begun", 60*time.Second, func() bool {
		info, err := os.Stat(filepath.Join(g.dir, "runs", id, "attempt-1", "console"))
		return err == nil && info.Size() > 0
	})
	d.fill(8 << 10) // too little for the archive
	require.NoError(t, os.WriteFile(s.Wait, nil, 0o600))
	r := g.wait(id)
	require.Equal(t, order.FailSpool, r.Failure.Type, r.Failure.Message)
	require.Regexp(t, `^the machine's disk is full, only 0 MiB are free in .* \(make room, and run the plan again\): `, r.Failure.Message)
	require.Contains(t, kinds(r), order.ConsoleFile)
}

func TestFaultFullDiskWhileTheConsoleIsWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(t, err)
	defer full.Close()
	k := &keeper{dir: dir, began: time.Now()}
	require.EqualError(t, k.copy(full, strings.NewReader("lost")), "cannot write the console: no space left on device")
}
