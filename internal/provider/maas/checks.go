package maas

import (
	"context"
	"encoding/base64"
	"io"
	"strconv"
	"strings"
	"time"

	"certlab/internal/cert"
	gomaas "github.com/canonical/gomaasclient/client"
)

// Test starts MAAS's hardware tests on a machine of this lab; those that MAAS runs by default if scripts is empty.
func (p *Provider) Test(ctx context.Context, id string, scripts []string) error {
	return p.simple(ctx, "test the hardware of "+p.name(id), id, func(*machine) (*call, error) {
		return &call{op: "test", right: "test", ask: func(api gomaas.APIClient) error {
			values := filter("enable_ssh", "0")
			if len(scripts) > 0 {
				values.Set("testing_scripts", strings.Join(scripts, ","))
			}
			_, err := api.GetSubObject("machines").GetSubObject(id).CallPost("test", values)
			return err
		}}, nil
	})
}

// OverrideFailedTests makes a machine usable that has failed MAAS's tests.
func (p *Provider) OverrideFailedTests(ctx context.Context, id string) error {
	ctx, cancel := p.within(ctx, p.limits.Answer)
	defer cancel()
	doing := "override the failed tests of " + p.name(id)
	return p.change(ctx, doing, id, orFree, func(m *machine) (*call, error) {
		if m.Status != stTestFailed {
			return nil, cert.ProviderErrorf(cert.ProviderConflict, "cannot %s: it has not failed any (%s)", doing, m.statusWord())
		}
		return &call{op: "override_failed_testing", right: "test", ask: func(api gomaas.APIClient) error {
			_, err := api.GetSubObject("machines").GetSubObject(id).CallPost("override_failed_testing", filter("comment", "certlab"))
			return err
		}}, nil
	})
}

// results is as much of MAAS's document of a set of scripts as is used here.
type results struct {
	Results []struct {
		Name    string `json:"name"`
		Status  string `json:"status_name"`
		Exit    *int   `json:"exit_status"`
		Ended   string `json:"ended"`
		Output  string `json:"output"` // base64, both streams
		Stdout  string `json:"stdout"`
		Stderr  string `json:"stderr"`
		Updated string `json:"updated"`
	} `json:"results"`
}

// maxOutput is how much of a test's output is kept: its end, where it says why.
const maxOutput = 16 << 10

// TestResults returns the results of MAAS's hardware tests of the last time; none if there never were any.
func (p *Provider) TestResults(ctx context.Context, id string) ([]cert.TestResult, error) {
	found, err := p.results(ctx, "read the test results of "+p.name(id), id, "current-testing")
	if err != nil {
		return nil, err
	}
	all := make([]cert.TestResult, 0, len(found.Results))
	for _, r := range found.Results {
		output := text(r.Output)
		if output == "" {
			output = text(r.Stdout) + text(r.Stderr)
		}
		if len(output) > maxOutput {
			output = "…" + strings.ToValidUTF8(output[len(output)-maxOutput:], "")
		}
		all = append(all, cert.TestResult{Script: r.Name, Status: r.Status, ExitCode: r.Exit, Output: output, Finished: maasTime(r.Ended)})
	}
	return all, nil
}

// InstallLog returns what the last installation of a machine has printed; nothing if there is none.
func (p *Provider) InstallLog(ctx context.Context, id string) ([]byte, error) {
	found, err := p.results(ctx, "read the installation log of "+p.name(id), id, "current-installation")
	if err != nil {
		return nil, err
	}
	var log []byte
	for _, r := range found.Results {
		output := text(r.Output)
		if output == "" {
			output = text(r.Stdout) + text(r.Stderr)
		}
		log = append(log, output...)
	}
	return log, nil
}

func (p *Provider) results(ctx context.Context, doing, id, set string) (results, error) {
	ctx, cancel := p.within(ctx, p.limits.Long)
	defer cancel()
	var found results
	if !identifier.MatchString(id) {
		return found, cert.ProviderErrorf(cert.ProviderInvalid, "cannot %s: that is no system id of MAAS", doing)
	}
	err := p.do(ctx, call{
		op: "results", doing: doing, long: true, limit: maxFile,
		into: func(r io.Reader) error { found = results{}; return decodeJSON(r, &found) },
		ask: func(api gomaas.APIClient) error {
			_, err := api.GetSubObject("nodes").GetSubObject(id).GetSubObject("results").GetSubObject(set).CallGet("", filter("include_output", "true"))
			return err
		},
	})
	if cert.ProviderFaultOf(err) == cert.ProviderNotFound {
		// So MAAS says that there never was one.
		return results{}, nil
	}
	return found, err
}

// text decodes base64; what is none stays as it is.
func text(encoded string) string {
	if data, err := base64.StdEncoding.DecodeString(encoded); err == nil {
		return string(data)
	}
	return encoded
}

// maasTime reads the ways in which MAAS writes a time: "Mon, 23 Nov. 2026 16:40:00", ISO, and seconds.
func maasTime(text string) time.Time {
	for _, layout := range []string{"Mon, 02 Jan. 2006 15:04:05", time.RFC3339Nano, "2006-01-02T15:04:05.999999", "2006-01-02 15:04:05.999999"} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC()
		}
	}
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds > 0 && seconds < 1e11 {
		return time.Unix(int64(seconds), 0).UTC()
	}
	return time.Time{}
}
