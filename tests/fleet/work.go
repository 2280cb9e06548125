package fleet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"certlab/internal/cert"
)

// A ledger holds what was asked for and what was acknowledged.
type ledger struct {
	mu    sync.Mutex
	asked map[string]*asked // by reservation
	kills int
	notes []string
}

// asked is one reservation, as who asked for it knows it.
type asked struct {
	id       string
	run      string // of one for a run
	acked    bool
	cancel   bool // a cancellation or release was acknowledged
	finished cert.Reservation
}

func (l *ledger) notef(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notes = append(l.notes, fmt.Sprintf(format, args...))
}

func (l *ledger) add(a *asked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked[a.id] = a
}

func (l *ledger) with(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// worker is a person who reserves machines, runs plans on them, changes their mind, and gives them back, until ctx ends.
func (l *Lab) worker(ctx, settle context.Context, g *ledger, random *rand.Rand) {
	for ctx.Err() == nil {
		a := &asked{id: cert.NewID(cert.ReservationID, time.Now())}
		g.add(a)
		in := cert.NewReservation{ID: a.id, Reason: "soak", Want: cert.Want{Query: "tags=cert", Hours: 1, Failover: true}}
		if random.IntN(2) == 0 {
			in.Hours, in.Spec = 0, &cert.Spec{Plan: "com.example::fleet", Title: a.id}
		}
		var r cert.Reservation
		if err := l.Persist(settle, http.MethodPost, "/api/v1/reservations", in, &r); err != nil {
			g.notef("reserve %s: %v", a.id, err)
			return
		}
		g.with(func() { a.acked, a.run = true, r.Run })
		if random.IntN(5) == 0 { // changes their mind, at any moment
			pause(ctx, time.Duration(random.IntN(3000))*time.Millisecond)
			l.end(settle, g, a, "cancel")
		}
		for settle.Err() == nil {
			if err := l.Persist(settle, http.MethodGet, "/api/v1/reservations/"+a.id, nil, &r); err != nil {
				g.notef("show %s: %v", a.id, err)
				return
			}
			if r.State == cert.ReservationReady && in.Spec == nil && !a.cancel {
				if random.IntN(2) == 0 {
					err := l.Persist(settle, http.MethodPost, "/api/v1/reservations/"+a.id+"/extend", cert.ExtendReservation{Hours: 0.5}, &r)
					if err != nil {
						g.notef("extend %s: %v", a.id, err)
					}
				}
				pause(ctx, time.Duration(random.IntN(500))*time.Millisecond)
				l.end(settle, g, a, "release")
			}
			if r.State == cert.ReservationEnded {
				break
			}
			pause(settle, 100*time.Millisecond)
		}
		g.with(func() { a.finished = r })
	}
}

// end gives a machine back, or ends the wait for it. That it is too late is no trouble.
func (l *Lab) end(ctx context.Context, g *ledger, a *asked, how string) {
	err := l.Persist(ctx, http.MethodPost, "/api/v1/reservations/"+a.id+"/"+how, cert.ReleaseReservation{Reason: "soak"}, nil)
	var answer *Answer
	if err != nil && !(errors.As(err, &answer) && answer.Status == http.StatusConflict) {
		g.notef("%s %s: %v", how, a.id, err)
		return
	}
	g.with(func() { a.cancel = true })
}
