package agent

import (
	"maps"
	"slices"
	"time"
)

// trouble takes down what a person should see to, under a name of which there is one; with an empty text it is over.
func (a *Agent) trouble(name, text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.problems[name] == text {
		return
	}
	if text == "" {
		delete(a.problems, name)
	} else {
		a.problems[name] = text
	}
	a.notify()
}

// troubles are the texts of all troubles there are. a.mu must be held.
func (a *Agent) troubles() []string {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(a.problems)) {
		texts = append(texts, a.problems[name])
	}
	return texts
}

// A complaint bounds what the log says of something that goes wrong again and again: it is said the first time, and then each time that
// it has gone wrong twice as often.
type complaint struct {
	times int
	since time.Time
}

// say logs msg with log if it is time to.
func (c *complaint) say(log func(string, ...any), msg string, args ...any) {
	if c.times == 0 {
		c.since = time.Now()
	}
	if c.times++; c.times&(c.times-1) == 0 {
		log(msg, append(args, "times", c.times)...)
	}
}

// over ends the complaint, and logs msg if there was one.
func (c *complaint) over(log func(string, ...any), msg string, args ...any) {
	if c.times > 0 {
		log(msg, append(args, "failures", c.times, "after", time.Since(c.since).Round(time.Second))...)
	}
	*c = complaint{}
}
