package workload

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"certlab/internal/workload/workloadtest"
)

// builds is what the tests have built; it is made once and removed by TestMain.
var builds workloadtest.Builds

// TestMain lets a copy of the test binary, installed as a charm's program, be the service: it holds a lock in its directory, and
// appends a line to "log" there for its start and for each SIGHUP.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "run" && os.Args[2] == "--dir" {
		if err := serve(os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	builds.Remove()
	os.Exit(code)
}

func serve(dir string) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM)
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return errors.New("another one is running")
	}
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	fmt.Fprintf(log, "start %d %s\n", os.Getpid(), filepath.Base(filepath.Dir(exe)))
	for s := range signals {
		if s == syscall.SIGTERM {
			break
		}
		fmt.Fprintln(log, "reload")
	}
	return nil
}
