package maas

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"certlab/internal/cert"
)

// judge says what an exchange means for its call. again: it may be repeated as it is, since nothing has happened.
func (p *Provider) judge(ctx context.Context, c call, x *exchange) (failed *cert.ProviderError, again bool) {
	fault := func(fault cert.ProviderFault, format string, args ...any) *cert.ProviderError {
		return cert.ProviderErrorf(fault, "cannot %s: %s", c.doing, fmt.Sprintf(format, args...))
	}
	switch {
	case x.answered && x.err == errRedirected:
		return fault(cert.ProviderInvalid, "MAAS at %s sends us on to %q (is that its address? Then set maas-url to it)", p.url, plain(redacted(x.location))), false
	case x.answered:
		return p.judgeAnswer(c, x)
	}
	why := p.silence(ctx, x)
	switch {
	case !x.sent:
		return fault(cert.ProviderUnreachable, "%s", why), true
	case c.change:
		return fault(cert.ProviderOutcome, "%s, and whether it has happened is not known (the machine has to be read again)", why), false
	case errors.Is(x.err, errTooLong) || errors.As(x.err, new(*answerError)):
		return fault(cert.ProviderBroken, "MAAS's answer cannot be read: %s", plain(x.err.Error())), false
	}
	return fault(cert.ProviderUnreachable, "%s", why), true
}

// silence says why there is no answer.
func (p *Provider) silence(ctx context.Context, x *exchange) string {
	waited := time.Since(x.begun).Round(time.Second)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Sprintf("it was given up before MAAS at %s had answered", p.url)
	case errors.Is(x.err, context.DeadlineExceeded) || x.ctx.Err() != nil:
		if x.sent {
			return fmt.Sprintf("MAAS at %s did not answer within %s", p.url, waited)
		}
		return fmt.Sprintf("MAAS at %s cannot be reached: there was no connection within %s", p.url, waited)
	case x.sent:
		return fmt.Sprintf("the connection to MAAS at %s broke off (%s)", p.url, plain(cause(x.err)))
	}
	var authority x509.UnknownAuthorityError
	if errors.As(x.err, &authority) {
		return fmt.Sprintf("MAAS at %s shows a certificate that nobody here vouches for (give its CA certificate)", p.url)
	}
	return fmt.Sprintf("MAAS at %s cannot be reached: %s (does it run, and is that its address?)", p.url, plain(cause(x.err)))
}

// cause returns an error's text without the URL that net/http puts before it.
func cause(err error) string {
	var u *url.Error
	for errors.As(err, &u) {
		err = u.Err
	}
	if err == nil {
		return "no answer"
	}
	return err.Error()
}

// judgeAnswer says what an answer of MAAS means.
func (p *Provider) judgeAnswer(c call, x *exchange) (failed *cert.ProviderError, again bool) {
	said := p.hidden(sentence(x))
	fault := func(fault cert.ProviderFault, format string, args ...any) *cert.ProviderError {
		return cert.ProviderErrorf(fault, "cannot %s: %s", c.doing, fmt.Sprintf(format, args...))
	}
	switch {
	case x.status >= 200 && x.status < 300:
		return nil, false
	case x.status == http.StatusUnauthorized || refusal.MatchString(x.text):
		return p.judgeRefusal(c, x, said)
	case x.status == http.StatusBadRequest:
		return fault(cert.ProviderInvalid, "MAAS says: %s", said), false
	case x.status == http.StatusForbidden:
		return fault(cert.ProviderForbidden, "%s%s", cmp.Or(rights[c.right].denied, "MAAS does not let the key's user do that"), unlessEmpty(x.text, said)), false
	case x.status == http.StatusNotFound && strings.Contains(x.text, "Unknown API endpoint"):
		return fault(cert.ProviderInvalid, "%s does not know that part of MAAS's API 2.0 (is it the address of a MAAS, and not too old?)", p.url), false
	case x.status == http.StatusNotFound && x.html:
		return fault(cert.ProviderInvalid, "there is no MAAS at %s, but something else that answers (is the address right? It ends in /MAAS)", p.url), false
	case x.status == http.StatusNotFound:
		return fault(cert.ProviderNotFound, "MAAS does not have it: %s", said), false
	case x.status == http.StatusConflict:
		return fault(cert.ProviderConflict, "MAAS says: %s", said), false
	case x.status == http.StatusServiceUnavailable && rackless.MatchString(x.text):
		return fault(cert.ProviderNoRack, "no rack controller of MAAS reaches it: %s (look at the rack controllers in MAAS, and at the machine's network)", said), false
	case x.status == http.StatusServiceUnavailable || x.status == http.StatusTooManyRequests:
		failed := fault(cert.ProviderBusy, "MAAS is busy: %s", said)
		failed.Wait = cmp.Or(x.wait, p.limits.Busy)
		return failed, true
	case x.status == http.StatusBadGateway || x.status == http.StatusGatewayTimeout || x.status == http.StatusRequestTimeout:
		if c.change {
			return fault(cert.ProviderOutcome, "MAAS at %s did not answer what is in front of it (%d), and whether it has happened is not known (the machine has to be read again)", p.url, x.status), false
		}
		failed := fault(cert.ProviderUnreachable, "MAAS at %s does not answer what is in front of it (%d): it may be restarting", p.url, x.status)
		failed.Wait = x.wait
		return failed, true
	}
	return fault(cert.ProviderBroken, "MAAS failed with %d: %s", x.status, said), false
}

