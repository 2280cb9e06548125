package cert

import (
	"math"
	"time"
)

// Consumers of a machine's time.
const (
	UseManual  = "manual"
	UseRuns    = "runs"
	UseChecks  = "checks"
	UseIdle    = "idle"
	UseBroken  = "broken"
	UseForeign = "foreign"
)

// Consumers lists every consumer.
var Consumers = []string{UseManual, UseRuns, UseChecks, UseIdle, UseBroken, UseForeign}

// MachineTime is what a machine was for in one stretch of time.
type MachineTime struct {
	Machine  string
	Since    time.Time
	Until    time.Time // zero: still
	State    MachineState
	Consumer string
	Holder   string
}

// UsageOf adds up the lab's time from from to to. What still goes on counts up to now. Hours are to the millionth.
func UsageOf(rows []MachineTime, from, to, now time.Time) Usage {
	u := Usage{From: from, To: to, Consumers: make(map[string]float64), Holders: make(map[string]float64)}
	for _, c := range Consumers {
		u.Consumers[c] = 0
	}
	end := to
	if now.Before(end) {
		end = now
	}
	var total time.Duration
	consumers, holders := make(map[string]time.Duration), make(map[string]time.Duration)
	for _, r := range rows {
		begin, until := r.Since, r.Until
		if until.IsZero() || until.After(end) {
			until = end
		}
		if begin.Before(from) {
			begin = from
		}
		d := until.Sub(begin)
		if d <= 0 {
			continue
		}
		total += d
		consumers[r.Consumer] += d
		if r.Consumer == UseManual && r.Holder != "" {
			holders[r.Holder] += d
		}
	}
	hours := func(d time.Duration) float64 { return math.Round(d.Hours()*1e6) / 1e6 }
	u.Total = hours(total)
	for c, d := range consumers {
		u.Consumers[c] = hours(d)
	}
	for h, d := range holders {
		u.Holders[h] = hours(d)
	}
	return u
}
