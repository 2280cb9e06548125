package provision

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// Bounds of a reservation.
const (
	defaultHours = 8.0
	maxReason    = 1000
	maxKeys      = 50
	maxPriority  = 100
	maxPrepare   = 20
)

// Reserve asks for a machine. With an id of the caller's choosing it can be repeated.
func (f *Fleet) Reserve(ctx context.Context, in cert.NewReservation, by string, role cert.Role) (cert.Reservation, error) {
	kind := cert.ReserveManual
	if in.Spec != nil {
		kind = cert.ReserveRun
	}
	return f.reserve(ctx, in, kind, by, role)
}

// Check asks for a machine for the lab itself, to run a plan that a sound machine passes.
func (f *Fleet) Check(ctx context.Context, c cert.CheckRequest) (cert.Reservation, error) {
	in := cert.NewReservation{ID: c.ID, Reason: c.Reason, Priority: -maxPriority, Spec: &cert.Spec{Plan: cert.CheckPlan, Title: c.Reason},
		Want: cert.Want{Query: c.Machine, Release: c.Release, MaxTries: 1, Quarantined: c.Quarantined}}
	if _, err := f.DB.Reservation(ctx, c.ID); cert.CodeOf(err) == cert.NotFound {
		p, err := f.look(ctx)
		if err != nil {
			return cert.Reservation{}, err
		}
		n := slices.IndexFunc(p.machines, func(m cert.FleetMachine) bool { return m.ID == c.Machine })
		if n < 0 {
			return cert.Reservation{}, cert.Errorf(cert.NotFound, "cannot check machine %q: there is none", c.Machine)
		}
		m := &p.machines[n]
		if !usable(m) || p.deploying[m.ID] != nil || (m.State == cert.MachineQuarantined) != c.Quarantined {
			return cert.Reservation{}, cert.Errorf(cert.Conflict, "cannot check %s now: it is %s", m.Hostname, m.State)
		}
	}
	return f.reserve(ctx, in, cert.ReserveCheck, "certlab", cert.Admin)
}

func (f *Fleet) reserve(ctx context.Context, in cert.NewReservation, kind cert.ReservationKind, by string, role cert.Role) (out cert.Reservation, err error) {
	now := f.Now()
	if in.ID == "" {
		in.ID = cert.NewID(cert.ReservationID, now)
	} else if !cert.ValidID(cert.ReservationID, in.ID) {
		return out, cert.Errorf(cert.Invalid, "cannot use reservation id %q: it must be a v and 26 lower-case letters or digits (or leave it out)", in.ID)
	}
	in.Want.Resolved, in.Want.Query = nil, strings.TrimSpace(in.Want.Query)
	r := cert.Reservation{ID: in.ID, Kind: kind, State: cert.ReservationQueued, Holder: by, Reason: in.Reason, Priority: in.Priority, Want: in.Want, Created: now, Spec: in.Spec}
	if have, err := f.DB.Reservation(ctx, in.ID); err == nil {
		return f.repeated(ctx, have, r)
	} else if cert.CodeOf(err) != cert.NotFound {
		return out, err
	}
	provider, err := f.need()
	if err != nil {
		return out, err
	}
	if err := f.check(&r, role); err != nil {
		return out, err
	}
	p, err := f.look(ctx)
	if err != nil {
		return out, err
	}
	if err := f.matches(ctx, provider, p, &r); err != nil {
		return out, err
	}
	if len(r.Want.Keys) > 0 {
		if f.Keys == nil {
			r.Want.Resolved = r.Want.Keys
		} else if r.Want.Resolved, err = f.Keys.Resolve(ctx, r.Want.Keys); err != nil {
			return out, err
		}
	}
	if f.Script != nil && len(r.Want.Resolved) > 0 {
		// Keys that no user-data holds are its holder's mistake: found out when it is deployed, it would count as the release's.
		trial := Script{Deployment: cert.NewID(cert.DeploymentID, now), Token: cert.NewSecret(order.EnrolPrefix), Keys: r.Want.Resolved}
		if _, err := f.Script(trial); err != nil {
			return out, cert.Errorf(cert.Invalid, "cannot reserve with these keys: %v", err)
		}
	}
	if r.Spec != nil {
		r.Run = first(in.Run, cert.NewID(cert.RunID, now))
	}
	_, _, limits := f.settings()
	var repeat *cert.Reservation
	err = f.DB.ChangeFleet(ctx, func(tx *sqlite.FleetTx) error {
		if have, err := tx.Reservation(r.ID); err == nil {
			repeat = &have
			return nil
		}
		if err := room(tx, &r, limits); err != nil {
			return err
		}
		return tx.AddReservation(r)
	})
	if err != nil {
		return out, err
	}
	if repeat != nil {
		return f.repeated(ctx, *repeat, r)
	}
	f.ring()
	f.Wake()
	return f.Reservation(ctx, r.ID)
}

