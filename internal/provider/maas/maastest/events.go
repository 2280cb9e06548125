package maastest

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// event is something that MAAS has noted of a machine.
type event struct {
	ID          int64
	Node        string
	Hostname    string
	Level       int
	At          time.Time
	Type        string
	Description string
	User        string
}

// Levels are Python's; AUDIT is below all.
const (
	levelAudit   = 0
	levelDebug   = 10
	levelInfo    = 20
	levelWarning = 30
	levelError   = 40
)

func levelName(level int) string {
	switch level {
	case levelDebug:
		return "DEBUG"
	case levelInfo:
		return "INFO"
	case levelWarning:
		return "WARNING"
	case levelError:
		return "ERROR"
	case levelAudit:
		return "AUDIT"
	}
	return "CRITICAL"
}

func levelOf(name string) (int, bool) {
	for _, l := range []int{levelAudit, levelDebug, levelInfo, levelWarning, levelError, 50} {
		if levelName(l) == name {
			return l, true
		}
	}
	return 0, false
}

// eventType is what MAAS calls an event, and how important it is.
type eventType struct {
	Type  string
	Level int
}

func info(t string) eventType    { return eventType{t, levelInfo} }
func debug(t string) eventType   { return eventType{t, levelDebug} }
func warning(t string) eventType { return eventType{t, levelWarning} }
func failure(t string) eventType { return eventType{t, levelError} }

// maxEvents bounds what a region keeps: the oldest go first.
const maxEvents = 200_000

// note adds an event. The last one that is not a detail is the machine's status_message.
func (r *Region) note(n *node, t eventType, user, description string) {
	r.state.EventID++
	if len(r.state.Events) >= maxEvents {
		r.state.Events = slices.Delete(r.state.Events, 0, maxEvents/2)
	}
	r.state.Events = append(r.state.Events, event{
		ID: r.state.EventID, Node: n.SystemID, Hostname: n.Hostname, Level: t.Level, At: r.clock.Now(), Type: t.Type, Description: description, User: user,
	})
	if t.Level < levelInfo {
		return
	}
	n.StatusMessage, n.StatusAction = t.Type, ""
	if description != "" {
		n.StatusMessage += " - " + description
	}
	if t.Level >= levelWarning {
		n.StatusAction = t.Type
	}
}

// requested notes that a user asked for something: "User acquiring node - (admin) - why".
func (c *call) requested(n *node, what string) {
	description := "(" + c.user.Name + ")"
	if comment := c.form.Get("comment"); comment != "" {
		description += " - " + comment
	}
	c.note(n, debug(what), c.user.Name, description)
}

type eventDoc struct {
	Username    string `json:"username"`
	Node        string `json:"node"`
	Hostname    string `json:"hostname"`
	ID          int64  `json:"id"`
	Level       string `json:"level"`
	Created     string `json:"created"`
	Type        string `json:"type"`
	Description string `json:"description"`
}

type eventsDoc struct {
	Count   int        `json:"count"`
	Events  []eventDoc `json:"events"`
	NextURI string     `json:"next_uri"`
	PrevURI *string    `json:"prev_uri"`
}

func number(c *call, name string, otherwise int64) (int64, *reply) {
	if !c.has(name) {
		return otherwise, nil
	}
	v, err := strconv.ParseInt(c.get(name), 10, 64)
	if err != nil {
		a := text(400, "Invalid %s: Please enter an integer value", name)
		return 0, &a
	}
	return v, nil
}

// events answers a query, newest first. next_uri asks for what is newer than the answer, prev_uri for what is older.
func (c *call) events() reply {
	limit, bad := number(c, "limit", 100)
	after, bad2 := number(c, "after", -1)
	before, bad3 := number(c, "before", -1)
	for _, b := range []*reply{bad, bad2, bad3} {
		if b != nil {
			return *b
		}
	}
	if limit > 1000 {
		return text(400, "Requested number of events %d is greater than limit: 1000", limit)
	}
	limit = max(limit, 1)
	level := levelInfo
	if name := c.get("level"); name != "" {
		var ok bool
		if level, ok = levelOf(name); !ok {
			return text(400, "Unrecognised log level: %s", name)
		}
	}
	if after >= 0 && before >= 0 {
		return text(400, "There is undetermined behaviour when both `after` and `before` are specified.")
	}
	nodes, refusal := c.eventNodes()
	if refusal != nil {
		return *refusal
	}
	wanted := func(e *event) bool {
		return nodes[e.Node] && e.Level >= level && (level != levelAudit || e.Level == levelAudit) && (!c.has("owner") || e.User == c.get("owner"))
	}
	var found []*event
	if after >= 0 { // the oldest of those that are newer
		for i := range c.state.Events {
			if e := &c.state.Events[i]; e.ID > after && wanted(e) {
				if found = append(found, e); int64(len(found)) == limit {
					break
				}
			}
		}
		slices.Reverse(found)
	} else {
		for i := len(c.state.Events) - 1; i >= 0 && int64(len(found)) < limit; i-- {
			if e := &c.state.Events[i]; (before < 0 || e.ID < before) && wanted(e) {
				found = append(found, e)
			}
		}
	}
	d := eventsDoc{Count: len(found), Events: []eventDoc{}}
	for _, e := range found {
		d.Events = append(d.Events, eventDoc{
			Username: e.User, Node: e.Node, Hostname: e.Hostname, ID: e.ID, Level: levelName(e.Level), Type: e.Type, Description: e.Description,
			Created: e.At.UTC().Format("Mon, 02 Jan. 2006 15:04:05"),
		})
	}
	switch {
	case len(found) > 0:
		older := c.eventsURI("before", found[len(found)-1].ID)
		d.NextURI, d.PrevURI = c.eventsURI("after", found[0].ID), &older
	case before >= 0:
		d.NextURI = c.eventsURI("after", before-1)
	default:
		d.NextURI = c.eventsURI("after", after)
		if after >= 0 {
			older := c.eventsURI("before", after+1)
			d.PrevURI = &older
		}
	}
	return asJSON(d)
}

// eventsURI is the request's own address with another cursor.
func (c *call) eventsURI(cursor string, id int64) string {
	var b strings.Builder
	b.WriteString(apiRoot + "events/?op=query")
	for _, pair := range strings.Split(c.req.URL.RawQuery, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if name == "" || name == "op" || name == "after" || name == "before" {
			continue
		}
		b.WriteString("&" + pair)
	}
	if id >= 0 {
		fmt.Fprintf(&b, "&%s=%s", cursor, url.QueryEscape(strconv.FormatInt(id, 10)))
	}
	return b.String()
}

// eventNodes are the machines whose events are asked for.
func (c *call) eventNodes() (map[string]bool, *reply) {
	form := url.Values{}
	for _, name := range []string{"hostname", "mac_address", "id", "zone", "agent_name"} {
		if c.has(name) {
			form[name] = c.form[name]
		}
	}
	nodes, refusal := c.filter(c.visible(), form, false)
	if refusal != nil {
		return nil, refusal
	}
	ids := map[string]bool{}
	for _, n := range nodes {
		ids[n.SystemID] = true
	}
	return ids, nil
}
