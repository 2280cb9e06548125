package results

import (
	"bufio"
	"encoding/json"
	"io"
)

// jsonResult is a result as WriteJSON prints it. Null stands for what Checkbox recorded as null or not at all.
type jsonResult struct {
	ID                  string                     `json:"id"`
	Name                string                     `json:"name"`
	Outcome             Outcome                    `json:"outcome"`
	Status              string                     `json:"status,omitempty"`
	CertificationStatus *string                    `json:"certification_status"`
	Category            *string                    `json:"category"`
	CategoryID          *string                    `json:"category_id"`
	Plugin              *string                    `json:"plugin"`
	TemplateID          *string                    `json:"template_id"`
	DurationSeconds     float64                    `json:"duration_seconds"`
	Comments            *string                    `json:"comments"`
	SkipReason          json.RawMessage            `json:"skip_reason"`
	LogBytes            int64                      `json:"log_bytes"`
	Log                 *string                    `json:"log,omitempty"`
	LogTruncated        bool                       `json:"log_truncated,omitempty"`
	Stdout              string                     `json:"stdout_member,omitempty"`
	Stderr              string                     `json:"stderr_member,omitempty"`
	SharedOutput        bool                       `json:"shared_output,omitempty"`
	Extra               map[string]json.RawMessage `json:"extra,omitempty"`
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (r *Result) forJSON() jsonResult {
	out := jsonResult{
		ID: r.ID, Name: r.Name, Outcome: r.Outcome, Status: r.Status,
		CertificationStatus: orNull(r.CertificationStatus), Category: orNull(r.Category), CategoryID: orNull(r.CategoryID),
		Plugin: orNull(r.Plugin), TemplateID: orNull(r.TemplateID), DurationSeconds: r.Duration, Comments: orNull(r.Comments),
		SkipReason: r.SkipReason, LogBytes: r.LogSize, Log: orNull(r.Log), LogTruncated: r.Log != "" && r.LogTruncated(),
		Stdout: r.Stdout, Stderr: r.Stderr, SharedOutput: r.SharedOutput, Extra: r.Extra,
	}
	return out
}

// jsonSystem is the description of the machine as WriteJSON prints it.
type jsonSystem struct {
	Kernel        string              `json:"kernel,omitempty"`
	KernelCmdline string              `json:"kernel_cmdline,omitempty"`
	Architecture  string              `json:"architecture,omitempty"`
	Distribution  map[string]string   `json:"distribution,omitempty"`
	Processor     map[string]string   `json:"processor,omitempty"`
	Memory        *Memory             `json:"memory,omitempty"`
	Packages      []Package           `json:"packages,omitempty"`
	Snaps         []map[string]string `json:"snaps,omitempty"`
}

// jsonCollector adds to a Collector how large a payload is that is not held.
type jsonCollector struct {
	Collector
	PayloadBytes int64 `json:"payload_bytes"`
	Omitted      bool  `json:"payload_omitted,omitempty"`
}

// WriteJSON writes the submission as one JSON object. Values too large to be held (see Value) are null with their size beside
// them; CopyValue has them.
func WriteJSON(w io.Writer, s *Submission) error {
	o := &objectWriter{w: bufio.NewWriter(w)}
	o.begin()
	o.field("format", s.Format)
	o.field("plan", orNull(s.Plan))
	o.field("title", s.Title)
	o.field("description", s.Description)
	o.field("checkbox_version", orNull(s.CheckboxVersion()))
	o.field("origin", s.Origin)
	o.field("custom_joblist", s.CustomJobs)
	o.field("counts", s.Counts())
	blockers := s.BlockersFailed()
	if blockers == nil {
		blockers = []string{}
	}
	o.field("blockers_failed", blockers)
	for _, list := range []struct {
		name    Section
		results []Result
	}{{Tests, s.Results}, {Resources, s.Resources}, {Attachments, s.Attachments}} {
		o.list(string(list.name), len(list.results), func(i int) any { return list.results[i].forJSON() })
	}
	o.list("rejected", len(s.Rejected), func(i int) any { return s.Rejected[i] })
	o.field("categories", s.Categories)
	o.field("launcher", s.Launcher)
	o.field("system", jsonSystem{
		Kernel: s.System.Kernel, KernelCmdline: s.System.KernelCmdline, Architecture: s.System.Architecture,
		Distribution: s.System.Distribution, Processor: s.System.Processor, Memory: s.System.Memory,
		Packages: s.System.Packages, Snaps: s.System.Snaps,
	})
	for _, key := range sortedKeys(s.System.Other) {
		o.field(key, s.System.Other[key])
		if v := s.System.Other[key]; v.JSON == nil {
			o.field(key+"_bytes", v.Size)
		}
	}
	collectors := make(map[string]jsonCollector, len(s.System.Collectors))
	for name, c := range s.System.Collectors {
		collectors[name] = jsonCollector{c, c.Payload.Size, c.Payload.JSON == nil && c.Payload.Size > 0}
	}
	o.field("system_information", collectors)
	o.field("system_information_version", orNull(s.System.CollectorsVersion))
	o.field("extra", s.Extra)
	o.list("members", len(s.Members), func(i int) any { return s.Members[i] })
	return o.end()
}

// objectWriter writes one object field by field, so that a long list is never in memory as text.
type objectWriter struct {
	w     *bufio.Writer
	comma bool
	err   error
}

func (o *objectWriter) raw(text string) {
	if o.err == nil {
		_, o.err = o.w.WriteString(text)
	}
}

func (o *objectWriter) begin() { o.raw("{") }

func (o *objectWriter) key(name string) {
	if o.comma {
		o.raw(",")
	}
	o.comma = true
	o.raw("\n  " + string(quote(name)) + ": ")
}

func (o *objectWriter) value(v any, prefix string) {
	if o.err != nil {
		return
	}
	var b []byte
	if b, o.err = marshal(v, prefix); o.err == nil {
		o.raw(string(b))
	}
}

func (o *objectWriter) field(name string, v any) {
	o.key(name)
	o.value(v, "  ")
}

func (o *objectWriter) list(name string, n int, item func(int) any) {
	o.key(name)
	if n == 0 {
		o.raw("[]")
		return
	}
	o.raw("[")
	for i := range n {
		if i > 0 {
			o.raw(",")
		}
		o.raw("\n    ")
		o.value(item(i), "    ")
	}
	o.raw("\n  ]")
}

func (o *objectWriter) end() error {
	o.raw("\n}\n")
	if o.err == nil {
		o.err = o.w.Flush()
	}
	return o.err
}
