package soak

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"certlab/internal/cert"
	"certlab/internal/client"
)

// work is what is asked of the lab. Each goes on asking until it has an answer or ctx ends, where asking again is safe.
var work = map[string]func(*Soak, context.Context, Event){
	"run-action": (*Soak).runAction, "run-order": (*Soak).runOrder, "cancel": (*Soak).cancelRun, "upload": (*Soak).upload,
	"token": (*Soak).makeToken, "revoke": (*Soak).revokeToken,
}

// hangTimeout is what a run of the plan that never ends is given.
const hangTimeout = 30 * time.Second

// planOf is the plan that an event runs; one of them does not exist.
func planOf(e Event) string { return e.Plan }

func title(seed uint64, e Event) string { return fmt.Sprintf("soak %d event %d", seed, e.N) }

// maxOpen is how many runs of a machine may wait or go on: a machine that is slower than the plan must come to an end after it.
const maxOpen = 4

// busy reports whether a machine has as many runs as it may have, and takes down that a run was not asked for.
func (s *Soak) busy(e Event) bool {
	var asked []string
	s.ledger.with(func() {
		for _, r := range s.ledger.requests {
			if r.Machine == e.Machine && r.ID != "" {
				asked = append(asked, r.ID)
			}
		}
	})
	open := 0
	for _, id := range asked {
		if !s.monitor.over(id) {
			open++
		}
	}
	if open >= maxOpen {
		s.ledger.note(e.Kind, false)
		s.logf("%s: not asked for: %d runs of the machine are not over", e, open)
	}
	return open >= maxOpen
}

func (s *Soak) request(e Event, origin, id string) *Request {
	r := &Request{Title: title(s.Seed, e), Machine: e.Machine, Plan: planOf(e), Origin: origin, ID: id}
	s.ledger.with(func() { s.ledger.requests = append(s.ledger.requests, r) })
	return r
}

// runAction asks a unit for a run, once: whether an action whose answer was lost took place cannot be told.
func (s *Soak) runAction(ctx context.Context, e Event) {
	if s.busy(e) {
		return
	}
	r := s.request(e, cert.FromAction, "")
	params := []string{"plan=" + r.Plan, "wait=0", "title=" + r.Title}
	if r.Plan == namespace+"demo-hang" {
		params = append(params, "timeout=1") // minutes
	}
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	s.ledger.with(func() { r.Repeats++ })
	k, err := s.lab.Action(ctx, "60s", e.unit(), "run-suite", params...)
	id := k.Text("run")
	taken := err == nil && k.Status == "completed" && id != ""
	s.ledger.with(func() { r.ID, r.Acked = id, taken })
	s.ledger.note("run-action", taken)
	if taken {
		s.logf("%s: run %s", e, id)
	} else {
		s.logf("%s: no answer that counts: %s %s %v", e, k.Status, k.Message, err)
	}
}

// runOrder orders a run at the controller with an id of its own, and repeats that until it is answered.
func (s *Soak) runOrder(ctx context.Context, e Event) {
	if s.busy(e) {
		return
	}
	id := runID(s.Seed, e.N)
	r := s.request(e, cert.FromOrder, id)
	order := cert.NewRun{ID: id, Machine: "machine-" + e.Machine, Spec: cert.Spec{Plan: r.Plan, Title: r.Title}}
	if r.Plan == namespace+"demo-hang" {
		order.TimeoutSeconds = int64(hangTimeout.Seconds())
	}
	again := e.Number%3 == 0 // to ask twice although there was an answer
	err := s.persist(ctx, func(ctx context.Context) error {
		s.ledger.with(func() { r.Repeats++ })
		run, err := s.api.StartRun(ctx, order)
		if err == nil && run.ID != id {
			s.violate("twice", id, "an order with the id %s was answered with run %s", id, run.ID)
		}
		if err == nil && again {
			again = false
			s.ledger.with(func() { r.Acked = true })
			return errors.New("once more")
		}
		return err
	})
	s.ledger.with(func() { r.Acked = r.Acked || err == nil })
	s.ledger.note("run-order", err == nil)
	s.logf("%s: run %s, sent %d times, error %v", e, id, r.Repeats, err)
}

// runID makes the id of a run from the seed, so that the same plan orders the same runs.
func runID(seed uint64, n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "run %d of %d", n, seed))
	return "r" + hex.EncodeToString(sum[:13])
}

// persist repeats a request of the API until it succeeds, is refused for good, or ctx ends.
func (s *Soak) persist(ctx context.Context, ask func(context.Context) error) error {
	for pause := 200 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		one, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := ask(one)
		cancel()
		var answer *client.Error
		if err == nil || errors.As(err, &answer) && final(answer) {
			return err
		}
		if !wait(ctx, time.Now().Add(pause)) {
			return err
		}
	}
}

// final reports whether an answer stays the same however often is asked. A machine without a unit may have one again, and a disk room.
func final(e *client.Error) bool {
	switch e.Status {
	case http.StatusConflict, http.StatusInsufficientStorage, http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return false
	}
	return e.Status < 500
}

