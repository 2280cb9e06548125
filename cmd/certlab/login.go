package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/client"
	"certlab/internal/version"
)

// session is what login keeps: which controller, what to trust, and the token.
type session struct {
	URL   string   `json:"url"`
	CAs   []string `json:"cas"`
	Token string   `json:"token"`
}

// sessionFile is where it is kept: $CERTLAB_CONFIG, or certlab/login.json in the user's configuration directory.
func sessionFile() (string, error) {
	if path := os.Getenv("CERTLAB_CONFIG"); path != "" {
		return path, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("cannot find where logins are kept: %w (or set CERTLAB_CONFIG to a file)", err)
	}
	return filepath.Join(dir, "certlab", "login.json"), nil
}

// save writes the session to a private file, whole or not at all.
func (s session) save() error {
	path, err := sessionFile()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("cannot keep the login: %w", err)
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".login-*") // mode 0600
	if err != nil {
		return fmt.Errorf("cannot keep the login: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(text, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("cannot keep the login: %w", err)
	}
	return nil
}

var errNotLoggedIn = errors.New("not logged in: certlab login URL --code CODE (an administrator makes codes: certlab token create, or juju run cert-controller/leader create-token)")

// connect returns a client for the controller that was logged in to.
func connect() (*client.Client, error) {
	path, err := sessionFile()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errNotLoggedIn
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the login: %w", err)
	}
	var s session
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("cannot read the login %s: %w (certlab login again)", path, err)
	}
	return s.client()
}

// client returns a client of the session's controller. $CERTLAB_TIMEOUT is how long it waits for an answer, such as 10s.
func (s session) client() (*client.Client, error) {
	o := client.Options{URL: s.URL, CAs: s.CAs, Token: s.Token, Agent: "certlab/" + version.Version}
	if text := os.Getenv("CERTLAB_TIMEOUT"); text != "" {
		var err error
		if o.Timeout, err = time.ParseDuration(text); err != nil || o.Timeout <= 0 {
			return nil, fmt.Errorf("cannot use CERTLAB_TIMEOUT=%q: it must be a time such as 10s", text)
		}
	}
	return client.New(o)
}

// loginCmd is certlab login.
type loginCmd struct {
	URL              string `arg:"" help:"The controller, such as https://10.0.0.5:8443."`
	Code             string `help:"Code from an administrator, good once." placeholder:"CODE" xor:"secret"`
	TokenStdin       bool   `help:"Read a token from standard input instead." xor:"secret"`
	CA               string `name:"ca" type:"existingfile" help:"File with the certificate authorities to trust, as PEM." placeholder:"FILE" xor:"trust"`
	Fingerprint      string `help:"SHA-256 of the certificate authority to trust." placeholder:"HEX" xor:"trust"`
	InsecureFirstUse bool   `help:"Trust the certificate authority that answers, and show its fingerprint to compare later." xor:"trust"`
}

// Help is shown by --help.
func (loginCmd) Help() string {
	return "Without --ca, --fingerprint or --insecure-first-use, the fingerprint of the controller's certificate authority is shown, and you are asked whether to trust it. " +
		"An administrator sees the right one in certlab site. The login is kept in a private file: $CERTLAB_CONFIG, or certlab/login.json in your configuration directory."
}

const loginTime = time.Minute

