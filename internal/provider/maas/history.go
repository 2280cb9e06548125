package maas

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"

	"certlab/internal/cert"
	gomaas "github.com/canonical/gomaasclient/client"
	"github.com/canonical/gomaasclient/entity"
	"github.com/canonical/gomaasclient/entity/event"
)

// events is as much of MAAS's answer about events as is used here.
type events struct {
	Events []struct {
		ID          int64  `json:"id"`
		Created     string `json:"created"`
		Level       string `json:"level"`
		Type        string `json:"type"`
		Description string `json:"description"`
	} `json:"events"`
}

// maxEvents is how many events MAAS gives at once.
const maxEvents = 1000

// Events returns what MAAS has noted of a machine, newest first; changes of status too, which MAAS notes as debugging.
func (p *Provider) Events(ctx context.Context, id string, limit int) ([]cert.ProviderEvent, error) {
	ctx, cancel := p.within(ctx, p.limits.Long)
	defer cancel()
	doing := "read MAAS's events of " + p.name(id)
	if !identifier.MatchString(id) {
		return nil, cert.ProviderErrorf(cert.ProviderInvalid, "cannot %s: that is no system id of MAAS", doing)
	}
	if limit <= 0 || limit > maxEvents {
		limit = maxEvents
	}
	var found events
	err := p.do(ctx, call{
		op: "events", doing: doing, long: true,
		into: func(r io.Reader) error { found = events{}; return decodeJSON(r, &found) },
		ask: func(api gomaas.APIClient) error {
			_, err := (&gomaas.Events{APIClient: api}).Get(&entity.EventParams{ID: id, Level: event.DEBUG, Limit: strconv.Itoa(limit)})
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	all := make([]cert.ProviderEvent, 0, len(found.Events))
	for _, e := range found.Events {
		all = append(all, cert.ProviderEvent{ID: e.ID, At: maasTime(e.Created), Level: e.Level, Type: plain(e.Type), Text: plain(e.Description)})
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].ID > all[j].ID })
	if len(all) > limit {
		all = all[:limit]
	}
	return all, nil
}

// How much Why tells.
const (
	whyEvents = 8
	whyLines  = 15
)

// Why makes a short text of what MAAS knows about a machine that did not do what it should: what it says of its status, its last
// events, and the end of the installation's log. What cannot be read is left out, and said.
func (p *Provider) Why(ctx context.Context, id string) string {
	var b strings.Builder
	machines, err := p.Look(ctx, id)
	switch {
	case err != nil:
		fmt.Fprintf(&b, "%s\n", err)
	case len(machines) == 0:
		return "MAAS has no such machine (any more)\n"
	default:
		m := machines[0]
		fmt.Fprintf(&b, "MAAS says of %s: %s%s, power %s\n", m.Hostname, m.StatusName, after(": ", m.StatusMessage), m.Power)
	}
	if events, err := p.Events(ctx, id, whyEvents); err != nil {
		fmt.Fprintf(&b, "%s\n", err)
	} else if len(events) > 0 {
		b.WriteString("events, newest first:\n")
		for _, e := range events {
			fmt.Fprintf(&b, "  %s %s%s\n", e.At.Format("15:04:05"), e.Type, after(": ", e.Text))
		}
	}
	if log, err := p.InstallLog(ctx, id); err != nil {
		fmt.Fprintf(&b, "%s\n", err)
	} else if lines := tail(log, whyLines); len(lines) > 0 {
		b.WriteString("end of the installation's log:\n")
		for _, line := range lines {
			fmt.Fprintf(&b, "  %s\n", line)
		}
	}
	return b.String()
}

// tail returns a log's last lines that say something.
func tail(log []byte, n int) []string {
	var lines []string
	for len(log) > 0 && len(lines) < n {
		log = bytes.TrimRight(log, "\r\n")
		at := bytes.LastIndexByte(log, '\n')
		line := plain(string(log[at+1:]))
		if line != "" {
			lines = append(lines, line)
		}
		log = log[:max(at, 0)]
	}
	for i, j := 0, len(lines)-1; i < j; i, j = i+1, j-1 {
		lines[i], lines[j] = lines[j], lines[i]
	}
	return lines
}