// cancelRun cancels one of the runs that were acknowledged, at the controller or on the machine.
func (s *Soak) cancelRun(ctx context.Context, e Event) {
	var r *Request
	s.ledger.with(func() {
		var known []*Request
		for _, q := range s.ledger.requests {
			if q.Acked && !q.CancelSent {
				known = append(known, q)
			}
		}
		if n := len(known); n > 0 {
			r = known[n-1-e.Number%min(n, 3)] // a late one, which may still be going on
			r.CancelSent = true
		}
	})
	if r == nil {
		s.ledger.note("cancel", false)
		return
	}
	if e.Number%2 == 0 {
		k, err := s.lab.Action(ctx, "60s", unitOn(r.Machine), "cancel-run", "run="+r.ID)
		s.ledger.note("cancel", err == nil && k.Status == "completed")
		s.logf("%s: action on run %s: %s %s %v", e, r.ID, k.Status, k.Message, err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := s.persistOnce(ctx, func(ctx context.Context) error { _, err := s.api.CancelRun(ctx, r.ID); return err })
	s.ledger.with(func() { r.CancelDone = err == nil })
	s.ledger.note("cancel", err == nil)
	s.logf("%s: order for run %s: %v", e, r.ID, err)
}

// persistOnce is persist for what a conflict answers too.
func (s *Soak) persistOnce(ctx context.Context, ask func(context.Context) error) error {
	var conflict error
	err := s.persist(ctx, func(ctx context.Context) error {
		err := ask(ctx)
		var answer *client.Error
		if errors.As(err, &answer) && answer.Status == http.StatusConflict {
			conflict = err
			return nil
		}
		return err
	})
	return errors.Join(err, conflict)
}

// archive is a submission that a person might bring along.
func archive(name string, jobs int) []byte {
	type result struct {
		ID      string `json:"full_id"`
		Name    string `json:"name"`
		Outcome string `json:"outcome"`
		Log     string `json:"io_log"`
	}
	doc := struct {
		Title   string   `json:"title"`
		Plan    string   `json:"testplan_id"`
		Results []result `json:"results"`
	}{Title: name, Plan: namespace + "by-hand"}
	for n := range jobs {
		doc.Results = append(doc.Results, result{ID: fmt.Sprintf("%sjob-%d", namespace, n), Name: fmt.Sprintf("Job %d", n),
			Outcome: []string{"pass", "pass", "fail", "skip"}[n%4], Log: fmt.Sprintf("what job %d of %s said", n, name)})
	}
	text, _ := json.Marshal(doc) // of strings only: cannot fail
	return text
}

// upload adds an archive by hand, and repeats that until it is answered.
func (s *Soak) upload(ctx context.Context, e Event) {
	u := &Upload{Title: title(s.Seed, e), Machine: e.Machine}
	u.Bytes = archive(u.Title, 1+e.Number%2000)
	sum := sha256.Sum256(u.Bytes)
	u.SHA256 = hex.EncodeToString(sum[:])
	s.ledger.with(func() { s.ledger.uploads = append(s.ledger.uploads, u) })
	sent := 0
	err := s.persist(ctx, func(ctx context.Context) error {
		sent++
		added, err := s.api.AddSubmission(ctx, "machine-"+e.Machine, "submission.json", bytes.NewReader(u.Bytes))
		if err == nil {
			s.ledger.with(func() { u.ID = added.ID })
		}
		return err
	})
	s.ledger.note("upload", err == nil)
	s.logf("%s: submission %s, sent %d times, error %v", e, u.ID, sent, err)
}

// makeToken makes a token and turns its code into it.
func (s *Soak) makeToken(ctx context.Context, e Event) {
	t := &Token{Name: fmt.Sprintf("soak-%d-%d", s.Seed, e.N)}
	s.ledger.with(func() { s.ledger.tokens = append(s.ledger.tokens, t) })
	err := s.persistOnce(ctx, func(ctx context.Context) error {
		made, err := s.api.CreateToken(ctx, cert.NewToken{Name: t.Name, Role: string(cert.Viewer)})
		if err == nil {
			s.ledger.with(func() { t.Created, t.Code = true, made.Code })
		}
		return err
	})
	s.ledger.note("token", err == nil)
	if err != nil { // made, perhaps, and the answer lost: then nobody has its code
		s.logf("%s: %v", e, err)
		return
	}
	nobody, err := client.New(client.Options{URL: s.report.URL, CAs: s.report.CAs})
	if err == nil {
		err = s.persist(ctx, func(ctx context.Context) error {
			redeemed, err := nobody.Redeem(ctx, t.Code)
			if err == nil {
				s.ledger.with(func() { t.Secret = redeemed.Secret })
			}
			return err
		})
	}
	s.logf("%s: %s, error %v", e, t.Name, err)
}

// revokeToken revokes one of the tokens that were made.
func (s *Soak) revokeToken(ctx context.Context, e Event) {
	var t *Token
	s.ledger.with(func() {
		for _, known := range s.ledger.tokens {
			if known.Secret != "" && !known.RevokeSent {
				t = known
				t.RevokeSent = true
				break
			}
		}
	})
	if t == nil {
		s.ledger.note("revoke", false)
		return
	}
	err := s.persist(ctx, func(ctx context.Context) error { _, err := s.api.RevokeToken(ctx, t.Name); return err })
	s.ledger.with(func() { t.Revoked = err == nil })
	s.ledger.note("revoke", err == nil)
	s.logf("%s: %s, error %v", e, t.Name, err)
}