// repeated answers a request whose id is known.
func (f *Fleet) repeated(ctx context.Context, have, want cert.Reservation) (cert.Reservation, error) {
	// Compared as they are stored: what is empty there, was perhaps sent.
	plain := func(r cert.Reservation) string {
		r.Want.Resolved = nil
		text, err := json.Marshal([]any{r.Kind == cert.ReserveCheck, r.Holder, r.Reason, r.Priority, r.Want, r.Spec})
		if err != nil {
			return err.Error() // it is made of texts
		}
		return string(text)
	}
	if plain(have) != plain(want) {
		return cert.Reservation{}, cert.Errorf(cert.Conflict, "cannot reserve: reservation %s is there already, and asks for something else", have.ID)
	}
	return f.Reservation(ctx, have.ID)
}

// check reports what is wrong with a request in itself.
func (f *Fleet) check(r *cert.Reservation, role cert.Role) error {
	_, conf, limits := f.settings()
	w := r.Want
	now := f.Now()
	switch {
	case r.Kind != cert.ReserveCheck && !role.May(cert.Engineer):
		return cert.Errorf(cert.Forbidden, "cannot reserve: that needs the role engineer")
	case strings.TrimSpace(r.Reason) == "" || len(r.Reason) > maxReason || strings.ContainsAny(r.Reason, "\n\r\x00"):
		return cert.Errorf(cert.Invalid, "cannot reserve: say in one line of at most %d bytes what for (reason)", maxReason)
	case r.Priority > maxPriority || r.Priority < -maxPriority:
		return cert.Errorf(cert.Invalid, "cannot reserve with priority %d: it must be between %d and %d", r.Priority, -maxPriority, maxPriority)
	case r.Priority > 0 && !role.May(cert.Admin):
		return cert.Errorf(cert.Forbidden, "cannot reserve with priority %d: only an admin may go before others", r.Priority)
	case w.Query == "":
		return cert.Errorf(cert.Invalid, "cannot reserve: name a machine, or say what it must have, such as arch=arm64,memory>=64G (query)")
	case w.Hours < 0 || w.Hours > limits.MaxHours:
		return cert.Errorf(cert.Invalid, "cannot reserve for %g hours: at most %g are allowed", w.Hours, limits.MaxHours)
	case w.Until != nil && w.Hours > 0:
		return cert.Errorf(cert.Invalid, "cannot reserve: give hours or until, not both")
	case w.Until != nil && !w.Until.After(now):
		return cert.Errorf(cert.Invalid, "cannot reserve until %s: that is past", w.Until.UTC().Format(time.RFC3339))
	case w.Until != nil && w.Until.Sub(now) > hoursOf(limits.MaxHours):
		return cert.Errorf(cert.Invalid, "cannot reserve until %s: at most %g hours are allowed", w.Until.UTC().Format(time.RFC3339), limits.MaxHours)
	case w.MaxTries < 0:
		return cert.Errorf(cert.Invalid, "cannot reserve with %d tries", w.MaxTries)
	case w.KeepOnFailureHours < 0 || w.KeepOnFailureHours > limits.MaxHours:
		return cert.Errorf(cert.Invalid, "cannot keep a failed machine for %g hours: at most %g are allowed", w.KeepOnFailureHours, limits.MaxHours)
	case len(w.Keys) > maxKeys:
		return cert.Errorf(cert.Invalid, "cannot reserve with %d keys: at most %d are allowed", len(w.Keys), maxKeys)
	case len(w.Prepare) > maxPrepare:
		return cert.Errorf(cert.Invalid, "cannot reserve with %d steps to prepare: at most %d are allowed", len(w.Prepare), maxPrepare)
	}
	if r.Spec != nil {
		if err := r.Spec.Validate(); err != nil {
			return err
		}
	}
	if len(w.Prepare) > 0 {
		site, err := loadSite(conf.Site)
		if err != nil {
			return err
		}
		if err := site.has(w.Prepare); err != nil {
			return err
		}
	}
	r.Until = w.Until
	return nil
}

