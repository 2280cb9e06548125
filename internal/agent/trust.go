package agent

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// clockTolerance is how far the machine's clock may be ahead without certificates counting as expired. How far it is behind does not
// matter: a certificate that is not valid yet was made by an authority that is trusted, and time goes on.
const clockTolerance = 25 * time.Hour

// verifyController checks the chain that the controller shows against the pinned authorities, with tolerance for a wrong clock.
func verifyController(state tls.ConnectionState, pool *x509.CertPool, now time.Time) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the controller shows no certificate")
	}
	leaf := state.PeerCertificates[0]
	at := now
	intermediates := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}
	for _, c := range state.PeerCertificates {
		if at.After(c.NotAfter) && now.Sub(c.NotAfter) <= clockTolerance {
			at = c.NotAfter
		}
	}
	for _, c := range state.PeerCertificates {
		if at.Before(c.NotBefore) {
			at = c.NotBefore
		}
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: pool, Intermediates: intermediates, DNSName: state.ServerName, CurrentTime: at})
	return explainTrust(err, now)
}

// explainTrust says in an operator's words why the controller's certificate was not accepted.
func explainTrust(err error, now time.Time) error {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unknown):
		return errors.New("cannot trust it: its certificate is not of an authority that was published over the relation (another program answers there, or the controller has a new authority: see `juju status --relations cert-agents`, or relate it again)")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		what := "its certificate"
		if invalid.Cert.IsCA {
			what = "its authority's certificate"
		}
		return fmt.Errorf("cannot trust it: %s is valid from %s to %s, and this machine's clock says %s (set whichever clock is wrong; an authority that has expired is replaced on the controller)",
			what, day(invalid.Cert.NotBefore), day(invalid.Cert.NotAfter), day(now))
	case errors.As(err, &host):
		return fmt.Errorf("cannot trust it: its certificate is not for the address %s (another machine has that address, or the controller was moved)", host.Host)
	}
	return fmt.Errorf("cannot trust it: %w", err)
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }

// unreached says on one line why no address of the controller could be used.
func unreached(bases []string, failures []error) error {
	var texts []string
	for i, err := range failures {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		texts = append(texts, fmt.Sprintf("%s: %v", bases[i], err))
	}
	return fmt.Errorf("cannot reach the controller: %s", strings.Join(texts, "; "))
}

// maxSkew is how far two clocks may be apart before a person is told.
const maxSkew = 5 * time.Minute

// skew compares the machine's clock with the controller's, which is the Date of its answer, and says what is wrong; empty: nothing.
func skew(date string, now time.Time) string {
	theirs, err := time.Parse(time.RFC1123, date)
	if err != nil {
		return ""
	}
	off := now.Sub(theirs)
	if off.Abs() <= maxSkew {
		return ""
	}
	direction := "ahead of"
	if off < 0 {
		direction = "behind"
	}
	return fmt.Sprintf("this machine's clock is %s %s the controller's (set it, or let it be set by the network; times that the machine tells are wrong, its results are not)", span(off.Abs()), direction)
}

// span is a duration to a person's precision.
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.0f days", d.Hours()/24)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%.0f hours", d.Hours())
	}
	return fmt.Sprintf("%.0f minutes", d.Minutes())
}
