package authority

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func parse(t *testing.T, text string) *x509.Certificate {
	block, _ := pem.Decode([]byte(text))
	c, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return c
}

// verify checks the chain that is served as a client would that trusts only root.
func verify(t *testing.T, a *Authority, c *clock, root, name string) error {
	served, err := a.TLS().GetCertificate(nil)
	require.NoError(t, err)
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(parse(t, root))
	for _, der := range served.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		between.AddCert(c)
	}
	_, err = served.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: name, CurrentTime: c.t})
	return err
}

func TestTheCertificateFollowsNamesAndTime(t *testing.T) {
	t.Parallel()
	c := &clock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	dir := t.TempDir()
	a, err := Open(dir, c.now)
	require.NoError(t, err)
	_, err = a.Serve([]string{"10.0.0.5", "Lab.Example", "2001:DB8::1", "", "not a name"})
	require.NoError(t, err)
	first, err := a.TLS().GetCertificate(nil)
	require.NoError(t, err)
	root := a.CAs()[0]
	for _, name := range []string{"10.0.0.5", "lab.example", "[2001:db8::1]", "localhost", "127.0.0.1"} {
		require.NoError(t, verify(t, a, c, root, name), name)
	}
	require.Error(t, verify(t, a, c, root, "10.0.0.6"))
	wrongClock := &clock{c.t.Add(-23 * time.Hour)}
	require.NoError(t, verify(t, a, wrongClock, root, "localhost"))

	// The same names: the same certificate, also after a restart. Other names: another, of the same CA.
	again, err := Open(dir, c.now)
	require.NoError(t, err)
	_, err = again.Serve([]string{"2001:db8::1", "lab.example", "10.0.0.5"})
	require.NoError(t, err)
	same, err := again.TLS().GetCertificate(nil)
	require.NoError(t, err)
	require.Equal(t, first.Certificate, same.Certificate)
	_, err = again.Serve([]string{"10.0.0.6"})
	require.NoError(t, err)
	require.NoError(t, verify(t, again, c, root, "10.0.0.6"))
	require.Error(t, verify(t, again, c, root, "10.0.0.5"))

	// Near its end it is renewed, and near the CA's end so is the CA, with the old one still good.
	c.t = c.t.Add(serverLife - serverRenew + time.Hour)
	changed, err := again.Serve([]string{"10.0.0.6"})
	require.NoError(t, err)
	require.False(t, changed)
	c.t = c.t.Add(serverRenew)
	require.NoError(t, verify(t, again, c, root, "10.0.0.6"))
	c.t = parse(t, root).NotAfter.Add(-30 * 24 * time.Hour)
	changed, err = again.Serve([]string{"10.0.0.6"})
	require.NoError(t, err)
	require.True(t, changed)
	require.Len(t, again.CAs(), 2)
	require.Equal(t, root, again.CAs()[1])
	require.NoError(t, verify(t, again, c, root, "10.0.0.6"), "who knows only the old CA")
	require.NoError(t, verify(t, again, c, again.CAs()[0], "10.0.0.6"))
	c.t = parse(t, root).NotAfter.Add(time.Hour)
	require.Len(t, again.CAs(), 1, "an expired CA is not published")
}

func TestAHalfMadeAuthorityIsNotUsed(t *testing.T) {
	t.Parallel()
	c := &clock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	dir := t.TempDir()
	a, err := Open(dir, c.now)
	require.NoError(t, err)
	_, err = a.Serve(nil)
	require.NoError(t, err)
	root := a.CAs()[0]
	// A power cut after the new key, before the new certificate.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ca-0002.key"), []byte("-----BEGIN"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "server.pem"), []byte("half"), 0o600))
	a, err = Open(dir, c.now)
	require.NoError(t, err)
	_, err = a.Serve(nil)
	require.NoError(t, err)
	require.Equal(t, []string{root}, a.CAs())
	require.NoError(t, verify(t, a, c, root, "localhost"))
	n, err := a.Rotate()
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.NoError(t, verify(t, a, c, root, "localhost"))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		info, err := e.Info()
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm()|0o600, e.Name())
	}
}
