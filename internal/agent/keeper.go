package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"certlab/internal/agent/checkbox"
	"certlab/internal/order"
)

// A start is one go at running Checkbox: the first of an attempt, or one that resumes it. Its directory is all that agent and keeper
// know of each other.
type start struct {
	Number      int       `json:"number"`
	BootID      string    `json:"boot_id"`
	Created     time.Time `json:"created"`
	Args        []string  `json:"args"`
	Env         []string  `json:"env"`
	Stdin       string    `json:"stdin,omitempty"`
	Console     string    `json:"console"`        // file that output is appended to
	Offset      int64     `json:"offset"`         // its size at this start
	ConsoleMax  int64     `json:"console_max"`    // bytes, all starts together; 0: no limit
	SessionsDir string    `json:"sessions_dir"`   //
	Description string    `json:"description"`    // tells which session is ours
	SessionMax  int64     `json:"session_max"`    // bytes; 0: no limit
	Timeout     int64     `json:"timeout_millis"` // what is left of the attempt's time; 0: no limit
	Silence     int64     `json:"silence_millis"` // without output; 0: no limit
	Grace       int64     `json:"grace_millis"`   // between TERM and KILL
	BootIDFile  string    `json:"boot_id_file"`   //
	Terminal    bool      `json:"terminal"`       // a person's: attached to the terminal of who keeps it
	Oom         bool      `json:"oom"`            // protect the keeper from the kernel's memory killer
	VMStatFile  string    `json:"vmstat_file"`    // counts what that killer did

	Sums map[string]string `json:"sums"` // name of each file that Checkbox is told of → its SHA-256
}

// kept is what a keeper says of itself while it runs: before it starts Checkbox, and then every few seconds.
type kept struct {
	Keeper  process   `json:"keeper"`
	BootID  string    `json:"boot_id"`
	Started time.Time `json:"started"`
	Uptime  int64     `json:"uptime_millis"` // of the boot when it started
	Elapsed int64     `json:"elapsed_millis"`
	Beat    time.Time `json:"beat"`
}

// exited is what a keeper says at last.
type exited struct {
	BootID  string    `json:"boot_id"`
	Code    int       `json:"code"`              // Checkbox's exit code; -1: a signal ended it
	Signal  string    `json:"signal,omitempty"`  // its name
	Reason  string    `json:"reason,omitempty"`  // why the keeper ended it: an order.Fail… type, or cancelled; empty: it ended by itself
	Error   string    `json:"error,omitempty"`   // it could not be started
	Killed  string    `json:"killed,omitempty"`  // what ended it, for people, if a signal did
	Orphans []string  `json:"orphans,omitempty"` // names of processes that it left behind, which were ended
	Left    bool      `json:"left,omitempty"`    // processes that it started could not be ended
	Elapsed int64     `json:"elapsed_millis"`
	Ended   time.Time `json:"ended"`
}

// reasonCancelled is the reason of a start that was ended on request.
const reasonCancelled = "cancelled"

// Files of a start's directory.
const (
	startFile  = "start.json"
	keepFile   = "keep.json"
	exitFile   = "exit.json"
	cancelFile = "cancel" // made by the agent before it sends TERM to the keeper; without it a TERM is the machine going down
	startLock  = "lock"
	keepLog    = "keep.log"
)

