package fleet

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
)

// Of the kernels that campaigns here are about.
const (
	releasedKernel = "6.8.0-50.51"
	proposedKernel = "6.8.0-51.52"
	campaignPlan   = "com.example::sru"
)

// Kernel is the subject of a campaign here.
func Kernel(version, pocket string) cert.Subject {
	return cert.Subject{Kind: cert.SubjectKernel, Series: "noble", Source: "linux", Flavour: "generic", Version: version, Pocket: pocket}
}

// Kernels is a script by which machines run a plan on the kernel that they are told. Of the machines whose position in the lab is n: with
// n%5 == 1 a blocker fails on the proposed kernel alone, with n%5 == 2 one fails on each kernel, with n%5 == 3 the proposed kernel cannot be installed the
// first time, and with n%5 == 4 it does not boot.
func Kernels(position func(systemID string) int) Script {
	tried := map[string]bool{} // the rack calls one at a time
	return func(systemID string, o order.Order) Work {
		n := position(systemID) % 5
		proposed := o.Subject != nil && o.Subject.Version == proposedKernel
		w := Work{Results: []Result{
			{ID: "com.example::boot", Name: "Boot", Outcome: "pass", Status: "blocker", Plugin: "shell", Log: "up\n", Seconds: 1},
			{ID: "com.example::suspend", Name: "Suspend", Outcome: "pass", Status: "blocker", Plugin: "shell", Log: "slept\n", Seconds: 2},
			{ID: "com.example::wifi", Name: "Wireless", Outcome: "pass", Status: "non-blocker", Plugin: "shell", Log: "found\n", Seconds: 1},
		}}
		switch {
		case n == 1 && proposed:
			w.Results[1].Outcome, w.Results[1].Log = "fail", "the device did not wake up: error -110\n"
		case n == 2:
			w.Results[2].Outcome, w.Results[2].Log = "fail", "no access point\n"
		case n == 3 && proposed && !tried[systemID]:
			w.Failure, w.Step = &order.Failure{Type: order.FailWrongKernel, Message: "cannot install linux-image-6.8.0-51-generic: the archive is not there"}, order.SubjectRefused
			tried[systemID] = systemID != ""
		case n == 4 && proposed:
			w.Failure, w.Step = &order.Failure{Type: order.FailKernelBoot, Message: "the machine has booted 6.8.0-50-generic instead"}, order.SubjectFell
		}
		return w
	}
}

// Position is a machine's place among the lab's, from 0.
func (l *Lab) Position(systemID string) int { return slices.Index(l.Systems, systemID) }

