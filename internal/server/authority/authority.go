// Package authority is the lab's certificate authority: it makes the CA and the server's certificate in the controller's storage,
// renews the certificate, and rotates the CA.
//
// # Rotation
//
// Agents trust a list of CAs that reaches them through the relation, some time after it has changed. So a new CA comes with a
// second certificate for the same key, signed by the CA before it, and the server sends that one along: who knows only the old CA
// follows the chain through it, who knows the new one does not need it. The old CA stays in the list until it expires.
//
// # Files
//
// In the keys directory, all with mode 0600: ca-0001.key and ca-0001.crt; from the second CA on also ca-0002.cross.crt, with the chain
// of cross-signed certificates; server.pem with the server's key and certificate. A CA exists once its .crt does, which is written last.
package authority

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"certlab/internal/durable"
)

const (
	caLife      = 10 * 365 * 24 * time.Hour
	serverLife  = 365 * 24 * time.Hour
	serverRenew = 60 * 24 * time.Hour // before its end
	backdate    = 24 * time.Hour      // for machines with a wrong clock
)

// An Authority is the CA in a directory. It is safe for concurrent use.
type Authority struct {
	dir string
	now func() time.Time

	mu     sync.Mutex
	cas    []ca // newest first
	names  []string
	server *tls.Certificate
}

type ca struct {
	name  string // ca-0001
	cert  *x509.Certificate
	pem   string
	cross [][]byte // DER, for the chain
}

// Open opens the authority in dir and makes a CA if there is none.
func Open(dir string, now func() time.Time) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot open the certificate authority: %w", err)
	}
	a := &Authority{dir: dir, now: now}
	if err := a.load(); err != nil {
		return nil, fmt.Errorf("cannot open the certificate authority: %w", err)
	}
	if len(a.cas) == 0 || !now().Before(a.cas[0].cert.NotAfter) {
		if err := a.add(); err != nil {
			return nil, fmt.Errorf("cannot make a certificate authority: %w", err)
		}
	}
	return a, nil
}

func (a *Authority) load() error {
	paths, err := filepath.Glob(filepath.Join(a.dir, "ca-[0-9][0-9][0-9][0-9].crt"))
	if err != nil {
		return err
	}
	sort.Sort(sort.Reverse(sort.StringSlice(paths)))
	a.cas = nil
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		cert, err := parseCertificate(text)
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
		c := ca{name: strings.TrimSuffix(filepath.Base(path), ".crt"), cert: cert, pem: string(text)}
		cross, err := os.ReadFile(filepath.Join(a.dir, c.name+".cross.crt"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for {
			block, rest := pem.Decode(cross)
			if block == nil {
				break
			}
			c.cross, cross = append(c.cross, block.Bytes), rest
		}
		a.cas = append(a.cas, c)
	}
	return nil
}

// add makes a new CA, cross-signed by the one before if that is still good.
func (a *Authority) add() error {
	number := 1
	if len(a.cas) > 0 {
		if _, err := fmt.Sscanf(a.cas[0].name, "ca-%d", &number); err != nil {
			return err
		}
		number++
	}
	name := fmt.Sprintf("ca-%04d", number)
	key, keyPEM, err := newKey()
	if err != nil {
		return err
	}
	now := a.now()
	serial := newSerial()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: fmt.Sprintf("Certlab CA %d %s", number, hex.EncodeToString(serial.Bytes()[:4]))},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(caLife), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(a.dir, name+".key"), keyPEM, 0o600); err != nil {
		return err
	}
	if len(a.cas) > 0 && now.Before(a.cas[0].cert.NotAfter) {
		old := a.cas[0]
		oldKey, err := a.key(old.name)
		if err != nil {
			return err
		}
		cross := *template
		cross.SerialNumber = newSerial()
		cross.NotAfter = old.cert.NotAfter
		cross.SubjectKeyId = nil
		crossDER, err := x509.CreateCertificate(rand.Reader, &cross, old.cert, key.Public(), oldKey)
		if err != nil {
			return err
		}
		text := encodeCertificate(crossDER)
		for _, der := range old.cross {
			text = append(text, encodeCertificate(der)...)
		}
		if err := durable.WriteFile(filepath.Join(a.dir, name+".cross.crt"), text, 0o600); err != nil {
			return err
		}
	}
	if err := durable.WriteFile(filepath.Join(a.dir, name+".crt"), encodeCertificate(der), 0o600); err != nil {
		return err
	}
	return a.load()
}

func (a *Authority) key(name string) (crypto.Signer, error) {
	text, err := os.ReadFile(filepath.Join(a.dir, name+".key"))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s.key is not PEM", name)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s.key: %w", name, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s.key cannot sign", name)
	}
	return signer, nil
}

