package maas

import "time"

// Limits bound what a call may cost. What is zero is as Defaults says.
type Limits struct {
	Answer   time.Duration // for one answer
	Long     time.Duration // for one answer that MAAS takes its time for: lists, hardware, logs, questions to a BMC
	Attempts int           // of one call
	Pause    time.Duration // before the second attempt; twice as long before each further one
	Busy     time.Duration // before coming again, when MAAS is busy and does not say how long
	Off      time.Duration // for a machine to be off, in the middle of a power cycle
	Parallel int           // calls at once
}

// Defaults are the limits unless others are given.
func Defaults() Limits {
	return Limits{
		Answer: 30 * time.Second, Long: 2 * time.Minute, Attempts: 3, Pause: 500 * time.Millisecond, Busy: 10 * time.Second,
		Off: 90 * time.Second, Parallel: 10,
	}
}

func (l Limits) filled() Limits {
	d := Defaults()
	fill := func(have *time.Duration, other time.Duration) {
		if *have <= 0 {
			*have = other
		}
	}
	fill(&l.Answer, d.Answer)
	fill(&l.Long, d.Long)
	fill(&l.Pause, d.Pause)
	fill(&l.Busy, d.Busy)
	fill(&l.Off, d.Off)
	if l.Attempts <= 0 {
		l.Attempts = d.Attempts
	}
	if l.Parallel <= 0 {
		l.Parallel = d.Parallel
	}
	return l
}

// How much of an answer is read.
const (
	maxSmall = 4 << 20  // one machine and other small things
	maxList  = 1 << 30  // all machines: 15 kB each, decoded as they come
	maxFile  = 64 << 20 // hardware details, logs
	maxError = 64 << 10 // what MAAS says of an error
)

// maxIDs is how many machines are asked for by name: more do not fit into the 8 KiB that nginx, in front of MAAS, allows a URL. Beyond
// that all are listed.
const maxIDs = 500