// CampaignSoak runs a campaign on the released kernel and one on the proposed one over all of a lab's machines, and kills the controller at random
// moments meanwhile. It returns what was violated: what was lost, or done twice.
func (l *Lab) CampaignSoak(ctx context.Context, seed uint64, between time.Duration, log io.Writer) ([]string, error) {
	var bad []string
	violate := func(format string, args ...any) { bad = append(bad, fmt.Sprintf(format, args...)) }
	random := rand.New(rand.NewPCG(seed, 5))
	kills := 0
	killing, stop := context.WithCancel(ctx)
	over := make(chan error, 1)
	go func() {
		for {
			pause(killing, between/2+time.Duration(random.Int64N(int64(between))))
			if killing.Err() != nil {
				over <- nil
				return
			}
			if err := l.Kill(ctx); err != nil {
				over <- err
				return
			}
			kills++
		}
	}()
	err := l.Listed(ctx)
	var base cert.CampaignView
	if err == nil {
		base, err = l.campaign(ctx, cert.NewCampaign{Name: "released", Kind: cert.KindAdhoc, Subject: Kernel(releasedKernel, "updates")})
	}
	var sru cert.CampaignView
	if err == nil {
		sru, err = l.campaign(ctx, cert.NewCampaign{Name: "proposed", Kind: cert.KindSRU, Subject: Kernel(proposedKernel, "proposed"), Baseline: base.Campaign.ID})
	}
	stop()
	if killed := <-over; killed != nil {
		return nil, fmt.Errorf("cannot start the controller again after %d kills: %w", kills, killed)
	}
	if err != nil {
		return nil, err
	}
	if sru.Campaign.State != cert.CampaignDeciding || sru.Verdict != nil {
		violate("a campaign with a regression and a kernel that does not boot is %s: %+v", sru.Campaign.State, sru.Verdict)
	}
	runs := map[string]int{} // that the machines have taken
	l.rack.mu.Lock()
	for _, n := range l.rack.nodes {
		for _, o := range n.ran {
			runs[o.Run]++
		}
	}
	l.rack.mu.Unlock()
	for _, c := range []cert.CampaignView{base, sru} {
		l.checkCampaign(ctx, c, runs, violate)
	}
	for _, run := range l.rack.lost() {
		violate("the machine of run %s was wiped before its submission was acknowledged", run)
	}
	for _, v := range l.Region.Violations() {
		violate("held twice: %s", v)
	}
	for run := range runs {
		violate("run %s is no campaign's", run)
	}
	bad = append(bad, l.decideOnce(ctx, sru)...)
	fmt.Fprintf(log, "%d targets, %d kills: %v, %v\n", len(sru.Machines)+sru.MoreMachines, kills, sru.Coverage, sru.Counts)
	return bad, nil
}

