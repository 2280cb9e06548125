package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"certlab/internal/client"
	"certlab/tests/lab"
)

// Options say what a soak is to be.
type Options struct {
	Seed    uint64
	Profile Profile
	Root    string    // of the repository
	Out     string    // directory of the report
	Log     io.Writer // what happens, as it happens
}

// A Soak is one run of it.
type Soak struct {
	Options
	lab    *lab.Lab
	api    *client.Client
	ledger *ledger
	charms map[string][]string // application → its charm, and the same with other programs
	events []Event
	began  time.Time
	report *Report

	power    map[string]*sync.Mutex // machine → held while it is off or on its way
	relation sync.Mutex             // held while there is none
	limits   sync.Mutex             // held while the disk counts as full
	monitor  *monitor
}

// Run does it all and returns the report. An error means that the soak itself could not be done.
func Run(ctx context.Context, o Options) (*Report, error) {
	l, err := lab.New(o.Root, "")
	if err != nil {
		return nil, err
	}
	s := &Soak{Options: o, lab: l, ledger: newLedger(), events: Draw(o.Seed, o.Profile), power: map[string]*sync.Mutex{}}
	for n := range o.Profile.Machines + 1 {
		s.power[fmt.Sprint(n)] = &sync.Mutex{}
	}
	s.report = newReport(s)
	s.began = time.Now()
	err = s.run(ctx)
	if err == nil && len(s.report.Violations) == 0 {
		err = l.Down(context.WithoutCancel(ctx), true)
		s.report.Kept = ""
		if err == nil {
			if _, statErr := os.Stat(l.Dir); !errors.Is(statErr, os.ErrNotExist) {
				s.violate("leftover", "", "the lab's directory %s is still there", l.Dir)
			}
		}
		return s.report, errors.Join(err, s.report.write(o.Out))
	}
	s.report.Kept = l.Dir
	// What the machines keep stays; their processes need not.
	downErr := l.Down(context.WithoutCancel(ctx), false)
	return s.report, errors.Join(err, downErr, s.report.write(o.Out))
}

func (s *Soak) run(ctx context.Context) error {
	ready, cancel := context.WithTimeout(ctx, 8*time.Minute)
	defer cancel()
	if err := s.begin(ready); err != nil {
		return fmt.Errorf("cannot begin the soak: %w", err)
	}
	s.began = time.Now()
	monitored, stop := context.WithCancel(ctx)
	defer stop()
	s.monitor = newMonitor(s)
	var watching sync.WaitGroup
	watching.Go(func() { s.monitor.watch(monitored) })

	// Asking goes on until the settling time is over; faults end by themselves.
	asking, give := context.WithTimeout(ctx, s.Profile.Faults+s.Profile.Settle)
	defer give()
	var asked, faults sync.WaitGroup
	for _, e := range s.events {
		if !wait(ctx, s.began.Add(e.At)) {
			return context.Cause(ctx)
		}
		if do := work[e.Kind]; do != nil {
			asked.Go(func() { do(s, asking, e) })
			continue
		}
		do := faultKinds[e.Kind]
		if do == nil {
			return fmt.Errorf("there is no event %q", e.Kind)
		}
		faults.Go(func() { s.inject(asking, e, do) })
	}
	faults.Wait()
	s.logf("the faults are over")
	s.report.Faults = time.Since(s.began)
	asked.Wait()
	settled := time.Now()
	if err := s.settle(asking); err != nil {
		s.violate("settling", "", "%v", err)
	}
	s.report.Settled = time.Since(settled)
	stop()
	watching.Wait()
	s.monitor.judge()
	checked, done := context.WithTimeout(ctx, 10*time.Minute)
	defer done()
	s.check(checked)
	s.report.Total = time.Since(s.began)
	return nil
}

// begin starts and deploys the lab, and gets the soak a token.
func (s *Soak) begin(ctx context.Context) error {
	var err error
	if s.charms, err = variants(s.lab, filepath.Join(s.lab.Dir, "charms-of-soak")); err != nil {
		return err
	}
	if err := s.lab.Up(ctx); err != nil {
		return err
	}
	if err := s.lab.Deploy(ctx, s.Profile.Machines, nil); err != nil {
		return err
	}
	if err := s.until(ctx, s.well); err != nil {
		return err
	}
	url, err := s.lab.URL(ctx)
	if err != nil {
		return err
	}
	k, err := s.lab.Action(ctx, "60s", controllerUnit, "create-token", "name=soak", "role=admin")
	if err != nil {
		return err
	}
	cas, err := client.FetchCAs(ctx, url)
	if err != nil {
		return err
	}
	nobody, err := client.New(client.Options{URL: url, CAs: cas})
	if err != nil {
		return err
	}
	token, err := nobody.Redeem(ctx, k.Text("code"))
	if err != nil {
		return fmt.Errorf("%w (%v)", err, k)
	}
	s.report.URL, s.report.CAs = url, cas
	s.api, err = client.New(client.Options{URL: url, CAs: cas, Token: token.Secret})
	return err
}

func (s *Soak) now() time.Duration { return time.Since(s.began) }

func (s *Soak) logf(format string, args ...any) {
	fmt.Fprintln(s.Log, s.ledger.logf(s.now(), format, args...))
}

// wait waits until a time; false if ctx ended first.
func wait(ctx context.Context, until time.Time) bool {
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// until asks again and again until missing returns "", and fails with what it said last when ctx ends.
func (s *Soak) until(ctx context.Context, missing func(context.Context) string) error {
	last := ""
	for {
		one, cancel := context.WithTimeout(ctx, time.Minute)
		now := missing(one)
		cancel()
		if ctx.Err() == nil && now != last {
			last = now
			if now != "" {
				s.logf("not well yet: %s", now)
			}
		}
		if now == "" {
			return nil
		}
		if !wait(ctx, time.Now().Add(500*time.Millisecond)) {
			return fmt.Errorf("it did not come about in time: %s", last)
		}
	}
}
