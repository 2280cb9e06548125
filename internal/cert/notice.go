package cert

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
	"time"
)

// Kinds of notices: what others have to be told.
const (
	NoticeEnding         = "reservation-ending"
	NoticeEnded          = "reservation-ended"
	NoticeBlocked        = "reservation-blocked"
	NoticeQuarantined    = "machine-quarantined"
	NoticeReturned       = "machine-returned"
	NoticeNeedsHands     = "machine-needs-hands"
	NoticeIncidentOpened = "incident-opened"
	NoticeIncidentClosed = "incident-closed"
	NoticeCanary         = "canary"
	NoticeContradicted   = "verdict-contradicted"
)

// NoticeKinds lists every kind.
var NoticeKinds = []string{NoticeEnding, NoticeEnded, NoticeBlocked, NoticeQuarantined, NoticeReturned, NoticeNeedsHands, NoticeIncidentOpened,
	NoticeIncidentClosed, NoticeCanary, NoticeContradicted}

// A Notice is something that others have to be told: it is stored with what it tells of, and then sent to the site's webhook until that has
// taken it. Without a webhook it is only listed.
type Notice struct {
	ID          string     `json:"id"` // the same for the same event: who is told twice can tell
	Kind        string     `json:"kind"`
	At          time.Time  `json:"at"`
	Site        string     `json:"site,omitempty"` // filled in when it is sent
	Text        string     `json:"text"`           // one sentence
	Person      string     `json:"person,omitempty"`
	Reservation string     `json:"reservation,omitempty"`
	Machine     string     `json:"machine,omitempty"` // id
	Hostname    string     `json:"hostname,omitempty"`
	Until       *time.Time `json:"until,omitempty"` // of the reservation
	Incident    string     `json:"incident,omitempty"`
	URL         string     `json:"url,omitempty"`
}

// SentNotice is a notice with what became of it.
type SentNotice struct {
	Notice
	Tries     int        `json:"tries"`
	Next      *time.Time `json:"next"`      // try; null: none
	Delivered *time.Time `json:"delivered"` //
	GivenUp   *time.Time `json:"given_up"`  //
	Error     string     `json:"error,omitempty"`
}

// NoticeList answers GET /api/v1/notices, the newest first.
type NoticeList struct {
	Notices []SentNotice `json:"notices"`
	Next    string       `json:"next"`
}

// NewNotice returns a notice with an id that follows from its kind and key: stored twice, it is there once.
func NewNotice(kind, key string, at time.Time, text string) Notice {
	sum := sha256.Sum256([]byte(kind + "\x00" + key))
	id := base32.NewEncoding(idAlphabet).WithPadding(base32.NoPadding).EncodeToString(sum[:17])
	return Notice{ID: string(NoticeID) + strings.ToLower(id)[:26], Kind: kind, At: at.UTC(), Text: text}
}
