package certagents

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/fuzztest"
	"certlab/internal/order"
)

// bagOf reads an input as a databag: a JSON object of texts.
func bagOf(data []byte) map[string]string {
	var bag map[string]string
	if json.Unmarshal(data, &bag) != nil {
		return nil
	}
	return bag
}

func textOf(t testing.TB, bag map[string]string) []byte {
	text, err := json.Marshal(bag)
	require.NoError(t, err)
	return text
}

// key is a key pair of this run; what it signs is as long as any other.
func key(t testing.TB) (private *ecdsa.PrivateKey, public string) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	require.NoError(t, err)
	return private, base64.StdEncoding.EncodeToString(der)
}

// FuzzController: whatever the other side has written, the agent's charm takes it whole, waits, or says which key it cannot use.
func FuzzController(f *testing.F) {
	private, _ := key(f)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	require.NoError(f, err)
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	seeds := [][]byte{
		textOf(f, Controller{URLs: []string{"https://10.0.0.11:8443", "https://[fd00::1]:8443"}, CAs: []string{ca, ca}}.Encode()),
		textOf(f, Controller{}.Encode()), textOf(f, map[string]string{"urls": "[]"}), textOf(f, map[string]string{"urls": `["http://x"]`, "cas": `["x"]`}),
	}
	fuzztest.Run(f, 800, seeds, func(t *testing.T, data []byte) {
		got, err := DecodeController(bagOf(data))
		if fuzztest.Error(t, err); err != nil {
			require.Zero(t, got)
			return
		}
		again, err := DecodeController(got.Encode())
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}

// FuzzAgent does the same for the controller's charm.
func FuzzAgent(f *testing.F) {
	_, public := key(f)
	seeds := [][]byte{
		textOf(f, Agent{PublicKey: public, Identity: order.Identity{Hostname: "node-1", SystemID: "abc123", ProductUUID: "x", Architecture: "amd64", Base: "ubuntu@24.04", MACs: []string{"52:54:00:12:34:56"}}}.Encode()),
		textOf(f, Agent{}.Encode()), textOf(f, map[string]string{"public-key": `"eA=="`, "identity": `{"hostname":"a"}`}),
	}
	fuzztest.Run(f, 800, seeds, func(t *testing.T, data []byte) {
		got, err := DecodeAgent(bagOf(data))
		if fuzztest.Error(t, err); err != nil {
			require.True(t, errors.Is(err, ErrNotReady) || reflect.ValueOf(got).IsZero())
			return
		}
		again, err := DecodeAgent(got.Encode())
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}
