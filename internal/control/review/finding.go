package review

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"certlab/internal/cert"
	"certlab/internal/judge"
	"certlab/internal/sqlite"
)

const (
	consoleTail   = 16 << 10 // bytes of a console's end that are shown
	maxConsole    = 64 << 20 // bytes of it that are read
	findingOthers = 50
	findingPast   = 20
)

// Finding shows a finding with what there is to judge it by.
func (r *Review) Finding(ctx context.Context, id string) (cert.FindingView, error) {
	f, err := r.DB.Finding(ctx, id)
	if err != nil {
		return cert.FindingView{}, err
	}
	c, err := r.DB.Campaign(ctx, f.Campaign)
	if err != nil {
		return cert.FindingView{}, err
	}
	t, err := r.DB.Target(ctx, f.Target)
	if err != nil {
		return cert.FindingView{}, err
	}
	out := cert.FindingView{Finding: f, Others: []cert.FindingSide{}, History: []cert.FindingSide{}, Changes: []cert.Change{}, Attachments: []cert.Attachment{}, Decisions: []cert.Decision{}}
	if t.Compared != nil && t.Compared.Changes != nil {
		out.Changes = t.Compared.Changes
	}
	for _, step := range []func(context.Context, *cert.FindingView, *cert.Campaign) error{r.addLog, r.addConsole, r.addSides, r.addFlaky, r.addIssue, r.addDecisions} {
		if err := step(ctx, &out, &c); err != nil {
			return out, err
		}
	}
	out.Commands = commands(&c, &f)
	return out, nil
}

func (r *Review) addLog(ctx context.Context, out *cert.FindingView, _ *cert.Campaign) error {
	f := &out.Finding
	if f.Submission == "" || f.Index < 0 {
		return nil
	}
	var err error
	if out.Excerpt, err = r.DB.Excerpt(ctx, f.Submission, f.Index); err != nil {
		return err
	}
	if f.Job == "" {
		return nil
	}
	out.Attachments, err = r.DB.JobAttachments(ctx, f.Submission, f.Job)
	return err
}

// addConsole reads the end of what the machine printed. That its bytes are lost says so, and is no reason to show nothing.
func (r *Review) addConsole(ctx context.Context, out *cert.FindingView, _ *cert.Campaign) error {
	if out.Finding.Run == "" {
		return nil
	}
	kinds := []string{cert.KindConsole}
	if out.Finding.Class == cert.FindKernelBoot || out.Finding.Class == cert.FindMachineLost {
		kinds = []string{cert.KindBMC, cert.KindJournal, cert.KindConsole}
	}
	for _, kind := range kinds {
		file, ok, err := r.DB.RunFile(ctx, out.Finding.Run, 0, kind)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		out.ConsoleURL = fmt.Sprintf("/api/v1/runs/%s/attempts/%d/files/%s", out.Finding.Run, file.Attempt, file.SHA256)
		in, err := r.Open(ctx, file.SHA256, file.Size)
		if err != nil {
			out.Console = "(it cannot be read now: " + err.Error() + ")"
			return ctx.Err()
		}
		defer in.Close()
		if out.Console, err = tail(in); err != nil {
			return err
		}
		return nil
	}
	return nil
}

