// Package notices tells others what they have to know: it sends what is stored in the database to the site's webhook, until that has taken it.
//
// A notice is stored in the transaction of what it tells of, so that neither exists without the other. It is sent at least once: its id stays
// the same, and who is told twice can tell. See docs/reference/webhooks.md for what is sent and how it is signed.
package notices

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// Headers of a delivery.
const (
	HeaderID        = "Certlab-Notice"    // the notice's id
	HeaderTime      = "Certlab-Timestamp" // seconds since 1970, of this try
	HeaderSignature = "Certlab-Signature" // sha256= and the HMAC-SHA256 of timestamp, a full stop and the body, in hexadecimal
)

// Options say what an Outbox works with. DB, Logger and Config must be set.
type Options struct {
	DB     *sqlite.DB
	Logger *slog.Logger
	Now    func() time.Time
	Config func() (site, url string, fleet order.Fleet) // name and URL of the site, and what is in force
	Client http.RoundTripper                            // nil: http.DefaultTransport
}

// An Outbox sends notices.
type Outbox struct {
	Options
	client http.Client
	nudge  chan struct{}
}

// Bounds of sending.
const (
	lookEvery  = 10 * time.Second
	tryTimeout = 15 * time.Second
	firstWait  = 10 * time.Second
	mostWait   = time.Hour
	maxTries   = 30 // with these waits: about a day
	tooOld     = 24 * time.Hour
	batch      = 20
	maxSecret  = 4096
	maxAnswer  = 4096
)

// New returns an Outbox.
func New(o Options) *Outbox {
	if o.Now == nil {
		o.Now = func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
	}
	if o.Client == nil {
		o.Client = http.DefaultTransport
	}
	return &Outbox{Options: o, nudge: make(chan struct{}, 1), client: http.Client{Transport: o.Client, Timeout: tryTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}} // a signed body goes where it was meant to
}

// Wake has the outbox look at once.
func (o *Outbox) Wake() {
	select {
	case o.nudge <- struct{}{}:
	default:
	}
}

// Loop sends until ctx ends.
func (o *Outbox) Loop(ctx context.Context) error {
	for {
		if err := o.Send(ctx); err != nil && ctx.Err() == nil {
			o.Logger.Error("cannot send notices", "error", err)
		}
		timer := time.NewTimer(lookEvery)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-o.nudge:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// Send sends what is due. While there is no webhook nothing is sent, and nothing is given up.
func (o *Outbox) Send(ctx context.Context) error {
	site, base, fleet := o.Config()
	if fleet.Webhook.URL == "" || o.DB.Writable() != nil {
		return nil
	}
	due, err := o.DB.DueNotices(ctx, o.Now(), batch)
	if err != nil {
		return err
	}
	for _, n := range due {
		n.Site, n.URL = site, link(base, n.Notice)
		result := o.try(ctx, fleet.Webhook, n)
		if ctx.Err() != nil {
			return nil // it is not known whether it was taken: it is sent again
		}
		if err := o.DB.NoticeTried(ctx, n.ID, result); err != nil {
			return err
		}
		switch {
		case result.GivenUp:
			o.Logger.Error("a notice was given up", "notice", n.ID, "kind", n.Kind, "tries", n.Tries+1, "error", result.Error)
		case !result.Delivered && n.Tries == 0:
			o.Logger.Warn("a notice could not be sent and is tried again", "notice", n.ID, "kind", n.Kind, "error", result.Error)
		}
	}
	return nil
}

// link is the page that a notice is about.
func link(base string, n cert.Notice) string {
	base = strings.TrimRight(base, "/")
	switch {
	case base == "":
		return ""
	case n.Machine != "":
		return base + "/machines/" + url.PathEscape(n.Machine)
	}
	return base + "/"
}

// try sends a notice once. One that is old before anybody could be told is not news any more.
func (o *Outbox) try(ctx context.Context, hook order.Webhook, n cert.SentNotice) sqlite.NoticeTry {
	if now := o.Now(); n.Tries == 0 && now.Sub(n.At) > tooOld {
		return sqlite.NoticeTry{At: now, GivenUp: true, Error: fmt.Sprintf("it was older than %d hours before it could be sent", int(tooOld.Hours()))}
	}
	err, final := o.post(ctx, hook, n.Notice)
	now := o.Now()
	switch {
	case err == nil:
		return sqlite.NoticeTry{At: now, Delivered: true}
	case final, n.Tries+1 >= maxTries:
		return sqlite.NoticeTry{At: now, GivenUp: true, Error: err.Error()}
	}
	return sqlite.NoticeTry{At: now, Error: err.Error(), Next: now.Add(min(firstWait<<min(n.Tries, 16), mostWait))}
}

// post sends a notice, and says whether its failure is for good: the other side says that it wants no such thing.
func (o *Outbox) post(ctx context.Context, hook order.Webhook, n cert.Notice) (err error, final bool) {
	body, err := json.Marshal(n)
	if err != nil {
		return err, true
	}
	secret, err := readSecret(hook.SecretFile)
	if err != nil {
		return err, false
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, hook.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("cannot use the webhook's URL (option webhook-url): %w", without(err)), false
	}
	stamp := strconv.FormatInt(o.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "certlab")
	req.Header.Set(HeaderID, n.ID)
	req.Header.Set(HeaderTime, stamp)
	if len(secret) > 0 {
		req.Header.Set(HeaderSignature, "sha256="+Sign(secret, stamp, body))
	}
	resp, err := o.client.Do(req)
	if err != nil {
		return fmt.Errorf("cannot reach the webhook: %w", without(err)), false
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return nil, false
	case resp.StatusCode == http.StatusGone:
		return fmt.Errorf("the webhook answers %s: it wants no such notice", clip(resp.Status)), true
	}
	return fmt.Errorf("the webhook answers %s %s", clip(resp.Status), clip(string(answer))), false
}

// clip is one short line of what the other side says.
func clip(text string) string {
	text = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, ""))), " ")
	if len(text) > 200 {
		text = text[:200]
	}
	return strings.ToValidUTF8(text, "")
}

// without takes the URL out of an error: it may hold a secret.
func without(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// Sign returns the signature of a body that is sent at a time, in hexadecimal.
func Sign(secret []byte, stamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(stamp + "."))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// readSecret reads the key of the signature; none without a file. It is read each time, so that a new one holds at once.
func readSecret(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the webhook's secret (option webhook-secret): %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSecret))
	if err != nil {
		return nil, fmt.Errorf("cannot read the webhook's secret (option webhook-secret): %w", err)
	}
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return nil, fmt.Errorf("cannot sign: the webhook's secret is empty (option webhook-secret)")
	}
	return text, nil
}
