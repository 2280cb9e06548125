package soak

import (
	"fmt"
	"sync"
	"time"
)

// A Request is a run that was asked for. Its title, which is in its submission too, names it for good, also when its answer was lost.
type Request struct {
	Title      string
	Machine    string // number
	Plan       string
	Origin     string // order or action
	ID         string // of the run: chosen when it was asked for, or as it was answered
	Acked      bool   // we were told that it was taken
	Repeats    int    // how often it was sent
	CancelSent bool
	CancelDone bool // we were told that it will be cancelled
}

// An Upload is an archive that was added by hand.
type Upload struct {
	Title   string
	Machine string
	Bytes   []byte
	SHA256  string
	ID      string // of the submission; empty: not acknowledged
}

// A Token is one that was made for somebody.
type Token struct {
	Name       string
	Code       string
	Created    bool // acknowledged
	Secret     string
	RevokeSent bool
	Revoked    bool // acknowledged
}

// A Copy is a backup that was made.
type Copy struct {
	Path   string // on the controller's machine
	SHA256 string
}

// A Cut is a job that was certainly in progress when something was killed under it.
type Cut struct {
	Run, Job string
	At       time.Duration
	By       string
}

// A ledger holds what was asked for and what was acknowledged. It is safe for concurrent use.
type ledger struct {
	mu       sync.Mutex
	requests []*Request
	uploads  []*Upload
	tokens   []*Token
	copies   []Copy
	cuts     []Cut
	done     map[string]int // kind of event → how often it took effect
	missed   map[string]int // kind of event → how often there was nothing to do it to
	log      []string
}

func newLedger() *ledger { return &ledger{done: map[string]int{}, missed: map[string]int{}} }

// note takes down that an event did something, or why it did not.
func (l *ledger) note(kind string, done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if done {
		l.done[kind]++
	} else {
		l.missed[kind]++
	}
}

func (l *ledger) logf(at time.Duration, format string, args ...any) string {
	line := fmt.Sprintf("%7.1fs %s", at.Seconds(), fmt.Sprintf(format, args...))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = append(l.log, line)
	return line
}

// with changes what the ledger holds.
func (l *ledger) with(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// acknowledged counts what was acknowledged, by what it is.
func (l *ledger) acknowledged() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := map[string]int{"backups": len(l.copies)}
	for _, r := range l.requests {
		if r.Acked {
			n["runs of origin "+r.Origin]++
		}
		if r.CancelDone {
			n["cancellations"]++
		}
	}
	for _, u := range l.uploads {
		if u.ID != "" {
			n["archives added by hand"]++
		}
	}
	for _, t := range l.tokens {
		if t.Created {
			n["tokens made"]++
		}
		if t.Revoked {
			n["tokens revoked"]++
		}
	}
	return n
}
