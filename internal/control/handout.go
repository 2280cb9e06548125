package control

import (
	"context"
	"sync"
	"time"
)

// maxOrders bounds how many orders and cancellations one poll answers with.
const maxOrders = 16

// hub wakes those who wait for a machine's news.
type hub struct {
	mu      sync.Mutex
	waiters map[string]chan struct{} // by machine
}

// wait returns a channel that is closed at the machine's next news.
func (h *hub) wait(machine string) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, ok := h.waiters[machine]
	if !ok {
		c = make(chan struct{})
		h.waiters[machine] = c
	}
	return c
}

func (h *hub) wake(machine string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c, ok := h.waiters[machine]; ok {
		close(c)
		delete(h.waiters, machine)
	}
}

func (h *hub) wakeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for machine, c := range h.waiters {
		close(c)
		delete(h.waiters, machine)
	}
}

// Wake tells a machine's agent that there is news for it.
func (l *Lab) Wake(machine string) {
	l.hub.wake(machine)
	l.Refresh()
}

// End answers all who wait for news, now and from now on, so that a service that ends need not wait for them.
func (l *Lab) End() { l.endOnce.Do(func() { close(l.ending) }) }

// Next returns what a machine's agent should do next, and waits up to wait for there to be something. It records that the orders were
// handed out. Below the free space that must stay, no orders are handed out; cancellations are. still is asked after each wait whether
// the agent is still the one that may have them.
func (l *Lab) Next(ctx context.Context, machine string, wait time.Duration, still func() error) (out News, err error) {
	ctx, stop := context.WithTimeout(ctx, wait)
	defer stop()
	for {
		news := l.hub.wait(machine)
		if err := still(); err != nil {
			return News{}, err
		}
		// The request may be over, or wait be 0: one look is always taken.
		look, done := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		out, err = l.newsFor(look, machine)
		done()
		if err != nil || !out.empty() {
			return out, err
		}
		select {
		case <-ctx.Done():
			return out, nil
		case <-l.ending:
			return out, nil
		case <-news:
		}
	}
}

// newsFor is what there is to tell a machine's agent now.
func (l *Lab) newsFor(ctx context.Context, machine string) (out News, err error) {
	if out.Orders, out.Cancel, err = l.DB.OpenRuns(ctx, machine, maxOrders); err != nil {
		return out, err
	}
	if l.low.Load() || l.DB.Writable() != nil {
		out.Orders = nil
	}
	if len(out.Orders) > 0 {
		// A machine that is not what it was before its last run takes no other one.
		said, ok, err := l.DB.AgentStatus(ctx, machine)
		if err != nil {
			return out, err
		}
		if ok && (said.Status.Dirty != "" || said.Status.Restoring != "") {
			out.Orders = nil
		}
	}
	if err := l.handOut(ctx, machine, &out); err != nil {
		return out, err
	}
	if out.Resend, err = l.resend(ctx, machine); err != nil {
		return out, err
	}
	if out.Lost, err = l.DB.UntoldLosses(ctx, machine); err != nil {
		return out, err
	}
	out.Epoch = l.epochID(ctx)
	return out, nil
}
