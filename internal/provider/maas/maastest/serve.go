package maastest

import (
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// APIHash is what 3.4.1 sends as X-Maas-Api-Hash: the hash of its API's description.
const APIHash = "76f6c7cab9b26c2bf5ec9eb2ad7cae3d3c41d7d6"

const apiRoot = "/MAAS/api/2.0/"

// maxBody bounds a request's body; MAAS's own limit is above what anybody sends.
const maxBody = 64 << 20

// call is one request being answered, under the region's lock.
type call struct {
	*Region
	req   *http.Request
	route *route
	user  *user
	key   *key
	vars  map[string]string
	form  url.Values // a GET's or DELETE's query, or the body's form
	node  *node      // of a machine's route
	after []func()   // what MAAS does once it has answered: its post-commit hooks
}

// get returns a parameter's first value. Only what the route declares may be read.
func (c *call) get(name string) string {
	c.declared(name)
	return c.form.Get(name)
}

func (c *call) all(name string) []string {
	c.declared(name)
	return c.form[name]
}

func (c *call) has(name string) bool {
	c.declared(name)
	return c.form.Has(name)
}

func (c *call) declared(name string) {
	if !c.route.reads(name) {
		c.undeclared[c.route.op()+" "+name] = true
	}
}

// yes reads a boolean as MAAS does; anything that it does not know is no.
func (c *call) yes(name string) bool {
	switch strings.ToLower(c.get(name)) {
	case "true", "t", "yes", "y", "on", "1":
		return true
	}
	return false
}

// unlocked lets others in while f runs: it takes time, or calls out.
func (c *call) unlocked(f func()) {
	c.mu.Unlock()
	defer c.mu.Lock()
	f()
}

// ServeHTTP answers a request for the region: its API and what a deployed machine asks.
func (r *Region) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(io.LimitReader(req.Body, maxBody))
	if err != nil {
		return
	}
	if strings.HasPrefix(req.URL.Path, "/MAAS/metadata/") {
		r.serveMetadata(w, req, body)
		return
	}
	send := func(a reply) {
		for k, v := range a.header {
			w.Header()[k] = v
		}
		w.Header().Set("Content-Type", a.contentType)
		w.Header().Set("X-Maas-Api-Hash", APIHash)
		w.Header().Set("Date", r.clockNow().UTC().Format(http.TimeFormat))
		w.WriteHeader(a.status)
		_, _ = w.Write(a.body)
	}
	if away, cut := r.away(); away != nil {
		if cut {
			panic(http.ErrAbortHandler)
		}
		send(*away)
		return
	}
	path, op := operation(req)
	routes, vars := r.match(path)
	if routes == nil {
		send(text(http.StatusNotFound, "Unknown API endpoint: %s.", req.URL.Path))
		return
	}
	form, err := formOf(req, body)
	if err != nil {
		send(text(http.StatusBadRequest, "cannot read the form: %v", err))
		return
	}

	c := &call{Region: r, req: req, vars: vars, form: form}
	r.mu.Lock()
	c.route = pick(routes, req.Method, op)
	if refusal := c.admit(routes, op); refusal != nil {
		r.mu.Unlock()
		send(*refusal)
		return
	}
	r.calls[Call{c.userName(), c.route.op()}]++
	before, after := r.requestFaults(c)
	r.mu.Unlock()

	if before.delay > 0 {
		r.sleep(req, before.delay)
	}
	if before.cut {
		panic(http.ErrAbortHandler)
	}
	if before.answer != nil {
		send(*before.answer)
		return
	}
	r.mu.Lock()
	answer := c.run(after.cut || after.answer != nil)
	r.mu.Unlock()
	if req.Method != http.MethodGet || c.route.Op != "" {
		r.tell()
	}
	if after.delay > 0 {
		r.sleep(req, after.delay)
	}
	if after.cut {
		panic(http.ErrAbortHandler)
	}
	if after.answer != nil {
		answer = *after.answer
	}
	if after.truncate {
		answer.body = answer.body[:len(answer.body)/2]
	}
	send(answer)
}

func (c *call) userName() string {
	if c.user == nil {
		return ""
	}
	return c.user.Name
}

// admit finds out who asks and whether they may ask this at all.
func (c *call) admit(routes []*route, op string) *reply {
	header := c.req.Header.Get("Authorization")
	anonymous := c.route != nil && c.route.Perm == nobody
	if header == "" && !anonymous {
		// A collection that somebody without a key may ask something answers that this is not it.
		if c.route == nil || c.route.Path == "machines/" {
			a := unrecognised(c.req.Method, op)
			return &a
		}
		return refused("Invalid API key.")
	}
	// Who asks for the version is never looked at: not even a bad key is refused.
	if header != "" && !(anonymous && c.route.Path == "version/") {
		var refusal *reply
		if c.user, c.key, refusal = c.authenticate(header); refusal != nil {
			return refusal
		}
	}
	if c.route == nil {
		a := unrecognised(c.req.Method, op)
		if op == "" && c.req.Method != http.MethodGet && c.req.Method != http.MethodPost {
			a = text(http.StatusMethodNotAllowed, "")
		}
		return &a
	}
	return nil
}