// CAs returns the certificates to trust, as PEM, newest first, without those that have expired.
func (a *Authority) CAs() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []string
	for n, c := range a.cas {
		if n == 0 || a.now().Before(c.cert.NotAfter) {
			out = append(out, c.pem)
		}
	}
	return out
}

// Fingerprint returns the SHA-256 of the newest CA certificate, as people compare it: hexadecimal.
func (a *Authority) Fingerprint() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	sum := sha256.Sum256(a.cas[0].cert.Raw)
	return hex.EncodeToString(sum[:])
}

// Rotate makes a new CA and a server certificate signed by it, and returns how many CAs are published now.
func (a *Authority) Rotate() (int, error) {
	a.mu.Lock()
	err := a.add()
	if err == nil {
		a.server = nil
		err = a.ensureServer()
	}
	a.mu.Unlock()
	if err != nil {
		return 0, fmt.Errorf("cannot rotate the certificate authority: %w", err)
	}
	return len(a.CAs()), nil
}

// Serve makes sure that the server's certificate is signed by the newest CA, good for these names and addresses (and for this
// machine's own), and not near its end. It is quick when that is so. It returns whether the list of CAs has changed.
func (a *Authority) Serve(names []string) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.names = serverNames(names)
	changed := false
	if a.now().Add(serverLife).After(a.cas[0].cert.NotAfter) {
		if err := a.add(); err != nil {
			return false, fmt.Errorf("cannot rotate the certificate authority: %w", err)
		}
		a.server, changed = nil, true
	}
	if err := a.ensureServer(); err != nil {
		return changed, fmt.Errorf("cannot make the server's certificate: %w", err)
	}
	return changed, nil
}

// serverNames sorts names, drops what is no name or address, and adds the local ones.
func serverNames(names []string) []string {
	all := append([]string{"localhost", "127.0.0.1", "::1"}, names...)
	for n, name := range all {
		if ip := net.ParseIP(strings.Trim(name, "[]")); ip != nil {
			all[n] = ip.String()
		} else {
			all[n] = strings.ToLower(name)
		}
	}
	all = slices.DeleteFunc(all, func(s string) bool {
		return s == "" || len(s) > 253 || strings.ContainsAny(s, " /:") && net.ParseIP(s) == nil
	})
	slices.Sort(all)
	return slices.Compact(all)
}

func (a *Authority) ensureServer() error {
	if a.good(a.server) {
		return nil
	}
	if loaded, err := a.loadServer(); err == nil && a.good(loaded) {
		a.server = loaded
		return nil
	}
	key, keyPEM, err := newKey()
	if err != nil {
		return err
	}
	caKey, err := a.key(a.cas[0].name)
	if err != nil {
		return err
	}
	serial := newSerial()
	now := a.now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "certlabd"}, NotBefore: now.Add(-backdate), NotAfter: now.Add(serverLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	for _, name := range a.names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cas[0].cert, key.Public(), caKey)
	if err != nil {
		return err
	}
	// One file, so that a crash cannot leave a key with another key's certificate.
	if err := durable.WriteFile(filepath.Join(a.dir, "server.pem"), append(keyPEM, encodeCertificate(der)...), 0o600); err != nil {
		return err
	}
	a.server, err = a.loadServer()
	return err
}

func (a *Authority) loadServer() (*tls.Certificate, error) {
	text, err := os.ReadFile(filepath.Join(a.dir, "server.pem"))
	if err != nil {
		return nil, err
	}
	c, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, err
	}
	c.Certificate = append(c.Certificate, a.cas[0].cross...)
	return &c, nil
}

// good reports whether c is what should be served.
func (a *Authority) good(c *tls.Certificate) bool {
	if c == nil || c.Leaf == nil || c.Leaf.CheckSignatureFrom(a.cas[0].cert) != nil {
		return false
	}
	now := a.now()
	if now.Before(c.Leaf.NotBefore) || now.After(c.Leaf.NotAfter.Add(-serverRenew)) {
		return false
	}
	have := slices.Clone(c.Leaf.DNSNames)
	for _, ip := range c.Leaf.IPAddresses {
		have = append(have, ip.String())
	}
	slices.Sort(have)
	return slices.Equal(have, a.names)
}

// TLS returns the server's configuration. Clients may show a certificate; who they are is decided by its key, request by request.
func (a *Authority) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequestClientCert,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			if a.server == nil {
				return nil, errors.New("there is no server certificate yet")
			}
			return a.server, nil
		},
	}
}

func newKey() (crypto.Signer, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func newSerial() *big.Int {
	var raw [16]byte
	rand.Read(raw[:])
	raw[0] = raw[0]&0x7f | 0x40 // positive, and always as long
	return new(big.Int).SetBytes(raw[:])
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func parseCertificate(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(bytes.TrimSpace(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("not a PEM certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}
