// Package userdata writes the shell script that a machine is deployed with: how it gets its agent from the controller.
//
// # What the script does
//
// It is a POSIX shell script, as cloud-init runs one once for each deployment, late in the first boot. It needs nothing but the
// controller's address, and curl, wget or python3. All it does itself is to write files below /var/lib/certlab/deployed and a systemd
// unit, certlab-agent.service, and to start that. The unit's program (start.sh) then
//
//   - gives the default user the ssh keys of who wants the machine, once;
//   - tells apt of the proxy and the mirror;
//   - fetches the agent's bundle over TLS with the pinned certificates and the deployment's token, checks its SHA-256, and unpacks it;
//   - has the agent enrol, which keeps its key on the machine and its desired state in agent/desired.json;
//   - becomes the agent.
//
// Each step can be cut off anywhere, by a power cut too: files are there whole or not at all, and at the next boot the unit goes on with
// what is missing. What is done already is not done again, so that what a person changes afterwards stays. A token that the controller
// refuses for good ends it until the next boot; anything else is tried again for hours, ever less often.
//
// Secrets (the token, a proxy's password) are in files of mode 0600 or come by standard input, never in the arguments of a program. The
// token is removed once it is used up.
package userdata

import (
	"bytes"
	"crypto/x509"
	_ "embed"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"time"

	"certlab/internal/order"
)

// MaxSize bounds a script, in bytes: what every cloud's user-data takes. MAAS takes more.
const MaxSize = 16 << 10

// Params are what a machine is told.
type Params struct {
	Controllers []string // URLs, https://host:port
	CAs         []string // PEM
	Deployment  string   // id
	Token       string   // good for one enrolment
	Keys        []string // ssh public keys, as in authorized_keys
	User        string   // who gets them; ubuntu
	Proxy       order.Proxy
	Mirror      string    // of apt, instead of archive.ubuntu.com and ports.ubuntu.com; empty: what the provider has set
	Made        time.Time // now: a machine whose clock is behind this is set to it

	Dir      string        // where everything is; /var/lib/certlab/deployed
	Root     string        // of the machine's file system, for tests; empty: /
	Patience time.Duration // how long a boot goes on trying; 4 h
	Pause    time.Duration // between the first two tries, in whole seconds; it doubles up to a minute; 2 s
}

//go:embed script.sh.tmpl
var text string

var (
	shellSafe  = regexp.MustCompile(`^[A-Za-z0-9._:/@%+=,~\[\]-]*$`)
	userName   = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	deployment = regexp.MustCompile(`^[a-z0-9]{1,64}$`)
	secret     = regexp.MustCompile(`^` + order.EnrolPrefix + `[A-Za-z0-9_-]{20,100}$`)
	sshKey     = regexp.MustCompile(`^(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\x00-\x1f\x7f]*)?$`)
)

// Script returns the user-data. It fails for what cannot be said in it, and if it gets too large; no error holds the token.
func Script(p Params) ([]byte, error) {
	p.defaults()
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("cannot write the user-data: %w", err)
	}
	config, err := json.Marshal(order.EnrolConfig{Controllers: p.Controllers, CAs: p.CAs, Deployment: p.Deployment, Token: p.Token})
	if err != nil {
		return nil, err
	}
	var script bytes.Buffer
	if err := parsed.Execute(&script, view{Params: p, Config: string(config), CA: strings.Join(p.CAs, ""), Epoch: p.Made.Unix(),
		PatienceSeconds: int64(p.Patience / time.Second), PauseSeconds: int64(p.Pause / time.Second),
		Apt: aptProxy(p.Proxy), AptMode: aptMode(p.Proxy)}); err != nil {
		return nil, fmt.Errorf("cannot write the user-data: %w", err)
	}
	if script.Len() > MaxSize {
		return nil, fmt.Errorf("cannot write the user-data: it has %d bytes and may have %d (name fewer or shorter ssh keys: %d were given)", script.Len(), MaxSize, len(p.Keys))
	}
	return script.Bytes(), nil
}

// view is what the template sees.
type view struct {
	Params
	Config, CA      string
	Epoch           int64
	PatienceSeconds int64
	PauseSeconds    int64
	Apt, AptMode    string
}

var parsed = template.Must(template.New("user-data").Option("missingkey=error").Parse(text))

func (p *Params) defaults() {
	if p.User == "" {
		p.User = "ubuntu"
	}
	if p.Dir == "" {
		p.Dir = "/var/lib/certlab/deployed"
	}
	if p.Patience == 0 {
		p.Patience = 4 * time.Hour
	}
	if p.Pause == 0 {
		p.Pause = 2 * time.Second
	}
	p.CAs = slices.Clone(p.CAs)
	keys := p.Keys
	p.Keys = nil
	for _, k := range keys {
		p.Keys = append(p.Keys, strings.TrimSpace(k))
	}
	p.Mirror = strings.TrimRight(p.Mirror, "/")
}

func (p *Params) check() error {
	if len(p.Controllers) == 0 || len(p.CAs) == 0 {
		return fmt.Errorf("the controller has no address or no certificate yet (see its unit's status)")
	}
	for _, u := range p.Controllers {
		if parsed, err := url.Parse(u); err != nil || parsed.Scheme != "https" || parsed.Host == "" || parsed.User != nil || !shellSafe.MatchString(u) {
			return fmt.Errorf("the controller's address %q is not https://host:port", u)
		}
	}
	for i, c := range p.CAs {
		block, rest := pem.Decode([]byte(c))
		if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
			return fmt.Errorf("a certificate of the controller's authority cannot be read")
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("a certificate of the controller's authority cannot be read: %w", err)
		}
		p.CAs[i] = string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})) // and no text around it
	}
	switch {
	case !deployment.MatchString(p.Deployment):
		return fmt.Errorf("%q is no deployment", p.Deployment)
	case !secret.MatchString(p.Token):
		return fmt.Errorf("the deployment's token has not the form of one")
	case !userName.MatchString(p.User):
		return fmt.Errorf("%q is no name of a user", p.User)
	case !path.IsAbs(p.Dir) || !shellSafe.MatchString(p.Dir) || !shellSafe.MatchString(p.Root):
		return fmt.Errorf("%q is no directory", p.Root+p.Dir)
	}
	for _, k := range p.Keys {
		if !sshKey.MatchString(k) {
			return fmt.Errorf("%.60q is no ssh public key", k)
		}
	}
	if m := p.Mirror; m != "" {
		if u, err := url.Parse(m); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || !shellSafe.MatchString(m) {
			return fmt.Errorf("the apt mirror %q is not an http URL", m)
		}
	}
	for _, v := range []string{p.Proxy.HTTP, p.Proxy.HTTPS, p.Proxy.FTP} {
		if strings.ContainsAny(v, "\"\\\n\r\x00") {
			return fmt.Errorf("a proxy's URL holds a quote, a backslash or a line break") // it may hold a password, too
		}
	}
	return nil
}

// aptProxy is apt's configuration for the proxies; empty: none.
func aptProxy(p order.Proxy) string {
	var b strings.Builder
	for _, v := range []struct{ scheme, value string }{{"http", p.HTTP}, {"https", p.HTTPS}, {"ftp", p.FTP}} {
		if v.value != "" {
			fmt.Fprintf(&b, "Acquire::%s::Proxy \"%s\";\n", v.scheme, v.value)
		}
	}
	return b.String()
}

// aptMode keeps a password from everybody's eyes. Without one, the file is as others of apt's are.
func aptMode(p order.Proxy) string {
	if strings.Contains(p.HTTP+p.HTTPS+p.FTP, "@") {
		return "600"
	}
	return "644"
}
