package fleet

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"
)

// Soak has workers reserve and run on a lab's machines for a while, and kills the controller at random moments. It returns what was violated.
func (l *Lab) Soak(ctx context.Context, seed uint64, workers int, length, between time.Duration, log io.Writer) ([]string, error) {
	g := &ledger{asked: map[string]*asked{}}
	working, end := context.WithTimeout(ctx, length)
	defer end()
	settle, over := context.WithTimeout(ctx, length+2*time.Minute)
	defer over()
	var all sync.WaitGroup
	for n := range workers {
		random := rand.New(rand.NewPCG(seed, uint64(n)))
		all.Go(func() { l.worker(working, settle, g, random) })
	}
	random := rand.New(rand.NewPCG(seed, 1<<32))
	for working.Err() == nil {
		pause(working, between/2+time.Duration(random.Int64N(int64(between))))
		if working.Err() != nil {
			break
		}
		if err := l.Kill(settle); err != nil {
			return nil, fmt.Errorf("cannot start the controller again after %d kills: %w", g.kills, err)
		}
		g.with(func() { g.kills++ })
	}
	all.Wait()
	fmt.Fprintf(log, "%d reservations, %d kills; settling\n", len(g.asked), g.kills)
	return l.check(settle, g, log)
}
