package control

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"certlab/internal/cert"
)

// Clocks are how far machines' clocks were off when their agents last called. They are not stored: agents call every minute.
type Clocks struct {
	logger *slog.Logger
	mu     sync.Mutex
	skew   map[string]time.Duration // by machine
}

// NewClocks returns Clocks that know of no machine.
func NewClocks(logger *slog.Logger) *Clocks {
	return &Clocks{logger: logger, skew: make(map[string]time.Duration)}
}

// Clock notes that a machine's clock is ahead of this one's by skew. What is wrong is logged when it begins and when it is over.
func (c *Clocks) Clock(machine string, skew time.Duration) {
	c.mu.Lock()
	was := c.skew[machine]
	c.skew[machine] = skew
	c.mu.Unlock()
	switch wrong := cert.Skewed(skew); {
	case wrong && !cert.Skewed(was):
		c.logger.Warn("a machine's clock is wrong", "machine", machine, "clock", skewText(skew))
	case !wrong && cert.Skewed(was):
		c.logger.Info("a machine's clock is right again", "machine", machine)
	}
}

// Observe fills in what of a machine is known while the service runs: its clock, and what is wrong with it. refusals are those in force.
func (c *Clocks) Observe(m *cert.Machine, refusals []cert.Refusal) {
	c.mu.Lock()
	skew, known := c.skew[m.ID]
	c.mu.Unlock()
	if known {
		seconds := skew.Round(time.Millisecond).Seconds()
		m.ClockSkewSeconds = &seconds
	}
	for _, r := range refusals {
		if r.Enrolment.Identity.Key() == m.Key {
			m.Problem = fmt.Sprintf("unit %s was refused: %s", r.Enrolment.Unit, r.Reason)
			return
		}
	}
	if known && cert.Skewed(skew) {
		m.Problem = fmt.Sprintf("its clock is %s: the times that it reports are corrected by that (look at timedatectl there)", skewText(skew))
	}
}

func skewText(skew time.Duration) string {
	if skew < 0 {
		return fmt.Sprintf("%s behind the controller's", (-skew).Round(time.Second))
	}
	return fmt.Sprintf("%s ahead of the controller's", skew.Round(time.Second))
}
