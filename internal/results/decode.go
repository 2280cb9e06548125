package results

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// decoder turns one submission.json into a Submission.
type decoder struct {
	*scanner
	opts Options
	sub  *Submission
	held *budget
	logs int64 // what may still be kept of logs
	seen int   // records
}

func readJSON(r io.Reader, opts Options) (*Submission, error) {
	sub := new(Submission)
	held := &budget{left: opts.Limits.Held, max: opts.Limits.Held}
	if err := decodeJSON(r, opts, sub, held); err != nil {
		return nil, err
	}
	return sub, nil
}

func decodeJSON(r io.Reader, opts Options, sub *Submission, held *budget) error {
	d := &decoder{scanner: newScanner(r, opts.Limits.Depth), opts: opts, sub: sub, held: held, logs: opts.Limits.Held / 2}
	if c := d.peek(); c != '{' {
		return d.bad("expected an object, found %q", c)
	}
	if err := d.fields("", d.top); err != nil {
		return err
	}
	if err := d.finish(); err != nil {
		return err
	}
	if !d.isSubmission() {
		return d.place(&Error{Kind: BadField, Field: "results", Detail: "there is no such list: this is not a submission.json"})
	}
	d.complete()
	return nil
}

// isSubmission guards against JSON of something else.
func (d *decoder) isSubmission() bool { return d.sub.Results != nil }

// complete fills in what other parts of the submission tell.
func (d *decoder) complete() {
	s := d.sub
	s.ownResources, s.ownAttachments = len(s.Resources), len(s.Attachments)
	for _, r := range s.Records() {
		if r.Category == "" {
			r.Category = s.Categories[r.CategoryID]
		}
	}
	for i := range s.Rejected {
		if r := &s.Rejected[i]; r.Category == "" {
			r.Category = s.Categories[r.CategoryID]
		}
	}
	s.System.fromCollectors()
}

