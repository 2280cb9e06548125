package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/provider/maas/maastest"
)

// check waits until everything is over and asks whether it is as it should be: no machine leaked or held twice, each log complete, no
// submission lost.
func (l *Lab) check(ctx context.Context, g *ledger, log io.Writer) ([]string, error) {
	var bad []string
	violate := func(format string, args ...any) { bad = append(bad, fmt.Sprintf(format, args...)) }
	for what := ""; ; pause(ctx, 200*time.Millisecond) {
		busy := l.busy()
		if busy == "" {
			break
		}
		if busy != what {
			what = busy
			fmt.Fprintf(log, "not settled: %s\n", what)
		}
		if ctx.Err() != nil {
			violate("leaked: %s: %s", what, l.Describe(context.WithoutCancel(ctx), what[:strings.IndexByte(what, ' ')]))
			break
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
	defer cancel()
	for _, v := range l.Region.Violations() {
		violate("held twice: %s", v)
	}
	for _, run := range l.rack.lost() {
		violate("the machine of run %s was wiped before its submission was acknowledged", run)
	}
	bad = append(bad, g.notes...)
	ids := make([]string, 0, len(g.asked))
	for id := range g.asked {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	outcomes := map[string]int{}
	for _, id := range ids {
		a := g.asked[id]
		if !a.acked {
			violate("reservation %s was never acknowledged", id)
			continue
		}
		var r cert.Reservation
		if err := l.Persist(ctx, http.MethodGet, "/api/v1/reservations/"+id, nil, &r); err != nil {
			violate("reservation %s was acknowledged: %v", id, err)
			continue
		}
		outcomes[string(r.Kind)+" "+r.Ending]++
		if r.State != cert.ReservationEnded {
			violate("reservation %s is still %s: %s", id, r.State, r.Blocked)
		}
		if r.Ending == cert.EndedFailed || r.Ending == cert.EndedLost {
			violate("reservation %s ended as %s: %+v", id, r.Ending, r.Failure)
		}
		if r.Run != "" && r.Ready != nil {
			l.checkRun(ctx, r, violate)
		}
	}
	l.checkLogs(ctx, violate)
	fmt.Fprintf(log, "%v, %d kills, %d calls of MAAS\n", outcomes, g.kills, l.Region.CallsOf(""))
	return bad, nil
}

// busy names the first machine that is not free; empty: all are.
func (l *Lab) busy() string {
	for _, id := range l.Systems {
		s := l.Region.State(id)
		if s.Status != maastest.Ready || s.Owner != "" || s.Locked || s.On {
			return fmt.Sprintf("%s is %v (%s), owner %q, locked %v, on %v", s.Hostname, s.Status, s.StatusMessage, s.Owner, s.Locked, s.On)
		}
	}
	return ""
}

// checkRun asks for a run and its submission, byte for byte.
func (l *Lab) checkRun(ctx context.Context, r cert.Reservation, violate func(string, ...any)) {
	var run cert.Run
	if err := l.Persist(ctx, http.MethodGet, "/api/v1/runs/"+r.Run, nil, &run); err != nil {
		violate("run %s of reservation %s, which was ready: %v", r.Run, r.ID, err)
		return
	}
	switch {
	case !run.State.Final():
		violate("run %s is still %s", run.ID, run.State)
	case run.State == cert.Cancelled && len(run.Files) == 0:
	case run.Submission == "":
		violate("run %s is %s without a submission: %+v", run.ID, run.State, run.Failure)
	default:
		file := run.Files[slices.IndexFunc(run.Files, func(f cert.File) bool { return f.Kind == cert.KindSubmission })]
		want := sha256.Sum256(l.rack.script("", order.Order{Run: run.ID, Spec: order.Spec(run.Spec)}).archive(order.Order{Run: run.ID, Spec: order.Spec(run.Spec)}))
		if file.SHA256 != hex.EncodeToString(want[:]) {
			violate("run %s has another submission than its machine sent", run.ID)
		}
	}
}

// checkLogs holds each machine's log to what the region has seen: each time that it was acquired and released is in it, in that order.
func (l *Lab) checkLogs(ctx context.Context, violate func(string, ...any)) {
	for _, id := range l.Systems {
		var list struct {
			Events []cert.MachineEvent `json:"events"`
		}
		if err := l.Persist(ctx, http.MethodGet, "/api/v1/machines/"+id+"/events?limit=1000", nil, &list); err != nil {
			violate("the log of machine %s: %v", id, err)
			continue
		}
		slices.Reverse(list.Events)
		open, taken, kinds := "", 0, []string{}
		for _, e := range list.Events {
			kinds = append(kinds, e.Kind)
			if e.Text == "" || e.Who == "" {
				violate("the log of machine %s has an entry without who or what: %+v", id, e)
			}
			switch e.Kind {
			case "acquired":
				if open != "" {
					violate("machine %s was acquired for %s while %s had it", id, e.Deployment, open)
				}
				open = e.Deployment
				taken++
			case "released":
				open = ""
			}
		}
		if open != "" {
			violate("the log of machine %s ends without its return: %v", id, kinds)
		}
		if got := l.acquired(id); got != taken {
			violate("machine %s was acquired %d times, its log says %d: %v", id, got, taken, kinds)
		}
	}
}

// acquired is how often the region gave a machine to somebody.
func (l *Lab) acquired(id string) (n int) {
	for _, e := range l.Region.Log() {
		if e.SystemID == id && e.OwnerBefore == "" && e.OwnerAfter != "" {
			n++
		}
	}
	return n
}

// Describe is what is known of a machine, for who has to find out why it is as it is.
func (l *Lab) Describe(ctx context.Context, id string) string {
	var detail json.RawMessage
	if err := l.Persist(ctx, http.MethodGet, "/api/v1/machines/"+id, nil, &detail); err != nil {
		return err.Error()
	}
	return string(detail)
}
