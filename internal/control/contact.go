package control

import (
	"context"
	"time"
)

const contactInterval = 15 * time.Second

// Contact notes that a machine's agent has called. It is stored within seconds; a crash loses the last of them.
func (l *Lab) Contact(machine string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen[machine] = l.Now()
}

// Heard returns when a machine's agent last called; zero: that is not known.
func (l *Lab) Heard(machine string) time.Time {
	l.mu.Lock()
	at, ok := l.seen[machine]
	l.mu.Unlock()
	if ok {
		return at
	}
	m, err := l.DB.Machine(context.Background(), machine)
	if err != nil || m.Seen == nil {
		return time.Time{}
	}
	return *m.Seen
}

// TokenUsed notes that a token was used, in the same way.
func (l *Lab) TokenUsed(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used[id] = l.Now()
}

// FlushContacts stores the contacts noted.
func (l *Lab) FlushContacts(ctx context.Context) error {
	if l.DB.Writable() != nil {
		return nil // they wait
	}
	l.mu.Lock()
	seen, used := l.seen, l.used
	l.seen, l.used = make(map[string]time.Time), make(map[string]time.Time)
	l.mu.Unlock()
	if len(seen) > 0 {
		if err := l.DB.Seen(ctx, seen); err != nil {
			return err
		}
	}
	if len(used) > 0 {
		return l.DB.TokensUsed(ctx, used)
	}
	return nil
}

func (l *Lab) contactLoop(ctx context.Context) error {
	err := l.every(ctx, "store contacts", contactInterval, l.FlushContacts)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if flushErr := l.FlushContacts(last); flushErr != nil {
		l.Logger.Error("cannot store contacts", "error", flushErr)
	}
	return err
}
