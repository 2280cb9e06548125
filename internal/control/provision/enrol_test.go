package provision_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/order"
)

// Whoever has a deployment's token may ask without end to enrol with it: that is noted a few times.
func TestFaultRefusedWithoutEnd(t *testing.T) {
	t.Parallel()
	inLab(t, 1, func(l *lab) {
		l.agents[l.sid("node1")] = "mute"
		l.reserve("node1")
		l.until("it is deployed", func() bool { return slices.Contains(l.kinds("node1"), "deployed") })
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(l, err)
		der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		require.NoError(l, err)
		s := l.script[len(l.script)-1]
		for range 50 {
			_, err := l.fleet().Enrol(l.Context(), order.Enrolment{Deployment: s.Deployment, Token: s.Token, PublicKey: base64.StdEncoding.EncodeToString(der), BootID: "x",
				Identity: order.Identity{SystemID: "other"}})
			require.EqualError(l, err, "cannot enrol an agent for node1: the machine that asks has the system_id other, the one that was deployed has "+l.sid("node1"))
		}
		noted := 0
		for _, kind := range l.kinds("node1") {
			if kind == "enrol-refused" {
				noted++
			}
		}
		require.Equal(l, 20, noted)
	})
}
