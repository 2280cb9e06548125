package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"time"

	"certlab/internal/durable"
)

const keyFile = "key.pem"

// An agentKey is this agent's key pair; it never leaves the machine.
type agentKey struct {
	private *ecdsa.PrivateKey
	public  string // base64 of the SubjectPublicKeyInfo, as the charm publishes it

	replaced error // why the key that was there could not be used; nil: it was, or there was none
}

// loadKey reads the key at path, or makes one and writes it there with mode 0600. A key that cannot be used is set aside.
func loadKey(path string) (*agentKey, error) {
	key, err := readKey(path)
	if !errors.Is(err, errNoKey) {
		return key, err
	}
	aside := setAside(path)
	replaced := fmt.Errorf("%w (it is now %s)", err, aside)
	if key, err = readKey(path); err != nil {
		return nil, err
	}
	key.replaced = replaced
	return key, nil
}

// errNoKey means that a file is there and no key is in it.
var errNoKey = errors.New("it holds no key of an agent")

// readKey reads the key at path, or makes one if nothing is there.
func readKey(path string) (*agentKey, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("cannot make a key: %w", err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			return nil, fmt.Errorf("cannot make a key: %w", err)
		}
		// Linking instead of renaming: of two that make a key at once, both use the one that came first.
		temporary := fmt.Sprintf("%s.%d", path, os.Getpid())
		if err := durable.WriteFile(temporary, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
			return nil, err
		}
		err = os.Link(temporary, path)
		os.Remove(temporary)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("cannot keep the key: %w", err)
		}
		data, err = os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("cannot read the key: %w", err)
		}
	} else if err != nil {
		return nil, fmt.Errorf("cannot read the key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("cannot read the key in %s: %w", path, errNoKey)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	private, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("cannot read the key in %s: %w", path, errNoKey)
	}
	spki, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return nil, fmt.Errorf("cannot use the key: %w", err)
	}
	return &agentKey{private: private, public: base64.StdEncoding.EncodeToString(spki)}, nil
}

// certificate wraps the key in a self-signed certificate: the controller knows the key and asks for nothing else. Its dates mean
// nothing, so that a wrong clock on either side does no harm.
func (k *agentKey) certificate() (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "certlab-agent"},
		NotBefore:    time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.private.Public(), k.private)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("cannot make a client certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k.private}, nil
}

// clientTLS returns the configuration for connections to the controller: our key, and only the pinned authorities. now is the machine's
// clock, which may be wrong; see verifyController.
func clientTLS(key *agentKey, pem []string, now func() time.Time) (*tls.Config, error) {
	certificate, err := key.certificate()
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, text := range pem {
		if !pool.AppendCertsFromPEM([]byte(text)) {
			return nil, errors.New("cannot trust the controller: one of its CA certificates cannot be read")
		}
	}
	return &tls.Config{
		Certificates:       []tls.Certificate{certificate},
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // replaced by VerifyConnection, which differs in the time only
		VerifyConnection: func(state tls.ConnectionState) error {
			return verifyController(state, pool, now())
		},
	}, nil
}
