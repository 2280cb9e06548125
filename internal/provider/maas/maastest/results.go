package maastest

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kinds of script sets.
const (
	setCommissioning = 0
	setInstallation  = 1
	setTesting       = 2
)

// Statuses of results.
const (
	resultNone    = -1
	resultPending = 0
	resultRunning = 1
	resultPassed  = 2
	resultFailed  = 3
	resultTimeout = 4
	resultAborted = 5
)

func resultName(status int) string {
	names := []string{"Pending", "Running", "Passed", "Failed", "Timed out", "Aborted", "Degraded", "Installing dependencies",
		"Failed installing dependencies", "Skipped", "Applying custom network configuration", "Failed to apply custom network configuration"}
	if status < 0 || status >= len(names) {
		return "Unknown"
	}
	return names[status]
}

// scriptSet is one installation, one commissioning or one round of tests: what ran, and what became of it.
type scriptSet struct {
	ID, Type int
	Results  []*result
}

type result struct {
	ID, Script     int
	Name           string
	Status, Exit   int
	Exited         bool
	Started, Ended time.Time
	Created        time.Time
	Stdout, Stderr string
}

// status of a set is its worst result's.
func (s *scriptSet) status() int {
	for _, status := range []int{resultRunning, resultPending, resultAborted, resultFailed, resultTimeout, resultPassed} {
		if slices.ContainsFunc(s.Results, func(x *result) bool { return x.Status == status }) {
			return status
		}
	}
	return resultNone
}

// last returns the last set of a kind; nil if there is none.
func (n *node) last(kind int) *scriptSet {
	for i := len(n.Sets) - 1; i >= 0; i-- {
		if n.Sets[i].Type == kind {
			return n.Sets[i]
		}
	}
	return nil
}

// current is what the machine's document says of its last set of a kind.
func (n *node) current(kind int) (id *int, status int, name string) {
	s := n.last(kind)
	if s == nil || kind == setInstallation && n.OSystem == "" {
		return nil, resultNone, "Unknown"
	}
	return &s.ID, s.status(), resultName(s.status())
}

// maxSets is how many sets of each kind a machine keeps: MAAS's max_node_…_results, which are 10 and, of installations, 3.
const maxSets = 10

// startSet begins a set: its results are pending.
func (r *Region) startSet(n *node, kind int, names ...string) *scriptSet {
	s := &scriptSet{ID: r.serial(), Type: kind}
	for _, name := range names {
		x := &result{ID: r.serial(), Name: name, Created: r.clock.Now()}
		if script := r.script(name); script != nil {
			x.Script = script.ID
		}
		s.Results = append(s.Results, x)
	}
	n.Sets = append(n.Sets, s)
	if kept := slices.IndexFunc(n.Sets, func(old *scriptSet) bool { return old.Type == kind }); kept >= 0 {
		count := 0
		for _, old := range n.Sets {
			if old.Type == kind {
				count++
			}
		}
		if count > maxSets {
			n.Sets = slices.Delete(n.Sets, kept, kept+1)
		}
	}
	return s
}

// runSet says that the scripts of the last set of a kind have begun.
func (r *Region) runSet(n *node, kind int) {
	if s := n.last(kind); s != nil {
		for _, x := range s.Results {
			if x.Status == resultPending {
				x.Status, x.Started = resultRunning, r.clock.Now()
			}
		}
	}
}

// output gives the last set's results what they have printed.
func (r *Region) output(n *node, kind int, text string, exit int) {
	if s := n.last(kind); s != nil {
		for _, x := range s.Results {
			x.Stdout, x.Exit, x.Exited = x.Stdout+text, exit, true
		}
	}
}

// finishSets ends all that has not ended yet.
func (r *Region) finishSets(n *node, status int) {
	for _, s := range n.Sets {
		for _, x := range s.Results {
			if x.Status == resultPending || x.Status == resultRunning {
				x.Status, x.Ended = status, r.clock.Now()
				if status == resultPassed {
					x.Exited = true
				}
			}
		}
	}
}

// finishedSet adds a set that is over.
func (r *Region) finishedSet(n *node, kind, status int) {
	var names []string
	for _, s := range r.state.Scripts {
		if kind == setCommissioning && s.Type == "commissioning" {
			names = append(names, s.Name)
		}
	}
	r.startSet(n, kind, names...)
	r.runSet(n, kind)
	r.finishSets(n, status)
}

type resultDoc struct {
	ID               int      `json:"id"`
	Created          string   `json:"created"`
	Updated          string   `json:"updated"`
	Name             string   `json:"name"`
	Status           int      `json:"status"`
	StatusName       string   `json:"status_name"`
	ExitStatus       *int     `json:"exit_status"`
	Started          *string  `json:"started"`
	Ended            *string  `json:"ended"`
	Runtime          string   `json:"runtime"`
	StartTime        *decimal `json:"starttime"`
	EndTime          *decimal `json:"endtime"`
	EstimatedRuntime string   `json:"estimated_runtime"`
	Parameters       struct{} `json:"parameters"`
	ScriptID         *int     `json:"script_id"`
	ScriptRevisionID *int     `json:"script_revision_id"`
	Suppressed       bool     `json:"suppressed"`
	Output           *string  `json:"output,omitempty"`
	Stdout           *string  `json:"stdout,omitempty"`
	Stderr           *string  `json:"stderr,omitempty"`
	Result           *string  `json:"result,omitempty"`
}