// Keep is the keeper: it runs Checkbox as dir/start.json says, sees to the limits, and writes down how it ended. It holds dir/lock as
// long as it lives. A directory is kept once: what was begun is never begun again here.
func Keep(ctx context.Context, dir string) error {
	// Checkbox is to end with the keeper, and the kernel means the thread by that.
	runtime.LockOSThread()
	lock, err := lockFile(filepath.Join(dir, startLock))
	if err != nil {
		return fmt.Errorf("cannot keep %s: %w", dir, err)
	}
	defer lock.release()
	if exists(filepath.Join(dir, keepFile)) {
		return fmt.Errorf("cannot keep %s: it was begun before", dir)
	}
	var s start
	if err := readJSON(filepath.Join(dir, startFile), &s); err != nil {
		return fmt.Errorf("cannot keep %s: %w", dir, err)
	}
	bootID, err := readBootID(s.BootIDFile)
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot keep %s: cannot become a subreaper: %w", dir, err)
	}
	self, _, _ := processOf(os.Getpid())
	k := &keeper{dir: dir, start: s, began: time.Now(), full: make(chan struct{}, 1), beat: beatInterval, weigh: weighInterval, kept: kept{Keeper: self, BootID: bootID, Started: time.Now().UTC(), Uptime: uptime().Milliseconds(), Beat: time.Now().UTC()}}
	if err := writeJSON(filepath.Join(dir, keepFile), k.kept, 0o600); err != nil {
		return err
	}
	// Room for the last word is taken now: without it, on a disk that is full by then, a run that went through would look killed.
	will := reserve(filepath.Join(dir, exitFile))
	end := k.run(ctx)
	end.BootID, end.Elapsed, end.Ended = bootID, time.Since(k.began).Milliseconds(), time.Now().UTC()
	return will.write(end)
}

type keeper struct {
	dir    string
	start  start
	kept   kept
	began  time.Time
	spoken atomic.Int64  // when output last came, nanoseconds since began
	full   chan struct{} // the console has reached its limit
	beat   time.Duration // when the keeper next says that it lives, since began
	weigh  time.Duration // when the session's size is next looked at, since began

	session string // directory of Checkbox's session, once it is found
}

// A keeper runs beside what is being measured: it wakes only when there is something to look at, reads little, and syncs less.
const (
	beatInterval  = 30 * time.Second // between two times that it says that it lives
	weighInterval = 5 * time.Second  // between two looks at the session's size
)

func (k *keeper) run(ctx context.Context) exited {
	// Signals come here, not to the default that would end the keeper and leave its children to nobody.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT)
	defer signal.Stop(signals)

	cmd := exec.Command(k.start.Args[0], k.start.Args[1:]...)
	cmd.Env = append(k.start.Env, startVariable+"="+k.dir)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	copied := make(chan error, 1)
	var output, input *os.File
	if k.start.Terminal {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		copied <- nil
	} else {
		cmd.SysProcAttr.Setsid = true
		console, err := os.OpenFile(k.start.Console, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return exited{Code: -1, Error: fmt.Sprintf("cannot write the console: %v", err), Reason: order.FailSpool}
		}
		defer console.Close()
		read, write, err := os.Pipe()
		if err != nil {
			return exited{Code: -1, Error: err.Error()}
		}
		defer read.Close()
		output = write
		cmd.Stdout, cmd.Stderr = write, write
		if k.start.Stdin != "" { // a line fits into a pipe; after it comes the end
			r, w, err := os.Pipe()
			if err != nil {
				return exited{Code: -1, Error: err.Error()}
			}
			io.WriteString(w, k.start.Stdin)
			w.Close()
			cmd.Stdin, input = r, r
		}
		go func() { copied <- k.copy(console, read) }()
	}

	if k.start.Oom {
		setOOMScoreAdjust(0) // inherited by Checkbox
	}
	killsBefore := oomKills(k.start.VMStatFile)
	err := cmd.Start()
	if k.start.Oom {
		setOOMScoreAdjust(-1000)
	}
	if output != nil {
		output.Close()
	}
	if input != nil {
		input.Close()
	}
	if err != nil {
		return exited{Code: -1, Error: fmt.Sprintf("cannot start Checkbox: %v", err), Reason: order.FailCheckbox}
	}

	// Wait for Checkbox only by its pid: orphans that are handed to the keeper are not its exit.
	done := make(chan syscall.WaitStatus, 1)
	go reap(cmd.Process.Pid, done)

	end := exited{}
	timer := time.NewTimer(k.pause())
	defer timer.Stop()
	var status syscall.WaitStatus
wait:
	for {
		select {
		case status = <-done:
			break wait
		case <-signals:
			if exists(filepath.Join(k.dir, cancelFile)) {
				end.Reason = reasonCancelled
			}
		case <-ctx.Done():
			end.Reason = reasonCancelled
		case <-k.full:
			end.Reason = order.FailConsoleSize
		case <-timer.C:
			end.Reason = k.breach()
			timer.Reset(k.pause())
		}
		if end.Reason != "" {
			endAll(func() []process { return descendants(os.Getpid()) }, k.grace())
			select {
			case status = <-done:
			case <-time.After(5 * time.Second):
				end.Left = true
				end.Code = -1
				return end
			}
			break wait
		}
	}
	switch {
	case status.Signaled():
		end.Code, end.Signal = -1, status.Signal().String()
		end.Killed = killedBy(cmd.Process.Pid, status.Signal(), k.start.VMStatFile, killsBefore)
	default:
		end.Code = status.ExitStatus()
	}
	if end.Reason == "" {
		end.Orphans = names(descendants(os.Getpid()))
	}
	if !endAll(func() []process { return descendants(os.Getpid()) }, k.grace()) {
		end.Left = true
	}
	select {
	case err := <-copied:
		if err != nil && end.Reason == "" {
			end.Error = err.Error()
		}
	case <-time.After(5 * time.Second): // somebody still holds the pipe
	}
	return end
}