// matches reports why a request can never be met.
func (f *Fleet) matches(ctx context.Context, provider cert.Provider, p *picture, r *cert.Reservation) error {
	q, err := cert.ParseQuery(r.Want.Query)
	if err != nil {
		return err
	}
	q = q.AnyState()
	_, conf, limits := f.settings()
	if len(p.machines) == 0 {
		f.mu.Lock()
		problem := f.problem
		f.mu.Unlock()
		return cert.Errorf(cert.Unavailable, "cannot reserve: no machine of the provider is known yet (%s)", first(problem, "it is being asked; try again in a minute"))
	}
	candidates := f.candidates(p, r, q)
	if len(candidates) == 0 {
		return f.noMatch(p, r, q)
	}
	if twice := ambiguous(q, candidates); twice != "" {
		return cert.Errorf(cert.Conflict, "cannot reserve %s: %s", q.Name(), twice)
	}
	if len(conf.Limits.Release) > 0 && r.Want.Release == "" {
		limits.Release = conf.Limits.Release
	}
	if r.Want.Ephemeral {
		f.mu.Lock()
		about := f.about
		f.mu.Unlock()
		if about != nil && !slices.Contains(about.Supported, "ephemeral-deploy") {
			return cert.Errorf(cert.Conflict, "cannot deploy in memory: %s %s cannot do that (leave ephemeral out)", about.Kind, about.Version)
		}
	}
	return f.hasImage(ctx, provider, candidates, first(r.Want.Release, limits.Release), r.Want.Kernel)
}

// ambiguous says that a name stands for several machines; empty: it does not. MAAS has a hostname once in each domain.
func ambiguous(q cert.Query, candidates []*cert.FleetMachine) string {
	if q.Name() == "" || len(candidates) < 2 {
		return ""
	}
	ids := make([]string, len(candidates))
	for n, m := range candidates {
		ids[n] = m.ID
	}
	return fmt.Sprintf("several machines are called that: name one by its id (%s)", strings.Join(ids, ", "))
}

// noMatch says why there is no machine for a request.
func (f *Fleet) noMatch(p *picture, r *cert.Reservation, q cert.Query) error {
	var matching []string
	for n := range p.machines {
		m := &p.machines[n]
		if q.Match(m) != "" {
			continue
		}
		why := ""
		switch {
		case m.Unit != "":
			why = "bears the unit " + m.Unit + " (start runs on it instead)"
		case m.Provider == "":
			why = "does not come from the provider"
		case m.State == cert.MachineQuarantined:
			why = "is quarantined: " + m.Why
		case m.State == cert.MachineRetired:
			why = "is retired: " + m.Why
		default:
			why = "is in pool " + m.Pool + ", from which this lab takes none"
		}
		matching = append(matching, m.Hostname+" "+why)
	}
	if len(matching) == 0 {
		return cert.Errorf(cert.Conflict, "cannot reserve: %s", q.Explain(p.machines).Text)
	}
	rest := ""
	if len(matching) > 5 {
		rest = fmt.Sprintf(", and %d more", len(matching)-5)
		matching = matching[:5]
	}
	return cert.Errorf(cert.Conflict, "cannot reserve: no machine that matches %s can be had: %s%s", r.Want.Query, strings.Join(matching, "; "), rest)
}

// room reports whether a person may have one more, and whether the queue may grow.
func room(tx *sqlite.FleetTx, r *cert.Reservation, limits order.FleetLimits) error {
	if r.Kind == cert.ReserveCheck {
		return nil
	}
	open, err := tx.OpenReservations()
	if err != nil {
		return err
	}
	queued := 0
	for _, o := range open {
		if o.State == cert.ReservationQueued {
			queued++
		}
	}
	if r.Kind == cert.ReserveManual {
		if err := more(tx, r.Holder, limits); err != nil {
			return err
		}
	}
	if queued >= limits.MaxQueue {
		return cert.Errorf(cert.TooMany, "cannot reserve: %d reservations wait already, and that is as many as may (try again later)", queued)
	}
	return nil
}

// more reports whether a person may have one more machine.
func more(tx *sqlite.FleetTx, holder string, limits order.FleetLimits) error {
	open, err := tx.OpenReservations()
	if err != nil {
		return err
	}
	mine := 0
	for _, o := range open {
		if o.Kind == cert.ReserveManual && o.Holder == holder && o.State != cert.ReservationReleasing {
			mine++
		}
	}
	if mine >= limits.MaxPerPerson {
		return cert.Errorf(cert.Conflict, "cannot reserve: %s has or waits for %d machines, and that is as many as one person may have (release one)", holder, mine)
	}
	return nil
}

// releases returns what can be deployed on an architecture, as read a while ago at most.
func (f *Fleet) releases(ctx context.Context, provider cert.Provider, architecture string) ([]cert.Image, error) {
	f.mu.Lock()
	known, ok := f.images[architecture]
	f.mu.Unlock()
	if ok && f.Now().Sub(known.read) < imagesFor {
		return known.images, nil
	}
	images, err := provider.Releases(ctx, architecture)
	if err != nil {
		f.lost(err, false)
		if ok {
			return known.images, nil
		}
		return nil, err
	}
	f.mu.Lock()
	f.images[architecture] = imageList{images, f.Now()}
	f.mu.Unlock()
	return images, nil
}