// fields reads an object and refuses a key that comes twice: two readers could take two different values.
func (d *decoder) fields(path string, field func(key string) error) error {
	seen := make(map[string]bool)
	cost := 0
	defer func() { d.held.give(cost) }()
	return d.object(func(key string) error {
		if seen[key] {
			return d.place(&Error{Kind: DuplicateKey, Field: join(path, key), Detail: "the key is there twice"})
		}
		cost += keyCost + len(key)
		if err := d.take(keyCost + len(key)); err != nil {
			return err
		}
		seen[key] = true
		return field(key)
	})
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (d *decoder) take(n int) error {
	if err := d.held.take(n); err != nil {
		return d.place(err.(*Error))
	}
	return nil
}

func (d *decoder) wrong(path, want string) error {
	if d.pos == d.end && d.readErr != nil {
		return d.bad("")
	}
	return d.place(&Error{Kind: BadField, Field: path, Detail: "expected " + want})
}

// stringAt reads a text. Null counts as empty; a number or a boolean as its JSON: old versions and providers are not strict.
func (d *decoder) stringAt(path string) (string, error) {
	switch d.peek() {
	case '"':
		text, err := d.text(d.opts.Limits.String)
		if err != nil {
			return "", err
		}
		return strings.ReplaceAll(text, "\x00", "\uFFFD"), d.take(len(text))
	case '{', '[':
		return "", d.wrong(path, "a text")
	}
	word, err := d.scalar()
	if err != nil || word == "null" {
		return "", err
	}
	return word, d.take(len(word))
}

// unescape undoes the template's HTML escaping: once, and only what it writes.
var unescape = strings.NewReplacer("&amp;", "&", "&lt;", "<", "&gt;", ">", "&#34;", `"`, "&#39;", "'", "&quot;", `"`)

func (d *decoder) escapedAt(path string) (string, error) {
	text, err := d.stringAt(path)
	return unescape.Replace(text), err
}

// valueAt keeps a value of at most max bytes, and counts it.
func (d *decoder) valueAt(max int) (Value, error) {
	var v Value
	var b []byte
	err := d.value(func(chunk []byte) error {
		v.Size += int64(len(chunk))
		if v.Size <= int64(max) {
			b = append(b, chunk...)
		} else {
			b = nil
		}
		return nil
	})
	if err != nil {
		return Value{}, err
	}
	if v.Size <= int64(max) {
		v.JSON = json.RawMessage(b)
		if int64(len(b)) > d.held.left {
			v.JSON = nil // it can be had from the file
		} else if err := d.take(len(b)); err != nil {
			return Value{}, err
		}
	}
	return v, nil
}

// extraAt keeps a value that this reader does not know under key.
func (d *decoder) extraAt(extra *map[string]json.RawMessage, key string) error {
	v, err := d.valueAt(d.opts.Limits.Value)
	if err != nil {
		return err
	}
	return d.addExtra(extra, key, v)
}

func (d *decoder) addExtra(extra *map[string]json.RawMessage, key string, v Value) error {
	if v.JSON == nil {
		v.JSON = json.RawMessage(fmt.Sprintf(`{"certlab_omitted_bytes":%d}`, v.Size))
	}
	if err := d.take(entryCost + len(key)); err != nil {
		return err
	}
	if *extra == nil {
		*extra = make(map[string]json.RawMessage)
	}
	(*extra)[key] = v.JSON
	return nil
}

// set reads one text into field.
func (d *decoder) set(field *string, read func(string) (string, error), path string) (err error) {
	*field, err = read(path)
	return err
}

// null consumes a null and reports whether there was one.
func (d *decoder) null() (bool, error) {
	if d.peek() != 'n' {
		return false, nil
	}
	_, err := d.scalar()
	return true, err
}

func (d *decoder) top(key string) error {
	s := d.sub
	switch key {
	case "title":
		return d.set(&s.Title, d.stringAt, key)
	case "testplan_id":
		return d.set(&s.Plan, d.stringAt, key)
	case "description":
		return d.set(&s.Description, d.stringAt, key)
	case "origin":
		return d.origin(key)
	case "custom_joblist":
		text, err := d.stringAt(key)
		s.CustomJobs = strings.EqualFold(text, "true")
		return err
	case "results":
		if s.Results == nil {
			s.Results = []Result{}
		}
		return d.records(key, "")
	case "resource-results":
		return d.records(key, pluginResource)
	case "attachment-results":
		return d.records(key, pluginAttachment)
	case "rejected-jobs":
		return d.rejected(key)
	case "category_map":
		if ok, err := d.null(); ok {
			return err
		}
		var err error
		s.Categories, err = d.texts(key, d.escapedAt)
		return err
	case "launcher":
		return d.launcher(key)
	}
	return d.system(key)
}

// texts reads an object of texts.
func (d *decoder) texts(path string, read func(string) (string, error)) (map[string]string, error) {
	if c := d.peek(); c != '{' {
		return nil, d.wrong(path, "an object")
	}
	m := make(map[string]string)
	if err := d.take(mapCost); err != nil {
		return nil, err
	}
	err := d.fields(path, func(key string) (err error) {
		if err := d.take(entryCost + len(key)); err != nil {
			return err
		}
		m[key], err = read(join(path, key))
		return err
	})
	return m, err
}

func (d *decoder) origin(path string) error {
	if ok, err := d.null(); ok {
		return err
	}
	if d.peek() != '{' {
		return d.wrong(path, "an object")
	}
	o := new(Origin)
	d.sub.Origin = o
	return d.fields(path, func(key string) error {
		at := join(path, key)
		switch key {
		case "name":
			return d.set(&o.Name, d.stringAt, at)
		case "version":
			return d.set(&o.Version, d.stringAt, at)
		case "packaging":
			if d.peek() == '{' {
				m, err := d.texts(at, d.stringAt)
				o.Packaging = &Packaging{Type: m["type"], Name: m["name"], Version: m["version"], Revision: m["revision"]}
				return err
			}
		}
		return d.extraAt(&d.sub.Extra, at)
	})
}

const (
	pluginResource   = "resource"
	pluginAttachment = "attachment"
)

// records reads one of the lists of jobs. Jobs of a list that has a plugin of its own get it when they name none: submissions
// before 4.0 leave it out.
func (d *decoder) records(path, plugin string) error {
	if ok, err := d.null(); ok {
		return err
	}
	if d.peek() != '[' {
		return d.wrong(path, "a list")
	}
	return d.array(func(i int) error {
		if d.seen++; d.seen > d.opts.Limits.Records {
			return d.place(limitError("records", int64(d.opts.Limits.Records)))
		}
		if err := d.take(recordCost); err != nil {
			return err
		}
		r, err := d.record(fmt.Sprintf("%s[%d]", path, i), i)
		if err != nil {
			return err
		}
		if r.Plugin == "" {
			r.Plugin = plugin
		}
		s := d.sub
		switch plugin {
		case pluginResource:
			s.Resources = append(s.Resources, r)
		case pluginAttachment:
			s.Attachments = append(s.Attachments, r)
		default:
			s.Results = append(s.Results, r)
		}
		return nil
	})
}

func (d *decoder) record(path string, index int) (Result, error) {
	var r Result
	if d.peek() != '{' {
		return r, d.wrong(path, "an object")
	}
	var outcome string
	err := d.fields(path, func(key string) error {
		at := join(path, key)
		switch key {
		case "id":
			return d.set(&r.ShortID, d.escapedAt, at)
		case "full_id":
			return d.set(&r.ID, d.escapedAt, at)
		case "name":
			return d.set(&r.Name, d.escapedAt, at)
		case "category":
			return d.set(&r.Category, d.escapedAt, at)
		case "category_id":
			return d.set(&r.CategoryID, d.escapedAt, at)
		case "certification_status":
			return d.set(&r.CertificationStatus, d.stringAt, at)
		case "status":
			return d.set(&r.Status, d.stringAt, at)
		case "outcome":
			return d.set(&outcome, d.stringAt, at)
		case "comments":
			return d.set(&r.Comments, d.stringAt, at)
		case "plugin":
			return d.set(&r.Plugin, d.stringAt, at)
		case "template_id":
			return d.set(&r.TemplateID, d.stringAt, at)
		case "duration":
			return d.duration(&r.Duration, at)
		case "io_log":
			return d.log(&r, index, at)
		case "skip_reason":
			v, err := d.valueAt(d.opts.Limits.String)
			if err != nil {
				return err
			}
			if v.JSON == nil {
				return d.place(limitError("string", int64(d.opts.Limits.String)))
			}
			if string(v.JSON) != "null" {
				r.SkipReason = v.JSON
			}
			return nil
		}
		return d.recordExtra(&r, key)
	})
	if err != nil {
		return r, err
	}
	if r.ID == "" {
		r.ID = r.ShortID
	}
	if r.ID == "" {
		return r, d.place(&Error{Kind: BadField, Field: path + ".full_id", Detail: "a job without an id"})
	}
	r.Outcome = Outcome(outcome)
	if outcome == "" {
		r.Outcome = None
	}
	return r, nil
}

// constants are fields that have said the same in every record of every version; they are kept only if they ever say something else.
var constants = map[string]string{"type": `"test"`, "project": `"certification"`}

func (d *decoder) recordExtra(r *Result, key string) error {
	v, err := d.valueAt(d.opts.Limits.Value)
	if err != nil {
		return err
	}
	if want, ok := constants[key]; ok && string(v.JSON) == want {
		d.held.give(len(v.JSON))
		return nil
	}
	return d.addExtra(&r.Extra, key, v)
}

func (d *decoder) duration(field *float64, path string) error {
	text, err := d.stringAt(path)
	if err != nil || text == "" {
		return err
	}
	if *field, err = strconv.ParseFloat(text, 64); err != nil || *field != *field {
		return d.wrong(path, "a number of seconds")
	}
	return nil
}

// log reads a job's io_log.
func (d *decoder) log(r *Result, index int, path string) error {
	if ok, err := d.null(); ok {
		return err
	}
	if d.peek() != '"' {
		return d.wrong(path, "a text")
	}
	var w io.Writer
	if d.opts.Log != nil {
		w = d.opts.Log(index, r.ID)
	}
	keep := head{max: int(min(int64(d.opts.KeepLog), d.logs))}
	if d.logs < int64(d.opts.KeepLog) {
		keep.max = 0
	}
	err := d.str(false, func(chunk []byte) error {
		r.LogSize += int64(len(chunk))
		keep.add(chunk)
		if w != nil {
			return writeTo(w, chunk)
		}
		return nil
	})
	r.Log = string(keep.b)
	d.logs -= int64(len(keep.b))
	return err
}

func (d *decoder) rejected(path string) error {
	if ok, err := d.null(); ok {
		return err
	}
	if d.peek() != '[' {
		return d.wrong(path, "a list")
	}
	return d.array(func(i int) error {
		path := fmt.Sprintf("%s[%d]", path, i)
		if d.seen++; d.seen > d.opts.Limits.Records {
			return d.place(limitError("records", int64(d.opts.Limits.Records)))
		}
		if err := d.take(recordCost); err != nil {
			return err
		}
		if d.peek() != '{' {
			return d.wrong(path, "an object")
		}
		var r Rejected
		err := d.fields(path, func(key string) error {
			at := join(path, key)
			switch key {
			case "id":
				return d.set(&r.ShortID, d.escapedAt, at)
			case "full_id":
				return d.set(&r.ID, d.escapedAt, at)
			case "name":
				return d.set(&r.Name, d.escapedAt, at)
			case "category":
				return d.set(&r.Category, d.escapedAt, at)
			case "category_id":
				return d.set(&r.CategoryID, d.escapedAt, at)
			case "plugin":
				return d.set(&r.Plugin, d.stringAt, at)
			case "certification_status":
				return d.set(&r.CertificationStatus, d.stringAt, at)
			case "template_id":
				return d.set(&r.TemplateID, d.stringAt, at)
			}
			return d.extraAt(&r.Extra, key)
		})
		if r.ID == "" {
			r.ID = r.ShortID
		}
		d.sub.Rejected = append(d.sub.Rejected, r)
		return err
	})
}

func (d *decoder) launcher(path string) error {
	if ok, err := d.null(); ok {
		return err
	}
	if d.peek() != '{' {
		return d.wrong(path, "an object")
	}
	d.sub.Launcher = make(map[string]map[string]string)
	return d.fields(path, func(section string) (err error) {
		at := join(path, section)
		if d.peek() != '{' { // not seen, but merged launchers are built by hand
			return d.extraAt(&d.sub.Extra, at)
		}
		d.sub.Launcher[section], err = d.texts(at, d.looseAt)
		return err
	})
}

// looseAt reads any value as text: as itself if it is one, as JSON otherwise. (Checkbox writes only texts; the published schema
// has booleans and lists.)
func (d *decoder) looseAt(path string) (string, error) {
	if c := d.peek(); c != '{' && c != '[' {
		return d.stringAt(path)
	}
	v, err := d.valueAt(d.opts.Limits.String)
	if err == nil && v.JSON == nil {
		err = d.place(limitError("string", int64(d.opts.Limits.String)))
	}
	return string(v.JSON), err
}
