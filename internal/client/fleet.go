package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"certlab/internal/cert"
)

// Fleet returns the lab's machines and their provider at a glance.
func (c *Client) Fleet(ctx context.Context) (out cert.FleetSummary, err error) {
	return out, c.get(ctx, "/api/v1/fleet", nil, &out)
}

// Explain says what a query finds among the lab's machines.
func (c *Client) Explain(ctx context.Context, query string) (cert.Explanation, error) {
	var page cert.MachineList
	err := c.get(ctx, "/api/v1/machines", url.Values{"query": {query}, "limit": {"1"}}, &page)
	if err != nil || page.Explanation == nil {
		return cert.Explanation{}, err
	}
	return *page.Explanation, nil
}

func machinePath(machine string, rest ...string) string {
	path := "/api/v1/machines/" + url.PathEscape(machine)
	for _, part := range rest {
		path += "/" + part
	}
	return path
}

// Quarantine keeps a machine from being handed out.
func (c *Client) Quarantine(ctx context.Context, machine, reason string) (out cert.MachineDetail, err error) {
	return out, c.call(ctx, http.MethodPost, machinePath(machine, "quarantine"), nil, cert.QuarantineMachine{Reason: reason}, &out)
}

// ReturnToService ends a machine's quarantine.
func (c *Client) ReturnToService(ctx context.Context, machine string, r cert.ReturnMachine) (out cert.MachineDetail, err error) {
	return out, c.call(ctx, http.MethodPost, machinePath(machine, "return"), nil, r, &out)
}

// Power switches a machine, or asks whether it is on.
func (c *Client) Power(ctx context.Context, machine string, p cert.PowerMachine) (out cert.PoweredMachine, err error) {
	return out, c.call(ctx, http.MethodPost, machinePath(machine, "power"), nil, p, &out)
}

// Console writes what a machine's console has shown.
func (c *Client) Console(ctx context.Context, machine string, w io.Writer) error {
	return c.copy(ctx, machinePath(machine, "console"), nil, w)
}

// copy writes an answer as it comes.
func (c *Client) copy(ctx context.Context, path string, query url.Values, w io.Writer) error {
	resp, err := c.request(ctx, http.MethodGet, path, query, nil, nil, -1)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(w, &stalling{resp.Body, c.stall})
	return err
}

// MachineEvents lists up to limit events (0: all) of a machine, or of all if it is empty, the newest first.
func (c *Client) MachineEvents(ctx context.Context, machine string, filter url.Values, limit int) (out []cert.MachineEvent, err error) {
	path := "/api/v1/events"
	if machine != "" {
		path = machinePath(machine, "events")
	}
	err = pages(filter, limit, func(q url.Values) (string, int, error) {
		var page cert.MachineEventList
		err := c.get(ctx, path, q, &page)
		out = append(out, page.Events...)
		return page.Next, len(out), err
	})
	return out, err
}

// Reservations lists up to limit reservations (0: all), the newest first.
func (c *Client) Reservations(ctx context.Context, filter url.Values, limit int) (out []cert.Reservation, err error) {
	err = pages(filter, limit, func(q url.Values) (string, int, error) {
		var page cert.ReservationList
		err := c.get(ctx, "/api/v1/reservations", q, &page)
		out = append(out, page.Reservations...)
		return page.Next, len(out), err
	})
	return out, err
}

func reservationPath(id string) string { return "/api/v1/reservations/" + url.PathEscape(id) }

// waitFor is the parameter that lets an answer wait.
func waitFor(wait time.Duration) url.Values {
	if wait <= 0 {
		return nil
	}
	return url.Values{"wait": {strconv.Itoa(int(wait / time.Second))}}
}

// Reservation returns a reservation, by its id or by the machine that it has. With wait it is answered once its machine is ready, or
// cannot be had, or after that time.
func (c *Client) Reservation(ctx context.Context, id string, wait time.Duration) (out cert.Reservation, err error) {
	return out, c.get(ctx, reservationPath(id), waitFor(wait), &out)
}

// Reserve asks for a machine.
func (c *Client) Reserve(ctx context.Context, r cert.NewReservation) (out cert.Reservation, err error) {
	return out, c.call(ctx, http.MethodPost, "/api/v1/reservations", nil, r, &out)
}

// Extend gives a reservation more time.
func (c *Client) Extend(ctx context.Context, id string, e cert.ExtendReservation) (out cert.Reservation, err error) {
	return out, c.call(ctx, http.MethodPost, reservationPath(id)+"/extend", nil, e, &out)
}

// Release gives a machine back.
func (c *Client) Release(ctx context.Context, id string, r cert.ReleaseReservation) (out cert.Reservation, err error) {
	return out, c.call(ctx, http.MethodPost, reservationPath(id)+"/release", nil, r, &out)
}

// CancelReservation ends the wait for a machine, or a reservation's run.
func (c *Client) CancelReservation(ctx context.Context, id string, r cert.ReleaseReservation) (out cert.Reservation, err error) {
	return out, c.call(ctx, http.MethodPost, reservationPath(id)+"/cancel", nil, r, &out)
}

// Pauses lists what takes no new work.
func (c *Client) Pauses(ctx context.Context) ([]cert.Pause, error) {
	var out cert.PauseList
	err := c.get(ctx, "/api/v1/pauses", nil, &out)
	return out.Pauses, err
}

// Pause keeps new work away from a part of the lab.
func (c *Client) Pause(ctx context.Context, p cert.NewPause) (out cert.Pause, err error) {
	return out, c.call(ctx, http.MethodPost, "/api/v1/pauses", nil, p, &out)
}

// Resume ends a pause.
func (c *Client) Resume(ctx context.Context, scope, name string) error {
	q := url.Values{"scope": {scope}}
	if name != "" {
		q.Set("name", name)
	}
	resp, err := c.request(ctx, http.MethodDelete, "/api/v1/pauses", q, nil, nil, -1)
	if err == nil {
		resp.Body.Close()
	}
	return err
}

// Incidents lists up to limit incidents (0: all), the newest first.
func (c *Client) Incidents(ctx context.Context, filter url.Values, limit int) (out []cert.Incident, err error) {
	err = pages(filter, limit, func(q url.Values) (string, int, error) {
		var page cert.IncidentList
		err := c.get(ctx, "/api/v1/incidents", q, &page)
		out = append(out, page.Incidents...)
		return page.Next, len(out), err
	})
	return out, err
}

// Notices lists up to limit notices (0: all), the newest first.
func (c *Client) Notices(ctx context.Context, limit int) (out []cert.SentNotice, err error) {
	err = pages(nil, limit, func(q url.Values) (string, int, error) {
		var page cert.NoticeList
		err := c.get(ctx, "/api/v1/notices", q, &page)
		out = append(out, page.Notices...)
		return page.Next, len(out), err
	})
	return out, err
}

// Usage says what the lab's time went into. Zero times are those that the API takes where none are given.
func (c *Client) Usage(ctx context.Context, from, to time.Time) (out cert.Usage, err error) {
	q := url.Values{}
	for name, t := range map[string]time.Time{"from": from, "to": to} {
		if !t.IsZero() {
			q.Set(name, t.UTC().Format(time.RFC3339))
		}
	}
	return out, c.get(ctx, "/api/v1/usage", q, &out)
}
