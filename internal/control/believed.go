package control

import (
	"context"
	"fmt"
	"time"

	"certlab/internal/sqlite"
)

// A clock that is set a year ahead must not remove a year of results. So retention has a clock of its own, kept in the database: it
// follows the clock of the day while that does not jump. After a jump forwards it goes on by the time that really passes, and the
// operator is told; when the clock has stayed there for some days of service, it is believed. A jump backwards is followed at once:
// then less is removed.
const (
	jumpFrom  = 48 * time.Hour // more than this since the last look is a jump, or a long time out of service
	jumpDoubt = 72 * time.Hour // of service, until a jump is believed
)

// kept is retention's clock.
type kept struct {
	Time   time.Time     `json:"time"`   // as believed at the last look
	Jumped time.Time     `json:"jumped"` // where the clock of the day went when it jumped; zero: it has not
	From   time.Time     `json:"from"`   // and from where
	Served time.Duration `json:"served"` // since then
}

// believed returns the time that retention goes by.
func (l *Lab) believed(ctx context.Context, passed time.Duration) (time.Time, error) {
	now := l.Now()
	var k kept
	found, err := l.DB.Meta(ctx, sqlite.MetaClock, &k)
	if err != nil {
		return now, err
	}
	switch ahead := now.Sub(k.Time); {
	case !found, ahead <= jumpFrom:
		k = kept{Time: now}
	case k.Jumped.IsZero():
		k = kept{Time: k.Time, Jumped: now, From: k.Time}
	default:
		k.Time, k.Served = k.Time.Add(passed), k.Served+passed
		if k.Served >= jumpDoubt {
			k = kept{Time: now}
		}
	}
	text := ""
	if !k.Jumped.IsZero() {
		text = fmt.Sprintf("the controller's clock went ahead by %d days at once (from %s to %s): in case it is wrong, old results are not removed for %d hours; "+
			"set the clock right, or leave it if it is", int(k.Jumped.Sub(k.From).Hours()/24), k.From.Format(time.DateOnly), k.Jumped.Format(time.DateOnly),
			int((jumpDoubt - k.Served).Hours()))
	}
	if say(&l.trouble.clock, text) {
		l.Refresh()
	}
	return k.Time, l.DB.SetMeta(ctx, sqlite.MetaClock, k)
}