// Listed waits until the controller knows all of the lab's machines.
func (l *Lab) Listed(ctx context.Context) error {
	for {
		var list cert.MachineList
		if err := l.Persist(ctx, http.MethodGet, "/api/v1/machines?limit=1000", nil, &list); err != nil || len(list.Machines) >= len(l.Systems) {
			return err
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// campaign starts one over all machines and waits until nothing more happens in it by itself. It is started twice, as by a person whose first
// request was not answered.
func (l *Lab) campaign(ctx context.Context, in cert.NewCampaign) (v cert.CampaignView, err error) {
	in.ID, in.Machines.Query, in.Plan, in.Reason = cert.NewID(cert.CampaignID, time.Now()), "tags=cert", campaignPlan, "soak"
	for range 2 {
		if err := l.Persist(ctx, http.MethodPost, "/api/v1/campaigns", in, nil); err != nil {
			return v, fmt.Errorf("cannot start %s: %w", in.Name, err)
		}
	}
	for last := ""; ; pause(ctx, 100*time.Millisecond) {
		v = cert.CampaignView{} // what the answer leaves out is not left from the one before
		if err := l.Persist(ctx, http.MethodGet, "/api/v1/campaigns/"+in.ID, nil, &v); err != nil {
			return v, err
		}
		if v.Campaign.State != cert.CampaignActive {
			return v, nil
		}
		last = fmt.Sprintf("%+v", v.Coverage)
		if ctx.Err() != nil {
			return v, fmt.Errorf("campaign %s is not over: %s", in.Name, last)
		}
	}
}

// checkCampaign holds a campaign's record to what its machines did. It takes the campaign's runs out of runs.
func (l *Lab) checkCampaign(ctx context.Context, v cert.CampaignView, runs map[string]int, violate func(string, ...any)) {
	name := v.Campaign.Name
	var list cert.TargetList
	if err := l.Persist(ctx, http.MethodGet, "/api/v1/campaigns/"+v.Campaign.ID+"/targets?limit=1000", nil, &list); err != nil {
		violate("%s: %v", name, err)
		return
	}
	if len(list.Targets) != len(l.Systems) {
		violate("%s has %d targets over %d machines", name, len(list.Targets), len(l.Systems))
	}
	proposed := v.Campaign.Subject.Version == proposedKernel
	for _, t := range list.Targets {
		if !t.State.Settled() {
			violate("%s: %s is %s", name, t.Hostname, t.State)
		}
		var tries []string
		for _, try := range t.Tries {
			tries = append(tries, fmt.Sprintf("%s %s", try.Purpose, try.State))
			if n := runs[try.Run]; n > 1 || n == 0 && try.State != cert.Cancelled && try.Reservation == "" {
				violate("%s: run %s of %s was taken %d times by its machine", name, try.Run, t.Hostname, n)
			}
			delete(runs, try.Run)
			if !try.State.Final() {
				violate("%s: try %d of %s is %s", name, try.Number, t.Hostname, try.State)
			}
		}
		var detail cert.MachineDetail
		if err := l.Persist(ctx, http.MethodGet, "/api/v1/machines/"+t.Machine, nil, &detail); err != nil {
			violate("%s: machine %s: %v", name, t.Hostname, err)
			continue
		}
		n := l.Position(detail.SystemID) % 5
		want := cert.TargetDone
		if proposed && n == 4 {
			want = cert.TargetBlocked
		}
		if t.State != want {
			violate("%s: %s is %s (%s), and should be %s: %s", name, t.Hostname, t.State, t.Why, want, strings.Join(tries, ", "))
		}
		if t.State == cert.TargetDone && (t.Compared == nil || !t.Compared.Proof.OK || t.Submission == "") {
			violate("%s: %s is done without proof: %+v", name, t.Hostname, t.Compared)
		}
	}
	var found cert.FindingList
	if err := l.Persist(ctx, http.MethodGet, "/api/v1/campaigns/"+v.Campaign.ID+"/findings?limit=1000", nil, &found); err != nil {
		violate("%s: %v", name, err)
		return
	}
	classes := map[string]int{}
	for _, f := range found.Findings {
		classes[f.Class+" "+f.Job]++
	}
	fifth := len(l.Systems) / 5
	wanted := map[string]int{cert.ClassNewFailure + " com.example::wifi": fifth}
	if proposed {
		wanted = map[string]int{cert.ClassRegression + " com.example::suspend": fifth, cert.ClassStillFailing + " com.example::wifi": fifth, cert.FindKernelBoot + " ": fifth}
	}
	for class, n := range wanted {
		if classes[class] != n {
			violate("%s: %d findings %q, and should be %d: %v", name, classes[class], class, n, classes)
		}
	}
}

// decideOnce has a signer reject a campaign, twice, and holds the log of decisions to its chain.
func (l *Lab) decideOnce(ctx context.Context, v cert.CampaignView) (bad []string) {
	l, err := l.As(ctx, "signer", cert.Signer)
	if err != nil {
		return []string{err.Error()}
	}
	defer l.http.CloseIdleConnections()
	reject := cert.NewDecision{Action: cert.Reject, Reason: "soak: it does not boot"}
	if err := l.Persist(ctx, http.MethodPost, "/api/v1/campaigns/"+v.Campaign.ID+"/decisions", reject, nil); err != nil {
		bad = append(bad, fmt.Sprintf("cannot reject: %v", err))
	}
	if err := l.Persist(ctx, http.MethodPost, "/api/v1/campaigns/"+v.Campaign.ID+"/decisions", reject, nil); err == nil {
		bad = append(bad, "a campaign was decided twice")
	}
	if err := l.Kill(ctx); err != nil {
		return append(bad, err.Error())
	}
	var verdict cert.Verdict
	if err := l.Persist(ctx, http.MethodGet, "/api/v1/campaigns/"+v.Campaign.ID+"/verdict", nil, &verdict); err != nil || verdict.Outcome != cert.StandRejected {
		bad = append(bad, fmt.Sprintf("its verdict is %q: %v", verdict.Outcome, err))
	}
	var log cert.DecisionList
	if err := l.Persist(ctx, http.MethodGet, "/api/v1/decisions?verify=true", nil, &log); err != nil || log.Intact == nil || !*log.Intact {
		bad = append(bad, fmt.Sprintf("the log of decisions: %v %s", err, log.Broken))
	}
	return bad
}
