package control

import (
	"context"
	"fmt"
	"sync/atomic"
)

// A Problem is something that a person has to see to.
type Problem struct {
	Text string // one sentence, with what to do
	Stop bool   // the service cannot do its work: nothing is stored
}

// troubles are what the loops have found out. Each is the sentence for the operator, or empty.
type troubles struct {
	files atomic.Pointer[string] // files whose bytes are bad
	clock atomic.Pointer[string] // a clock that cannot be believed
	log   atomic.Pointer[string] // transactions that were lost with the write-ahead log
	full  atomic.Bool            // a file did not fit
}

func say(to *atomic.Pointer[string], text string) (changed bool) {
	was := to.Swap(&text)
	return was == nil && text != "" || was != nil && *was != text
}

// Problems returns all that is wrong, the gravest first.
func (l *Lab) Problems() []Problem {
	var out []Problem
	add := func(stop bool, format string, args ...any) {
		out = append(out, Problem{fmt.Sprintf(format, args...), stop})
	}
	damage, full, frozen := l.DB.Trouble()
	if damage != nil {
		add(true, "the database is damaged (%s): nothing is written and agents keep their results; run the repair action, or certlabd repair --data %s", damage, l.Data.Dir)
	}
	if full || l.trouble.full.Load() {
		add(true, "the disk of %s is full: nothing can be stored and agents keep their results; make room or extend the storage, then it goes on by itself", l.Data.Dir)
	}
	if frozen {
		add(true, "the storage %s is read-only: nothing can be stored and agents keep their results; see the kernel's log, and mount it for writing", l.Data.Dir)
	}
	for _, p := range []*atomic.Pointer[string]{&l.trouble.files, &l.trouble.log, &l.trouble.clock} {
		if text := p.Load(); text != nil && *text != "" {
			add(false, "%s", *text)
		}
	}
	return out
}

// StorageFull notes that a file did not fit. It is over when there is room again.
func (l *Lab) StorageFull() {
	if !l.trouble.full.Swap(true) {
		l.Logger.Error("the disk is full", "dir", l.Data.Dir)
		l.Refresh()
	}
}

// roomAgain is how many bytes must be free for the disk not to count as full.
const roomAgain = 1 << 20

// probe finds out whether a disk that was full or read-only takes writes again.
func (l *Lab) probe(ctx context.Context) error {
	if l.trouble.full.Load() {
		if free, _ := l.Space(); free >= roomAgain {
			l.trouble.full.Store(false)
			l.Refresh()
		}
	}
	if _, full, frozen := l.DB.Trouble(); (full || frozen) && l.DB.Writable() == nil {
		if err := l.DB.SetMeta(ctx, "probe", l.Now()); err != nil {
			return nil // as before: it was said when it began
		}
		l.Logger.Info("the storage takes writes again")
		l.Index()
		return l.Apply(ctx, l.Desired())
	}
	return nil
}

// noticed is called by the database when it finds trouble, or the end of it.
func (l *Lab) noticed() {
	damage, full, frozen := l.DB.Trouble()
	l.Logger.Error("state of the storage", "damage", damage, "full", full, "read_only", frozen)
	if damage != nil && !damage.Located {
		nudge(l.locate)
	}
	l.Refresh()
}