// tail returns the end of a text.
func tail(in io.Reader) (string, error) {
	if s, ok := in.(io.Seeker); ok {
		if end, err := s.Seek(0, io.SeekEnd); err == nil {
			if _, err := s.Seek(max(0, end-consoleTail), io.SeekStart); err != nil {
				return "", err
			}
		}
	}
	kept := make([]byte, 0, 2*consoleTail)
	part := make([]byte, 32<<10)
	for read := 0; read < maxConsole; {
		n, err := in.Read(part)
		read += n
		kept = append(kept, part[:n]...)
		if len(kept) > consoleTail {
			kept = append(kept[:0], kept[len(kept)-consoleTail:]...)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
	}
	return strings.ToValidUTF8(string(kept), "\uFFFD"), nil
}

// addSides adds the same job on the baseline, on other machines, and on this one before.
func (r *Review) addSides(ctx context.Context, out *cert.FindingView, c *cert.Campaign) error {
	f := &out.Finding
	if f.Job == "" {
		return nil
	}
	if f.OldSub != "" && f.OldIndex >= 0 {
		sides, err := r.DB.ResultSides(ctx, sqlite.SideFilter{Job: f.Job, Submission: f.OldSub}, 1)
		if err != nil {
			return err
		}
		if len(sides) > 0 {
			old := r.alike(ctx, sides[0], f)
			out.Old = &old
		}
	}
	others, err := r.DB.ResultSides(ctx, sqlite.SideFilter{Job: f.Job, Campaign: c.ID, NotMachine: f.Machine}, findingOthers)
	if err != nil {
		return err
	}
	for _, s := range others {
		out.Others = append(out.Others, r.alike(ctx, s, f))
	}
	past, err := r.DB.ResultSides(ctx, sqlite.SideFilter{Job: f.Job, Machine: f.Machine}, findingPast)
	for _, s := range past {
		if s.Submission != f.Submission {
			out.History = append(out.History, r.alike(ctx, s, f))
		}
	}
	return err
}

// alike says of the same job elsewhere whether it failed alike.
func (r *Review) alike(ctx context.Context, s sqlite.ResultSide, f *cert.Finding) cert.FindingSide {
	out := s.FindingSide
	if s.Lost {
		out.Outcome = cert.OutcomeLost
	} else if s.Doubt != "" && out.Outcome == "pass" {
		out.Outcome = cert.FindFalsePass
	}
	out.Alike = f.Signature != "" && s.Signature == f.Signature
	if s.Signature != "" && !out.Alike {
		if text, err := r.DB.Excerpt(ctx, s.Submission, s.Index); err == nil {
			out.Excerpt = firstLines(text)
		}
	}
	return out
}

// addFlaky says how often the job failed where nothing is held against the kernel: first on this machine, else on all.
func (r *Review) addFlaky(ctx context.Context, out *cert.FindingView, c *cert.Campaign) error {
	f := &out.Finding
	if f.Job == "" {
		return nil
	}
	for _, machine := range []string{f.Machine, ""} {
		sides, err := r.DB.ResultSides(ctx, sqlite.SideFilter{Job: f.Job, Machine: machine, Released: true, NotKernelOf: c.ID}, findingPast)
		if err != nil {
			return err
		}
		var past []judge.Past
		for _, s := range sides {
			past = append(past, judge.Past{Outcome: s.Outcome, Lost: s.Lost, Doubt: s.Doubt})
		}
		if out.Flaky = judge.Flaky(past, machine != ""); out.Flaky != nil {
			return nil
		}
	}
	return nil
}

func (r *Review) addIssue(ctx context.Context, out *cert.FindingView, _ *cert.Campaign) error {
	if out.Finding.Issue == "" {
		return nil
	}
	k, err := r.DB.Issue(ctx, out.Finding.Issue)
	if cert.CodeOf(err) == cert.NotFound {
		return nil
	}
	out.Issue = &k
	return err
}

// addDecisions adds those on the finding, on its machine, and on its campaign.
func (r *Review) addDecisions(ctx context.Context, out *cert.FindingView, c *cert.Campaign) error {
	all, err := r.DB.CampaignDecisions(ctx, c.ID)
	for _, d := range all {
		about := d.Machine == out.Finding.Machine && d.Machine != "" || d.Machine == "" && len(d.Findings) == 0
		for _, id := range d.Findings {
			about = about || id == out.Finding.ID
		}
		if about {
			d.Findings = nil // may be many
			out.Decisions = append(out.Decisions, d)
		}
	}
	return err
}

// commands are those that would settle the finding.
func commands(c *cert.Campaign, f *cert.Finding) []string {
	if c.State.Final() || !f.Attention {
		return []string{}
	}
	out := []string{}
	if f.Job != "" && c.Baseline.Version != "" {
		out = append(out, "certlab finding confirm "+f.ID)
	}
	out = append(out, "certlab finding rerun "+f.ID)
	if f.Job != "" && f.Issue == "" {
		out = append(out, "certlab finding link "+f.ID+" --issue ISSUE")
	}
	if f.Open() {
		out = append(out, "certlab finding waive "+f.ID+" --until DATE --reason WHY")
	}
	return out
}
