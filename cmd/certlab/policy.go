package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"gopkg.in/yaml.v3"

	"certlab/internal/cert"
)

// policyCmd groups the commands on policies.
type policyCmd struct {
	List  policyListCmd  `cmd:"" help:"List policies, the newest version of each."`
	Show  policyShowCmd  `cmd:"" help:"Show a policy, as it was taken in."`
	Check policyCheckCmd `cmd:"" help:"Check a policy file, and show all of what it comes to. Nothing is stored."`
	Save  policySaveCmd  `cmd:"" help:"Take in a policy, as a new version (needs the role admin). Campaigns that there are keep theirs."`
}

type policyListCmd struct {
	formatFlag `embed:""`
}

func (c *policyListCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	list, err := api.Policies(ctx)
	if err != nil || c.json() {
		return c.write(std, list, err)
	}
	var rows [][]string
	for _, p := range list.Policies {
		from := "the site's"
		if p.Default {
			from = "Certlab's"
		}
		rows = append(rows, []string{p.Name, fmt.Sprint(p.Version), string(p.Policy.Kind), from, p.Policy.Decide.Approve, yes(p.Policy.Decide.Auto), p.By, timeText(&p.At)})
	}
	return table(std.out, []string{"POLICY", "VERSION", "KIND", "FROM", "DECIDES", "BY ITSELF", "BY", "SINCE"}, rows)
}

type policyShowCmd struct {
	Policy     string `arg:"" help:"Name, or name@version for one that is not the newest."`
	formatFlag `embed:""`
}

func (c *policyShowCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	p, err := api.Policy(ctx, c.Policy)
	if err != nil || c.json() {
		return c.write(std, p, err)
	}
	fmt.Fprintf(std.out, "# %s, by %s%s\n", policyText(p.PolicyRef), clean(cmp.Or(p.By, "Certlab")), because2(", ", timeText(&p.At)))
	if p.Text == "" {
		return writePolicy(std.out, p.Policy)
	}
	_, err = fmt.Fprintln(std.out, neutralText(strings.TrimRight(p.Text, "\n")))
	return err
}

// writePolicy writes a policy as YAML.
func writePolicy(w io.Writer, p cert.Policy) error {
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(p); err != nil {
		return err
	}
	return enc.Close()
}

// maxFile bounds a file that is handed in, in bytes.
const maxFile = 64 << 20

// readFileOrInput reads a file, or standard input for -.
func readFileOrInput(std streams, path, what string) ([]byte, error) {
	in := std.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, wrong("cannot read the %s: %w", what, err)
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	switch {
	case err != nil:
		return nil, wrong("cannot read the %s: %w", what, err)
	case len(text) > maxFile:
		return nil, wrong("cannot read the %s: it is larger than %d bytes", what, maxFile)
	case len(strings.TrimSpace(string(text))) == 0:
		return nil, wrong("cannot read the %s: there is nothing in it", what)
	}
	return text, nil
}

type policyCheckCmd struct {
	File       string `arg:"" help:"The policy's YAML; - for standard input."`
	formatFlag `embed:""`
}

func (c *policyCheckCmd) Run(ctx context.Context, std streams) error {
	text, err := readFileOrInput(std, c.File, "policy")
	if err != nil {
		return err
	}
	// The same rules as the controller's, so that a policy can be checked where none is.
	p, err := cert.ParsePolicy(text)
	if err != nil {
		return usageError{err}
	}
	if c.json() {
		return c.write(std, p, nil)
	}
	return writePolicy(std.out, p)
}

type policySaveCmd struct {
	Name       string `arg:"" help:"Its name. That of a kind (sru, weekly, certification, adhoc) becomes the kind's default."`
	File       string `arg:"" help:"The policy's YAML; - for standard input."`
	formatFlag `embed:""`
}

func (c *policySaveCmd) Run(ctx context.Context, std streams) error {
	text, err := readFileOrInput(std, c.File, "policy")
	if err != nil {
		return err
	}
	api, err := connect()
	if err != nil {
		return err
	}
	p, err := api.SavePolicy(ctx, c.Name, text)
	if err != nil || c.json() {
		return c.write(std, p, err)
	}
	fmt.Fprintf(std.out, "%s is in force for campaigns that start from now on\n", policyText(p.PolicyRef))
	return nil
}