type setDoc struct {
	ID          int         `json:"id"`
	SystemID    string      `json:"system_id"`
	Type        int         `json:"type"`
	TypeName    string      `json:"type_name"`
	LastPing    *string     `json:"last_ping"`
	Status      int         `json:"status"`
	StatusName  string      `json:"status_name"`
	Started     *string     `json:"started"`
	Ended       *string     `json:"ended"`
	Runtime     string      `json:"runtime"`
	Results     []resultDoc `json:"results"`
	ResourceURI string      `json:"resource_uri"`
}

func stamp(t time.Time) string { return t.UTC().Format("Mon, 02 Jan. 2006 15:04:05") }

func orNullTime(t time.Time) (*string, *decimal) {
	if t.IsZero() {
		return nil, nil
	}
	s, d := stamp(t), decimal(float64(t.UnixMicro())/1e6)
	return &s, &d
}

func runtime(from, to time.Time) string {
	if from.IsZero() || to.IsZero() {
		return ""
	}
	s := int(to.Sub(from).Seconds())
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

// documentOfSet describes a set; filters are names of scripts.
func (c *call) documentOfSet(n *node, s *scriptSet) setDoc {
	d := setDoc{
		ID: s.ID, SystemID: n.SystemID, Type: s.Type, TypeName: []string{"Commissioning", "Installation", "Testing"}[s.Type], Status: s.status(),
		StatusName: resultName(s.status()), Results: []resultDoc{}, ResourceURI: fmt.Sprintf("%snodes/%s/results/%d/", apiRoot, n.SystemID, s.ID),
	}
	var names []string
	if f := c.get("filters"); f != "" {
		names = strings.Split(f, ",")
	}
	var from, to time.Time
	for _, x := range s.Results {
		if len(names) > 0 && !slices.Contains(names, x.Name) && !slices.Contains(names, strconv.Itoa(x.ID)) {
			continue
		}
		if !x.Started.IsZero() && (from.IsZero() || x.Started.Before(from)) {
			from = x.Started
		}
		if x.Ended.After(to) {
			to = x.Ended
		}
		d.Results = append(d.Results, x.document(c.has("include_output")))
	}
	d.Started, _ = orNullTime(from)
	d.Ended, _ = orNullTime(to)
	d.Runtime = runtime(from, to)
	return d
}

func (x *result) document(output bool) resultDoc {
	d := resultDoc{
		ID: x.ID, Created: stamp(x.Created), Updated: stamp(later(x.Ended, later(x.Started, x.Created))), Name: x.Name, Status: x.Status,
		StatusName: resultName(x.Status), Runtime: runtime(x.Started, x.Ended), EstimatedRuntime: "Unknown",
	}
	if x.Exited {
		d.ExitStatus = &x.Exit
	}
	if x.Script != 0 {
		d.ScriptID, d.ScriptRevisionID = &x.Script, &x.Script
	}
	d.Started, d.StartTime = orNullTime(x.Started)
	d.Ended, d.EndTime = orNullTime(x.Ended)
	if output {
		encode := func(s string) *string { s = base64.StdEncoding.EncodeToString([]byte(s)); return &s }
		d.Output, d.Stdout, d.Stderr, d.Result = encode(x.Stdout+x.Stderr), encode(x.Stdout), encode(x.Stderr), encode("")
	}
	return d
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (c *call) listResults() reply {
	kind := -1
	switch t := c.get("type"); t {
	case "":
	case "commissioning", "0":
		kind = setCommissioning
	case "installation", "1":
		kind = setInstallation
	case "testing", "2":
		kind = setTesting
	default:
		return invalid("type", "'"+t+"' is not a valid type.")
	}
	docs := []setDoc{}
	for _, s := range c.node.Sets {
		if kind < 0 || s.Type == kind {
			docs = append(docs, c.documentOfSet(c.node, s))
		}
	}
	return asJSON(docs)
}

// theSet is the one that the path names: by number, or current-testing and the like.
func (c *call) theSet() *scriptSet {
	kinds := map[string]int{"current-commissioning": setCommissioning, "current-installation": setInstallation, "current-testing": setTesting}
	if kind, ok := kinds[c.vars["id"]]; ok {
		return c.node.last(kind)
	}
	for _, s := range c.node.Sets {
		if strconv.Itoa(s.ID) == c.vars["id"] {
			return s
		}
	}
	return nil
}

func (c *call) readResult() reply {
	s := c.theSet()
	if s == nil {
		return missing("ScriptSet")
	}
	return asJSON(c.documentOfSet(c.node, s))
}

// downloadResult gives the output of all scripts of a set, as text.
func (c *call) downloadResult() reply {
	s := c.theSet()
	if s == nil {
		return missing("ScriptSet")
	}
	if t := c.get("filetype"); t != "" && t != "txt" {
		return text(http.StatusNotImplemented, "the simulated region downloads txt only, not %s", t)
	}
	var b strings.Builder
	names := c.get("filters")
	for _, x := range s.Results {
		if names != "" && !slices.Contains(strings.Split(names, ","), x.Name) {
			continue
		}
		if len(s.Results) > 1 {
			bar := strings.Repeat("-", 80)
			fmt.Fprintf(&b, "%s\n%s\n%s\n", bar, x.Name, bar)
		}
		switch c.get("output") {
		case "stdout":
			b.WriteString(x.Stdout)
		case "stderr":
			b.WriteString(x.Stderr)
		default:
			b.WriteString(x.Stdout + x.Stderr)
		}
	}
	return reply{status: 200, contentType: textPlain, body: []byte(b.String())}
}
