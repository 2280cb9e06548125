package review

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// Export writes everything about a campaign: as one JSON object (campaign, targets, findings, decisions, verdict, events), or as CSV with a line for
// each finding and one for each target without any. Nothing is held but one page of it at a time.
func (r *Review) Export(ctx context.Context, name, format string, w io.Writer) error {
	c, err := r.DB.Campaign(ctx, name)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 64<<10)
	switch format {
	case "", "json":
		err = r.exportJSON(ctx, c, out)
	case "csv":
		err = r.exportCSV(ctx, c, out)
	default:
		return cert.Errorf(cert.Invalid, "cannot export as %q: there are json and csv", format)
	}
	if err != nil {
		return err
	}
	return out.Flush()
}

// A jsonObject is written field by field.
type jsonObject struct {
	w    *bufio.Writer
	some bool
}

func (o *jsonObject) key(name string) error {
	begin := ",\n"
	if !o.some {
		begin, o.some = "{\n", true
	}
	_, err := fmt.Fprintf(o.w, "%s%q: ", begin, name)
	return err
}

func (o *jsonObject) value(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = o.w.Write(data)
	return err
}

// list writes what each hands out.
func (o *jsonObject) list(name string, each func(add func(any) error) error) error {
	if err := o.key(name); err != nil {
		return err
	}
	begin := "["
	err := each(func(v any) error {
		if _, err := o.w.WriteString(begin + "\n"); err != nil {
			return err
		}
		begin = ","
		return o.value(v)
	})
	if err != nil {
		return err
	}
	if begin == "[" {
		_, err = o.w.WriteString("[]")
		return err
	}
	_, err = o.w.WriteString("\n]")
	return err
}

func (r *Review) exportJSON(ctx context.Context, c cert.Campaign, w *bufio.Writer) error {
	o := jsonObject{w: w}
	if err := o.key("campaign"); err != nil {
		return err
	}
	if err := o.value(c); err != nil {
		return err
	}
	if err := o.key("verdict"); err != nil {
		return err
	}
	var verdict *cert.Verdict
	if v, err := r.DB.Verdict(ctx, c.ID); err == nil {
		verdict = &v
	} else if cert.CodeOf(err) != cert.NotFound {
		return err
	}
	if err := o.value(verdict); err != nil {
		return err
	}
	targets, err := r.DB.Targets(ctx, c.ID)
	if err != nil {
		return err
	}
	if err := o.list("targets", func(add func(any) error) error {
		for _, t := range targets {
			if err := add(t); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if err := o.list("findings", func(add func(any) error) error {
		return r.DB.EachFinding(ctx, c.ID, sqlite.FindingFilter{}, func(f cert.Finding) error { return add(f) })
	}); err != nil {
		return err
	}
	if err := o.list("decisions", func(add func(any) error) error {
		return pages(func(p sqlite.Page) (string, error) {
			all, next, err := r.DB.Decisions(ctx, c.ID, p)
			return next, addAll(all, err, add)
		})
	}); err != nil {
		return err
	}
	if err := o.list("events", func(add func(any) error) error {
		return pages(func(p sqlite.Page) (string, error) {
			all, next, err := r.DB.CampaignEvents(ctx, c.ID, p)
			return next, addAll(all, err, add)
		})
	}); err != nil {
		return err
	}
	_, err = w.WriteString("\n}\n")
	return err
}

func pages(read func(sqlite.Page) (string, error)) error {
	p := sqlite.Page{Limit: sqlite.MaxLimit}
	for {
		next, err := read(p)
		if err != nil || next == "" {
			return err
		}
		p.Cursor = next
	}
}

func addAll[T any](all []T, err error, add func(any) error) error {
	for _, v := range all {
		if err == nil {
			err = add(v)
		}
	}
	return err
}

var csvHead = []string{"campaign", "subject", "hostname", "machine", "class_of_hardware", "plan", "state", "why", "kernel", "submission", "finding", "class", "job", "blocker", "new",
	"open", "outcome", "before", "text", "issue", "waived_by", "late", "found"}

func (r *Review) exportCSV(ctx context.Context, c cert.Campaign, w io.Writer) error {
	out := csv.NewWriter(w)
	write := func(cells ...string) error {
		for n := range cells {
			cells[n] = cell(cells[n])
		}
		return out.Write(cells)
	}
	if err := write(append([]string{}, csvHead...)...); err != nil {
		return err
	}
	targets, err := r.DB.Targets(ctx, c.ID)
	if err != nil {
		return err
	}
	byID := make(map[string]*cert.Target, len(targets))
	for n := range targets {
		byID[targets[n].ID] = &targets[n]
	}
	base := func(t *cert.Target) []string {
		kernel := ""
		if t.Compared != nil {
			kernel = t.Compared.Proof.Kernel
		}
		return []string{c.Name, c.Subject.Title(), t.Hostname, t.Machine, t.Class, t.Plan, string(t.State), t.Why, kernel, t.Submission}
	}
	found := make(map[string]bool)
	err = r.DB.EachFinding(ctx, c.ID, sqlite.FindingFilter{}, func(f cert.Finding) error {
		t := byID[f.Target]
		if t == nil {
			t = &cert.Target{Hostname: f.Hostname, Machine: f.Machine, Plan: f.Plan}
		}
		found[f.Target] = true
		waived := ""
		if f.Waived > 0 {
			waived = strconv.FormatInt(f.Waived, 10)
		}
		return write(append(base(t), f.ID, f.Class, f.Job, strconv.FormatBool(f.Blocker), strconv.FormatBool(f.New), strconv.FormatBool(f.Open()), f.Outcome, f.Before, f.Text, f.Issue,
			waived, strconv.FormatBool(f.Late), f.Found.UTC().Format(time.RFC3339))...)
	})
	if err != nil {
		return err
	}
	for n := range targets {
		if !found[targets[n].ID] {
			if err := write(append(base(&targets[n]), make([]string, len(csvHead)-10)...)...); err != nil {
				return err
			}
		}
	}
	out.Flush()
	return out.Error()
}

// cell makes sure that a spreadsheet takes a text for a text: one that begins like a formula is put behind an apostrophe.
func cell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r\n|%", rune(text[0])) {
		return "'" + text
	}
	return text
}