// run answers the request. Entries of the log say lost if nobody will hear the answer.
func (c *call) run(lost bool) reply {
	if id, ok := c.vars["system_id"]; ok {
		if c.node = c.nodes[id]; c.node == nil {
			return missing(c.route.Model)
		}
	}
	if c.route.Perm != nobody && !c.route.Perm.may(c.user, c.node) {
		return forbidden()
	}
	entry := Entry{User: c.userName(), Op: c.route.op(), Comment: c.form.Get("comment"), Lost: lost}
	if c.key != nil {
		entry.Token = c.key.Token
	}
	n := c.node
	if n != nil {
		entry.SystemID, entry.Before, entry.OwnerBefore = n.SystemID, n.Status, n.Owner
	}
	violation := c.violation()
	changes := c.req.Method != http.MethodGet
	if changes && n != nil {
		n.revision++
	}
	answer := c.route.do(c)
	if n == nil && c.node != nil { // the operation chose one: allocate
		n = c.node
		n.revision++
		entry.SystemID, entry.Before, entry.OwnerBefore = n.SystemID, Ready, ""
	}
	for _, f := range c.after {
		f()
	}
	if !changes {
		return answer
	}
	if n != nil {
		n.revision++
		entry.After, entry.OwnerAfter = n.Status, n.Owner
		if violation != "" && answer.status < 300 {
			n.Violations = append(n.Violations, violation)
		}
	}
	entry.HTTP = answer.status
	c.record(entry)
	return answer
}

// violation describes what this operation is if it succeeds: something done to a machine that somebody else holds. An administrator may, and a
// user with two keys too: it is for tests to say that nobody did.
func (c *call) violation() string {
	n := c.node
	if n == nil || c.key == nil || n.Token == "" || c.req.Method == http.MethodGet {
		return ""
	}
	if agent := c.form.Get("agent_name"); agent != "" && n.AgentName != "" && agent != n.AgentName {
		return n.SystemID + ": " + c.route.op() + " as agent " + agent + ", though agent " + n.AgentName + " holds it"
	}
	if n.Token == c.key.Token {
		return ""
	}
	switch c.route.Name {
	case "deploy", "release", "abort", "power_on", "power_off", "mark_broken", "test", "lock", "unlock", "rescue_mode":
		return n.SystemID + ": " + c.route.op() + " by " + c.user.Name + " with another key than that of " + n.Owner + ", who holds it"
	}
	return ""
}

// sleep waits on the region's clock, or until the client has gone.
func (r *Region) sleep(req *http.Request, d time.Duration) {
	done := make(chan struct{})
	stop := r.clock.AfterFunc(d, func() { close(done) })
	select {
	case <-done:
	case <-req.Context().Done():
		stop()
	}
}

func unrecognised(method, op string) reply {
	if op == "" {
		op = "None"
	}
	return text(http.StatusBadRequest, "Unrecognised signature: method=%s op=%s", method, op)
}

// operation splits a request's path below the API's root from the operation it asks for: ?op=X, or a path that ends in /op-X.
func operation(req *http.Request) (path, op string) {
	path, ok := strings.CutPrefix(req.URL.Path, apiRoot)
	if !ok {
		return "?", ""
	}
	op = req.URL.Query().Get("op")
	if i := strings.LastIndex(path, "/op-"); i >= 0 && !strings.HasSuffix(path, "/") {
		return path[:i+1], path[i+len("/op-"):]
	}
	return path, op
}

// formOf returns a GET's and DELETE's query, else the body's form: urlencoded or multipart. Files are values like others.
func formOf(req *http.Request, body []byte) (url.Values, error) {
	if req.Method == http.MethodGet || req.Method == http.MethodDelete {
		q := req.URL.Query()
		q.Del("op")
		return q, nil
	}
	kind, params, _ := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if kind != "multipart/form-data" {
		return url.ParseQuery(string(body))
	}
	form := url.Values{}
	reader := multipart.NewReader(strings.NewReader(string(body)), params["boundary"])
	for {
		part, err := reader.NextPart()
		if err == io.EOF {
			return form, nil
		}
		if err != nil {
			return nil, err
		}
		value, err := io.ReadAll(part)
		if err != nil {
			return nil, err
		}
		form.Add(part.FormName(), string(value))
	}
}