// pick returns the image of a release, the default one if release is empty; or what is missing.
func pick(images []cert.Image, release, kernel string) (image cert.Image, missing string) {
	for _, i := range images {
		if release != "" && i.Release != release || release == "" && !i.Default {
			continue
		}
		if kernel != "" && !slices.Contains(i.Kernels, kernel) {
			return i, "kernel"
		}
		return i, ""
	}
	if release == "" && len(images) > 0 { // which one is the default is not known: a kernel that none has is missing all the same
		if kernel != "" && !slices.ContainsFunc(images, func(i cert.Image) bool { return slices.Contains(i.Kernels, kernel) }) {
			return images[0], "kernel"
		}
		return images[0], ""
	}
	return image, "release"
}

// hasImage reports whether one of the machines can be deployed with what is asked for.
func (f *Fleet) hasImage(ctx context.Context, provider cert.Provider, machines []*cert.FleetMachine, release, kernel string) error {
	var wrong error
	seen := map[string]bool{}
	for _, m := range machines {
		if seen[m.Architecture] {
			continue
		}
		seen[m.Architecture] = true
		images, err := f.releases(ctx, provider, m.Architecture)
		if err != nil {
			return nil // it is found out when it is deployed
		}
		image, missing := pick(images, release, kernel)
		switch missing {
		case "":
			return nil
		case "kernel":
			wrong = cert.Errorf(cert.Conflict, "cannot deploy %s with kernel %s on %s: the provider has no such kernel (import it, or choose one of: %s)", image.Release, kernel,
				m.Architecture, strings.Join(image.Kernels, ", "))
		default:
			var names []string
			for _, i := range images {
				names = append(names, i.Release)
			}
			wrong = cert.Errorf(cert.Conflict, "cannot deploy %s on %s: the provider has no image of it (import it, or choose one of: %s)", first(release, "the default release"),
				m.Architecture, first(strings.Join(names, ", "), "none"))
		}
	}
	return wrong
}

// Reservation returns a reservation by its id, or the one that has a machine, by the machine's name.
func (f *Fleet) Reservation(ctx context.Context, id string) (cert.Reservation, error) {
	r, err := f.DB.Reservation(ctx, id)
	if cert.CodeOf(err) == cert.NotFound {
		m, other := f.DB.Machine(ctx, id)
		if cert.CodeOf(other) == cert.NotFound {
			return r, cert.Errorf(cert.NotFound, "there is no reservation and no machine %q", id)
		}
		if other != nil {
			return r, other
		}
		open, other := f.DB.OpenReservations(ctx)
		if other != nil {
			return r, other
		}
		n := slices.IndexFunc(open, func(o cert.Reservation) bool { return o.Machine == m.ID && o.State != cert.ReservationQueued })
		if n < 0 {
			return r, cert.Errorf(cert.NotFound, "machine %s has no reservation", m.Hostname)
		}
		r, err = open[n], nil
	}
	if err != nil {
		return r, err
	}
	if r.Diagnosis, err = f.diagnosis(ctx, &r); err != nil {
		return r, err
	}
	if r.Final() {
		return r, nil
	}
	p, err := f.look(ctx)
	if err != nil {
		return r, err
	}
	f.decorate(&r, p)
	return r, nil
}

// diagnosis is what was seen of the last of a reservation's deployments that failed.
func (f *Fleet) diagnosis(ctx context.Context, r *cert.Reservation) (string, error) {
	if r.Failure == nil || r.Deployment == "" {
		return "", nil
	}
	all, err := f.DB.Deployments(ctx, sqlite.DeploymentFilter{Reservation: r.ID}, shownDeployments)
	for _, d := range all {
		if d.Failure != nil {
			return d.Diagnosis, err
		}
	}
	return "", err
}

// Await returns the reservation once it has left the states queued and preparing, or as it is after wait.
func (f *Fleet) Await(ctx context.Context, id string, wait time.Duration) (cert.Reservation, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	first, err := f.Reservation(ctx, id)
	if err != nil {
		return first, err
	}
	for {
		bell := f.bells()
		r, err := f.DB.Reservation(ctx, first.ID)
		if err != nil {
			return r, err
		}
		if r.State != cert.ReservationQueued && r.State != cert.ReservationPreparing {
			return f.Reservation(ctx, r.ID)
		}
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-timer.C:
			return f.Reservation(ctx, r.ID)
		case <-bell:
		}
		// Many wait, and of what changes little is about each.
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-time.After(awaitEvery):
		}
	}
}

// awaitEvery bounds how often who waits for a reservation looks at it.
const awaitEvery = 100 * time.Millisecond