func (k *keeper) grace() time.Duration { return time.Duration(k.start.Grace) * time.Millisecond }

// reap waits for the children of this process until pid has ended.
func reap(pid int, done chan<- syscall.WaitStatus) {
	sent := false
	for {
		var status syscall.WaitStatus
		child, err := syscall.Wait4(-1, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil { // no child is left
			if !sent {
				done <- status
			}
			return
		}
		if child == pid && !sent && (status.Exited() || status.Signaled()) {
			sent = true
			done <- status
		}
	}
}

// copy moves output to the console until the limit; what comes after is read and dropped, so that nobody blocks.
func (k *keeper) copy(console *os.File, output io.Reader) error {
	size := k.start.Offset
	buffer := make([]byte, 64<<10)
	var failed error
	lost := 0 // bytes since the disk was full
	for {
		n, err := output.Read(buffer)
		if n > 0 {
			k.spoken.Store(int64(time.Since(k.began)))
			part := buffer[:n]
			if limit := k.start.ConsoleMax; limit > 0 && size+int64(n) > limit {
				part = part[:max(0, limit-size)]
				select {
				case k.full <- struct{}{}:
				default:
				}
			}
			if len(part) > 0 && lost > 0 {
				if _, err := fmt.Fprintf(console, "\n[Certlab: %d bytes are missing here: %v]\n", lost, failed); err == nil {
					lost = 0
				}
			}
			if len(part) > 0 {
				written, err := console.Write(part)
				size += int64(written)
				if err != nil {
					failed = fmt.Errorf("cannot write the console: %w", plainly(err))
					lost += len(part) - written
				}
			}
		}
		if err != nil {
			if failed == nil {
				failed = console.Sync()
			}
			return failed
		}
	}
}

// pause is how long nothing has to be looked at.
func (k *keeper) pause() time.Duration {
	elapsed := time.Since(k.began)
	next := k.beat
	if s := &k.start; !s.Terminal {
		if s.Timeout > 0 {
			next = min(next, time.Duration(s.Timeout+1)*time.Millisecond)
		}
		if s.SessionMax > 0 {
			next = min(next, k.weigh)
		}
		if s.Silence > 0 {
			next = min(next, time.Duration(k.spoken.Load())+time.Duration(s.Silence+1)*time.Millisecond)
		}
	}
	return max(next-elapsed, time.Millisecond)
}

// breach returns the limit that was passed, if any, and lets the agent know that the keeper lives.
func (k *keeper) breach() string {
	elapsed := time.Since(k.began)
	if elapsed >= k.beat {
		k.beat = elapsed + beatInterval
		k.kept.Elapsed, k.kept.Beat = elapsed.Milliseconds(), time.Now().UTC()
		// On a full disk Checkbox goes on all the same; only the account of its time gets older.
		writeJSON(filepath.Join(k.dir, keepFile), k.kept, 0o600)
	}
	s := &k.start
	if s.Terminal {
		return ""
	}
	switch {
	case s.Timeout > 0 && elapsed.Milliseconds() > s.Timeout:
		return order.FailTimeout
	case s.Silence > 0 && elapsed.Milliseconds()-k.spoken.Load()/1e6 > s.Silence:
		return order.FailSilence
	}
	if s.SessionMax > 0 && elapsed >= k.weigh {
		large := k.sessionSize() > s.SessionMax
		// A session of many files takes long to weigh: that is done the less often, so that it is never more than a hundredth of the time.
		k.weigh = elapsed + max(weighInterval, 100*(time.Since(k.began)-elapsed))
		if large {
			return order.FailSessionSize
		}
	}
	return ""
}

// sessionSize is the size of Checkbox's session. To find the session takes reading the state of each there is, which can be megabytes;
// it is done once.
func (k *keeper) sessionSize() int64 {
	if k.session == "" {
		session, ok, err := checkbox.FindSession(k.start.SessionsDir, k.start.Description)
		if err != nil || !ok {
			return 0
		}
		k.session = session.Dir
	}
	return checkbox.DirSize(k.session)
}

// spawnKeeper starts a keeper for dir that outlives the agent: in a session of its own, and, where systemd runs, in a scope of its own,
// so that stopping the unit that Pebble runs in does not reach it. There it may have as many tasks as the machine can bear: systemd's
// default, a seventh of that, would fail stress tests.
func spawnKeeper(binary, dir string, env []string) error {
	args := []string{binary, "keep", dir}
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		if run, err := exec.LookPath("systemd-run"); err == nil {
			unit := "certlab-keep-" + strings.Map(func(r rune) rune {
				if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
					return r
				}
				return '-'
			}, strings.Join(lastElements(dir, 3), "-"))
			scope := append([]string{run, "--scope", "--quiet", "--collect", "--property=TasksMax=infinity", "--unit=" + unit, "--"}, args...)
			if err := startDetached(scope, env, dir); err == nil && waitFor(10*time.Second, func() bool { return exists(filepath.Join(dir, keepFile)) }) {
				return nil
			}
			// No bus, or no permission: the session of its own will do.
		}
	}
	if err := startDetached(args, env, dir); err != nil {
		return fmt.Errorf("cannot start a keeper: %w", err)
	}
	if !waitFor(20*time.Second, func() bool { return exists(filepath.Join(dir, keepFile)) }) {
		said, _ := os.ReadFile(filepath.Join(dir, keepLog))
		return fmt.Errorf("cannot start a keeper: it does not come up within 20 s: %s", clip(string(said), 300))
	}
	return nil
}

func lastElements(path string, n int) []string {
	parts := strings.Split(filepath.Clean(path), "/")
	return parts[max(0, len(parts)-n):]
}

// startDetached starts a program in a session of its own with nothing of ours open, what it says on stderr in dir/keep.log, and sees to
// it that it does not stay a zombie.
func startDetached(args, env []string, dir string) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	said, err := os.OpenFile(filepath.Join(dir, keepLog), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer said.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = env
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = null, null, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	go cmd.Wait()
	return nil
}

// waitFor polls until done says so; false if that took longer than limit.
func waitFor(limit time.Duration, done func() bool) bool {
	for deadline := time.Now().Add(limit); ; {
		if done() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func clip(s string, n int) string { return checkbox.OneLine(s, n) }