var (
	// refusal is how MAAS begins when it does not accept who asks: 401, and since the end of 2025 also 400.
	refusal = regexp.MustCompile(`^\s*(Authorization Error|Unrecognised signature)`)
	// expired is what it says of a request from another time than its own.
	expired = regexp.MustCompile(`Expired timestamp: given '?"?([0-9.]+)'?"? and now '?"?([0-9.]+)`)
	// rackless is what it says when no rack controller reaches a machine's BMC, or none is connected at all.
	rackless = regexp.MustCompile(`(?i)no rack controllers? can access|unable to connect to (any )?rack controller|no connections available`)
)

// judgeRefusal says which of the reasons it is that MAAS does not accept who asks.
func (p *Provider) judgeRefusal(c call, x *exchange, said string) (failed *cert.ProviderError, again bool) {
	switch {
	case strings.Contains(x.text, "Expired timestamp"):
		return cert.ProviderErrorf(cert.ProviderClock, "cannot %s: %s", c.doing, p.clocks(x)), false
	case strings.Contains(x.text, "Nonce already used"):
		// Each attempt has its own. So something between us and MAAS has sent this one twice, and the first may have been heeded.
		if c.change {
			return cert.ProviderErrorf(cert.ProviderOutcome, "cannot %s: something between here and MAAS at %s has sent the request twice, and whether it has happened is not known (the machine has to be read again)", c.doing, p.url), false
		}
		return cert.ProviderErrorf(cert.ProviderUnreachable, "cannot %s: something between here and MAAS at %s sends requests twice: %s", c.doing, p.url, said), true
	}
	return cert.ProviderErrorf(cert.ProviderRefused, "cannot %s: MAAS at %s does not accept the key: %s (give it a key that is good: a new one is under the user's API keys in MAAS)", c.doing, p.url, said), false
}

// clocks says how far apart the clocks are.
func (p *Provider) clocks(x *exchange) string {
	ours, theirs := p.config.Now(), x.date
	if found := expired.FindStringSubmatch(x.text); found != nil {
		if at, ok := unix(found[1]); ok {
			ours = at
		}
		if at, ok := unix(found[2]); ok {
			theirs = at
		}
	}
	const todo = "(set the one that is wrong: both should follow the same NTP servers, see `timedatectl`; the key is not the fault)"
	if theirs.IsZero() {
		return fmt.Sprintf("the clocks differ by more than the 300 s that MAAS allows; here it is %s %s", stamp(ours), todo)
	}
	return fmt.Sprintf("the clocks differ too much: here it is %s, and at MAAS %s, which is %s apart, and MAAS allows 300 s %s",
		stamp(ours), stamp(theirs), ours.Sub(theirs).Abs().Round(time.Second), todo)
}

func unix(text string) (time.Time, bool) {
	seconds, err := strconv.ParseFloat(text, 64)
	return time.Unix(int64(seconds), 0), err == nil && seconds > 0 && seconds < 1e11
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func unlessEmpty(text, said string) string {
	if strings.TrimSpace(text) == "" {
		return ""
	}
	return ": " + said
}
