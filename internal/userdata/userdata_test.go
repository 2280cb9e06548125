package userdata

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/order"
)

const testToken = "cld_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"

// authority returns a certificate authority as PEM, with its key and certificate.
func authority(t testing.TB) (string, *ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Certlab test " + rand.Text()}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), key, certificate
}

func params(t testing.TB) Params {
	ca, _, _ := authority(t)
	return Params{Controllers: []string{"https://10.0.0.1:8443", "https://[fd00::1]:8443"}, CAs: []string{ca}, Deployment: "d0123456789abcdefghjkmnpqrs",
		Token: testToken, Made: time.Now().Add(-time.Hour)}
}

func sshKeyOf(bits int, comment string) string {
	return "ssh-rsa " + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xa5}, bits/8+20)) + " " + comment
}

func TestScriptIsPOSIXShellAndSmall(t *testing.T) {
	t.Parallel()
	p := params(t)
	ca2, _, _ := authority(t)
	p.CAs = append(p.CAs, ca2)
	p.Keys = []string{sshKeyOf(4096, "a person's key"), sshKeyOf(4096, "$(reboot) `reboot` 'x'")}
	p.Proxy = order.Proxy{HTTP: "http://user:pass@proxy:3128", HTTPS: "http://proxy:3128", No: "10.0.0.0/8"}
	p.Mirror = "http://mirror.lab/ubuntu/"
	script, err := Script(p)
	require.NoError(t, err)
	require.True(t, bytes.HasPrefix(script, []byte("#!/bin/sh\n")))
	require.Less(t, len(script), MaxSize)
	for _, shell := range []string{"sh", "dash", "bash"} {
		if _, err := exec.LookPath(shell); err != nil {
			continue
		}
		check := exec.Command(shell, "-n")
		check.Stdin = bytes.NewReader(script)
		out, err := check.CombinedOutput()
		require.NoError(t, err, "%s: %s", shell, out)
		// The part that is written to a file is quoted, so that it has to be looked at by itself.
		_, start, _ := strings.Cut(string(script), "start.sh\" 700 <<'CERTLAB-END'\n")
		start, _, _ = strings.Cut(start, "\nCERTLAB-END\n")
		check = exec.Command(shell, "-n")
		check.Stdin = strings.NewReader(start)
		out, err = check.CombinedOutput()
		require.NoError(t, err, "%s: %s", shell, out)
	}
	again, err := Script(p)
	require.NoError(t, err)
	require.Equal(t, string(script), string(again), "it is the same each time: it is made anew after the controller was killed")
}

func TestScriptRefusesWhatItCannotSay(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*Params)
		says   string
	}{
		"no address":                   {func(p *Params) { p.Controllers = nil }, "no address or no certificate yet"},
		"no certificate":               {func(p *Params) { p.CAs = nil }, "no address or no certificate yet"},
		"address with a shell's words": {func(p *Params) { p.Controllers = []string{"https://a/';reboot;'"} }, "is not https://host:port"},
		"plain http":                   {func(p *Params) { p.Controllers = []string{"http://10.0.0.1:8443"} }, "is not https://host:port"},
		"broken certificate":           {func(p *Params) { p.CAs = []string{"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} }, "cannot be read"},
		"token":                        {func(p *Params) { p.Token = "cld_secret'" }, "the deployment's token has not the form of one"},
		"deployment":                   {func(p *Params) { p.Deployment = "$(id)" }, "is no deployment"},
		"user":                         {func(p *Params) { p.User = "a b" }, "is no name of a user"},
		"key":                          {func(p *Params) { p.Keys = []string{"ssh-rsa AAAA\nCERTLAB-END"} }, "is no ssh public key"},
		"key with a command":           {func(p *Params) { p.Keys = []string{`command="x" ssh-rsa AAAA`} }, "is no ssh public key"},
		"mirror":                       {func(p *Params) { p.Mirror = "http://m/|e" }, "is not an http URL"},
		"proxy":                        {func(p *Params) { p.Proxy.HTTP = "http://p\"; evil \"" }, "a proxy's URL holds a quote"},
		"too many keys": {func(p *Params) {
			for range 30 {
				p.Keys = append(p.Keys, sshKeyOf(4096, "k"))
			}
		}, "name fewer or shorter ssh keys: 30 were given"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := params(t)
			test.change(&p)
			_, err := Script(p)
			require.ErrorContains(t, err, "cannot write the user-data: ")
			require.ErrorContains(t, err, test.says)
			require.NotContains(t, err.Error(), p.Token)
		})
	}
}
