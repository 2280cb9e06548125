package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"certlab/internal/cert"
)

// Site returns what the lab is and how it is.
func (c *Client) Site(ctx context.Context) (out cert.Site, err error) {
	return out, c.get(ctx, "/api/v1/site", nil, &out)
}

// CAs returns the certificate authorities that the controller publishes, newest first.
func (c *Client) CAs(ctx context.Context) ([]string, error) {
	var out cert.CAList
	err := c.get(ctx, "/api/v1/cas", nil, &out)
	return out.CAs, err
}

// Redeem turns a code into a token.
func (c *Client) Redeem(ctx context.Context, code string) (out cert.RedeemedToken, err error) {
	return out, c.call(ctx, http.MethodPost, "/api/v1/tokens/redeem", nil, cert.RedeemCode{Code: code}, &out)
}

// Machines lists up to limit machines (0: all). The filter's names are those of the API's parameters.
func (c *Client) Machines(ctx context.Context, filter url.Values, limit int) (out []cert.FleetMachine, err error) {
	err = pages(filter, limit, func(q url.Values) (string, int, error) {
		var page cert.MachineList
		err := c.get(ctx, "/api/v1/machines", q, &page)
		out = append(out, page.Machines...)
		return page.Next, len(out), err
	})
	return out, err
}

// Machine returns a machine by id, system_id or hostname.
func (c *Client) Machine(ctx context.Context, name string) (out cert.MachineDetail, err error) {
	return out, c.get(ctx, "/api/v1/machines/"+url.PathEscape(name), nil, &out)
}

// AddMachine adds a machine whose submissions are made by hand.
func (c *Client) AddMachine(ctx context.Context, m cert.NewMachine) (out cert.Machine, err error) {
	return out, c.call(ctx, http.MethodPost, "/api/v1/machines", nil, m, &out)
}

// Runs lists up to limit runs (0: all), the newest first.
func (c *Client) Runs(ctx context.Context, filter url.Values, limit int) (out []cert.Run, err error) {
	err = pages(filter, limit, func(q url.Values) (string, int, error) {
		var page cert.RunList
		err := c.get(ctx, "/api/v1/runs", q, &page)
		out = append(out, page.Runs...)
		return page.Next, len(out), err
	})
	return out, err
}

// Run returns a run.
func (c *Client) Run(ctx context.Context, id string) (out cert.Run, err error) {
	return out, c.get(ctx, "/api/v1/runs/"+url.PathEscape(id), nil, &out)
}

// StartRun orders a run.
func (c *Client) StartRun(ctx context.Context, r cert.NewRun) (out cert.Run, err error) {
	return out, c.call(ctx, http.MethodPost, "/api/v1/runs", nil, r, &out)
}

// CancelRun ends a run.
func (c *Client) CancelRun(ctx context.Context, id string) (out cert.Run, err error) {
	return out, c.call(ctx, http.MethodPost, "/api/v1/runs/"+url.PathEscape(id)+"/cancel", nil, nil, &out)
}

// Submissions lists up to limit submissions (0: all), the newest first.
func (c *Client) Submissions(ctx context.Context, filter url.Values, limit int) (out []cert.Submission, err error) {
	err = pages(filter, limit, func(q url.Values) (string, int, error) {
		var page cert.SubmissionList
		err := c.get(ctx, "/api/v1/submissions", q, &page)
		out = append(out, page.Submissions...)
		return page.Next, len(out), err
	})
	return out, err
}

// Submission returns a submission.
func (c *Client) Submission(ctx context.Context, id string) (out cert.Submission, err error) {
	return out, c.get(ctx, "/api/v1/submissions/"+url.PathEscape(id), nil, &out)
}

// Download writes a submission's archive to w, and fails if what arrived is not the whole of it.
func (c *Client) Download(ctx context.Context, id string, w io.Writer) error {
	s, err := c.Submission(ctx, id)
	if err != nil {
		return err
	}
	resp, err := c.request(ctx, http.MethodGet, "/api/v1/submissions/"+url.PathEscape(id)+"/archive", nil, nil, nil, -1)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(w, sum), &stalling{resp.Body, c.stall})
	switch {
	case errors.Is(err, errStalled), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("cannot download submission %s: the controller stopped in the middle (try again)", id)
	case err != nil:
		return fmt.Errorf("cannot download submission %s: %w", id, err)
	}
	if hex.EncodeToString(sum.Sum(nil)) != s.SHA256 {
		return fmt.Errorf("cannot download submission %s: what arrived does not have its SHA-256 (try again)", id)
	}
	return nil
}

// Results lists up to limit results (0: all): those of the newest submission first.
func (c *Client) Results(ctx context.Context, filter url.Values, limit int) (out []cert.Result, err error) {
	err = pages(filter, limit, func(q url.Values) (string, int, error) {
		var page cert.ResultList
		err := c.get(ctx, "/api/v1/results", q, &page)
		out = append(out, page.Results...)
		return page.Next, len(out), err
	})
	return out, err
}

// Tokens lists up to limit tokens (0: all), the newest first.
func (c *Client) Tokens(ctx context.Context, limit int) (out []cert.Token, err error) {
	err = pages(nil, limit, func(q url.Values) (string, int, error) {
		var page cert.TokenList
		err := c.get(ctx, "/api/v1/tokens", q, &page)
		out = append(out, page.Tokens...)
		return page.Next, len(out), err
	})
	return out, err
}

// CreateToken creates a token and returns it with the code that it can be had for, once.
func (c *Client) CreateToken(ctx context.Context, t cert.NewToken) (out cert.CreatedToken, err error) {
	return out, c.call(ctx, http.MethodPost, "/api/v1/tokens", nil, t, &out)
}

// RevokeToken ends a token, by id or name.
func (c *Client) RevokeToken(ctx context.Context, name string) (out cert.Token, err error) {
	return out, c.call(ctx, http.MethodDelete, "/api/v1/tokens/"+url.PathEscape(name), nil, nil, &out)
}
