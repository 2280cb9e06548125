package cert

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"time"
)

// A Role is what a person may do. Each role may do what the ones before it may.
type Role string

const (
	Viewer   Role = "viewer"   // read
	Engineer Role = "engineer" // start and cancel runs, add submissions
	Signer   Role = "signer"   // decide
	Admin    Role = "admin"    // tokens, keys, backups
)

// Roles lists every role, the least first.
var Roles = []string{string(Viewer), string(Engineer), string(Signer), string(Admin)}

func (r Role) rank() int {
	for n, name := range Roles {
		if string(r) == name {
			return n + 1
		}
	}
	return 0
}

// Valid reports whether r is a role.
func (r Role) Valid() bool { return r.rank() > 0 }

// May reports whether r may do what needs the role need.
func (r Role) May(need Role) bool { return r.rank() > 0 && r.rank() >= need.rank() && need.rank() > 0 }

// A Token lets its holder use the API as a role. Only hashes of its secret and of its code are stored.
type Token struct {
	ID          string     `json:"id"`
	Name        string     `json:"name"` // whose it is, or what for
	Role        Role       `json:"role"`
	Created     time.Time  `json:"created"`
	CreatedBy   string     `json:"created_by"`
	CodeExpires time.Time  `json:"code_expires"` // until when the code can be turned into the token
	Redeemed    *time.Time `json:"redeemed"`
	Expires     *time.Time `json:"expires"` // null: never
	LastUsed    *time.Time `json:"last_used"`
	Revoked     *time.Time `json:"revoked"`
}

// Usable reports whether the token's secret is good at that time.
func (t Token) Usable(now time.Time) bool {
	return t.Redeemed != nil && t.Revoked == nil && (t.Expires == nil || now.Before(*t.Expires))
}

// Prefixes of secrets, so that a person and a scanner can tell what they found.
const (
	TokenPrefix   = "clt_"
	CodePrefix    = "clc_"
	SessionPrefix = "cls_"
)

// NewSecret returns prefix and 256 random bits.
func NewSecret(prefix string) string {
	var raw [32]byte
	rand.Read(raw[:])
	return prefix + base64.RawURLEncoding.EncodeToString(raw[:])
}

// HashSecret returns what is stored of a secret. A plain SHA-256 is enough for 256 random bits.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// IsSecret reports whether s could be a secret with that prefix.
func IsSecret(prefix, s string) bool {
	return strings.HasPrefix(s, prefix) && len(s) == len(prefix)+43
}
