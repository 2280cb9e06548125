package api

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/server/route"
)

const (
	defaultCodeLife = time.Hour
	maxCodeLife     = 7 * 24 * time.Hour
	maxTokenLife    = 5 * 365 * 24 * time.Hour
)

var tokenName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9@._+ -]{0,99}$`)

// reservedNames are who did something in the logs of machines, campaigns and decisions where no person did.
var reservedNames = []string{"certlab", cert.ByPolicy, "root", "maas"}

// CreateToken is POST /api/v1/tokens. It answers with a code that is good once; whoever redeems it gets the token, which so never
// appears where answers are kept.
func (a *API) CreateToken(w http.ResponseWriter, r *route.Request) error {
	var in cert.NewToken
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	role := cert.Role(in.Role)
	codeLife := time.Duration(in.CodeExpiresInSeconds) * time.Second
	if codeLife == 0 {
		codeLife = defaultCodeLife
	}
	switch {
	case !tokenName.MatchString(in.Name) || cert.ValidID(cert.TokenID, in.Name):
		return cert.Errorf(cert.Invalid, "cannot create token %q: a name has 1 to 100 letters, digits, spaces, or any of @ . _ + -", in.Name)
	case slices.Contains(reservedNames, strings.ToLower(in.Name)):
		return cert.Errorf(cert.Invalid, "cannot create token %q: the lab's logs use that name for who is no person (choose another)", in.Name)
	case !role.Valid():
		return cert.Errorf(cert.Invalid, "cannot create a token with the role %q: roles are viewer, engineer, signer and admin", in.Role)
	case codeLife < 0 || codeLife > maxCodeLife:
		return cert.Errorf(cert.Invalid, "cannot create a code that is good for %d seconds: at most %d", in.CodeExpiresInSeconds, int64(maxCodeLife.Seconds()))
	case in.ExpiresInSeconds < 0 || in.ExpiresInSeconds > int64(maxTokenLife.Seconds()):
		return cert.Errorf(cert.Invalid, "cannot create a token that is good for %d seconds: at most %d, or 0 for ever", in.ExpiresInSeconds, int64(maxTokenLife.Seconds()))
	}
	now := a.Now()
	t := cert.Token{ID: cert.NewID(cert.TokenID, now), Name: in.Name, Role: role, Created: now, CreatedBy: r.Caller.Name, CodeExpires: now.Add(codeLife)}
	if in.ExpiresInSeconds > 0 {
		expires := now.Add(time.Duration(in.ExpiresInSeconds) * time.Second)
		t.Expires = &expires
	}
	code := cert.NewSecret(cert.CodePrefix)
	if err := a.Store.AddToken(r.Context(), t, cert.HashSecret(code)); err != nil {
		return err
	}
	a.Logger.Info("token created", "id", t.ID, "name", t.Name, "role", t.Role, "by", t.CreatedBy)
	w.Header().Set("Cache-Control", "no-store")
	return route.JSON(w, http.StatusCreated, cert.CreatedToken{Token: t, Code: code, URL: BaseURL(a.Lab.Desired()), CAFingerprint: a.Keys.Fingerprint()})
}

// RedeemToken is POST /api/v1/tokens/redeem.
func (a *API) RedeemToken(w http.ResponseWriter, r *route.Request) error {
	var in cert.RedeemCode
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	t, secret, err := Redeem(r, a.Store, in.Code, a.Now())
	if err != nil {
		a.Logger.Warn("code refused", "from", r.RemoteAddr, "reason", err.Error())
		return err
	}
	a.Logger.Info("token redeemed", "id", t.ID, "name", t.Name, "role", t.Role)
	w.Header().Set("Cache-Control", "no-store")
	return route.JSON(w, http.StatusOK, cert.RedeemedToken{Token: t, Secret: secret})
}

// Redeem turns a code into a token and its secret.
func Redeem(r *route.Request, store Store, code string, now time.Time) (cert.Token, string, error) {
	secret := cert.NewSecret(cert.TokenPrefix)
	t, err := store.Redeem(r.Context(), cert.HashSecret(code), cert.HashSecret(secret), now)
	return t, secret, err
}

// ListTokens is GET /api/v1/tokens.
func (a *API) ListTokens(w http.ResponseWriter, r *route.Request) error {
	tokens, next, err := a.Store.Tokens(r.Context(), page(r))
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, cert.TokenList{Tokens: tokens, Next: next})
}

// RevokeToken is DELETE /api/v1/tokens/{token}.
func (a *API) RevokeToken(w http.ResponseWriter, r *route.Request) error {
	t, err := a.Store.RevokeToken(r.Context(), r.PathValue("token"), a.Now())
	if err != nil {
		return err
	}
	a.Logger.Info("token revoked", "id", t.ID, "name", t.Name, "by", r.Caller.Name)
	return route.JSON(w, http.StatusOK, t)
}
