package fleet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"time"

	"certlab/internal/cert"
)

// As has Call and Persist be made by a person with a token, over TLS, instead of by root.
func (l *Lab) As(ctx context.Context, name string, role cert.Role) (*Lab, error) {
	var made cert.CreatedToken
	var token cert.RedeemedToken
	if err := l.Persist(ctx, http.MethodPost, "/api/v1/tokens", cert.NewToken{Name: name, Role: string(role)}, &made); err != nil {
		return nil, err
	}
	if err := l.Persist(ctx, http.MethodPost, "/api/v1/tokens/redeem", cert.RedeemCode{Code: made.Code}, &token); err != nil {
		return nil, err
	}
	cas, err := l.service.cas()
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, ca := range cas {
		if !pool.AppendCertsFromPEM([]byte(ca)) {
			return nil, errors.New("the service has published what is no certificate")
		}
	}
	person := &Lab{Region: l.Region, Systems: l.Systems, rack: l.rack, service: l.service, token: token.Secret,
		http: &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}}
	return person, nil
}