// Run trusts, redeems, checks and keeps.
func (c *loginCmd) Run(ctx context.Context, std streams) error {
	ctx, cancel := context.WithTimeout(ctx, loginTime)
	defer cancel()
	s := session{URL: strings.TrimRight(c.URL, "/")}
	in := bufio.NewReader(std.in)
	switch {
	case c.TokenStdin:
		line, err := in.ReadString('\n')
		if s.Token = strings.TrimSpace(line); !cert.IsSecret(cert.TokenPrefix, s.Token) {
			return fmt.Errorf("cannot log in: standard input has no token (%s…)%s", cert.TokenPrefix, because(err))
		}
	case c.Code == "":
		return errors.New("cannot log in: give --code CODE or --token-stdin")
	case !cert.IsSecret(cert.CodePrefix, c.Code):
		return fmt.Errorf("cannot log in: this is not a code (%s…)", cert.CodePrefix)
	}
	var err error
	if s.CAs, err = c.trust(ctx, in, std); err != nil {
		return err
	}
	api, err := s.client()
	if err != nil {
		return err
	}
	// The connection is verified from here on: the whole list can be believed, and helps over the next rotation.
	if s.CAs, err = api.CAs(ctx); err != nil {
		return err
	}
	if c.Code != "" {
		redeemed, err := api.Redeem(ctx, c.Code)
		if err != nil {
			return err
		}
		s.Token = redeemed.Secret
		// The code is used up: the token is kept before anything else can go wrong.
		if err := s.save(); err != nil {
			return err
		}
	}
	if api, err = s.client(); err != nil {
		return err
	}
	site, err := api.Site(ctx)
	if err != nil {
		return err
	}
	if err := s.save(); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "logged in to %s (%s) as %s, role %s\n", clean(site.Name), s.URL, clean(site.Caller), site.Role)
	return nil
}

func because(err error) string {
	if err == nil || errors.Is(err, io.EOF) {
		return ""
	}
	return ": " + err.Error()
}

// trust returns the authorities to trust for the rest of the login.
func (c *loginCmd) trust(ctx context.Context, in *bufio.Reader, std streams) ([]string, error) {
	if c.CA != "" {
		text, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("cannot read the certificate authorities: %w", err)
		}
		return []string{string(text)}, nil
	}
	cas, err := client.FetchCAs(ctx, c.URL)
	if err != nil {
		return nil, err
	}
	want := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(c.Fingerprint, "sha256:"), ":", ""))
	for n, ca := range cas {
		fingerprint, err := client.Fingerprint(ca)
		if err != nil {
			return nil, err
		}
		switch {
		case want == fingerprint:
			return []string{ca}, nil
		case want != "" || n > 0:
			continue
		}
		fmt.Fprintf(std.err, "certificate authority of %s: SHA-256 %s\n", c.URL, fingerprint)
		if c.InsecureFirstUse {
			return []string{ca}, nil
		}
		fmt.Fprint(std.err, "Trust it? An administrator sees the right fingerprint in certlab site. [yes/no] ")
		answer, err := in.ReadString('\n')
		if strings.TrimSpace(answer) == "yes" {
			return []string{ca}, nil
		}
		return nil, fmt.Errorf("cannot log in: the certificate authority is not trusted (--fingerprint, --ca or --insecure-first-use)%s", because(err))
	}
	return nil, fmt.Errorf("cannot log in: no certificate authority of %s has this fingerprint", c.URL)
}

// siteCmd is certlab site.
type siteCmd struct {
	formatFlag `embed:""`
}

// Run shows what the lab is and how it is.
func (c *siteCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	s, err := api.Site(ctx)
	if err != nil || c.json() {
		return c.write(std, s, err)
	}
	rows := [][]string{
		{"Site", s.Name}, {"URL", s.URL}, {"Version", s.Version}, {"CA SHA-256", s.CAFingerprint}, {"Logged in as", s.Caller + " (" + s.Role + ")"},
		{"Runs", countsText(s.Runs)}, {"Submissions", countsText(s.Submissions)}, {"Free space", fmt.Sprintf("%d MiB", s.FreeBytes>>20)},
	}
	if s.DiskLow {
		rows = append(rows, []string{"Problem", fmt.Sprintf("less than %d MiB are free: no new runs are handed out", s.MinFreeBytes>>20)})
	}
	for _, r := range s.Refused {
		rows = append(rows, []string{"Refused", r.Unit + ": " + r.Reason})
	}
	return table(std.out, nil, rows)
}
