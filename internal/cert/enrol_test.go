package cert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/fuzztest"
	"certlab/internal/order"
)

func agentKey(t testing.TB) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	return base64.StdEncoding.EncodeToString(der)
}

// enrolment is a deployment, its machine, and the enrolment that belongs to both.
func enrolment(t testing.TB) (Deployment, Provided, order.Enrolment) {
	token := NewSecret(order.EnrolPrefix)
	d := Deployment{ID: NewID(DeploymentID, time.Now()), Phase: PhaseBoot, TokenHash: HashSecret(token)}
	m := Provided{ID: "abc123", Hostname: "node7", ProductUUID: "4C4C4544-0042-3510-8052-B4C04F4B3433", MACs: []string{"52:54:00:AA:bb:01", "52:54:00:aa:bb:02"}}
	return d, m, order.Enrolment{Deployment: d.ID, Token: token, PublicKey: agentKey(t), BootID: "0b3f0a5e-7a4b-4a56-9be7-5f0d8d0b4f11",
		Identity: order.Identity{Hostname: "node7", SystemID: "abc123", ProductUUID: "4c4c4544-0042-3510-8052-b4c04f4b3433"}, MACs: []string{"52:54:00:aa:bb:02"}}
}

func TestWhoMayEnrol(t *testing.T) {
	t.Parallel()
	other := agentKey(t)
	for name, test := range map[string]struct {
		change func(*Deployment, *Provided, *order.Enrolment)
		code   Code // empty: may
		says   string
	}{
		"as it should be":       {func(*Deployment, *Provided, *order.Enrolment) {}, "", ""},
		"by its UUID alone":     {func(_ *Deployment, _ *Provided, e *order.Enrolment) { e.MACs = nil }, "", ""},
		"by one MAC alone":      {func(_ *Deployment, _ *Provided, e *order.Enrolment) { e.Identity.ProductUUID = "" }, "", ""},
		"MAC of another board":  {func(_ *Deployment, m *Provided, _ *order.Enrolment) { m.ProductUUID = "" }, "", ""},
		"again":                 {func(d *Deployment, _ *Provided, e *order.Enrolment) { d.AgentKey = e.PublicKey }, "", ""},
		"again when it is used": {func(d *Deployment, _ *Provided, e *order.Enrolment) { d.AgentKey, d.Phase = e.PublicKey, PhaseReady }, "", ""},
		"another key":           {func(d *Deployment, _ *Provided, _ *order.Enrolment) { d.AgentKey = other }, Forbidden, "the token of deployment "},
		"another machine":       {func(_ *Deployment, _ *Provided, e *order.Enrolment) { e.Identity.SystemID = "xyz789" }, Forbidden, "the machine that asks has the system_id xyz789, the one that was deployed has abc123"},
		"no system_id":          {func(_ *Deployment, _ *Provided, e *order.Enrolment) { e.Identity.SystemID = "" }, Forbidden, "has the system_id none"},
		"another's disk": {func(_ *Deployment, _ *Provided, e *order.Enrolment) {
			e.Identity.ProductUUID, e.MACs = "11111111-2222-3333-4444-555555555555", []string{"52:54:00:00:00:09", "00:00:00:00:00:00"}
		}, Forbidden, "neither its product UUID nor any of its MAC addresses is one that its provider knows"},
		"MAC of zeros": {func(_ *Deployment, m *Provided, e *order.Enrolment) {
			m.MACs, e.MACs, e.Identity.ProductUUID = []string{"00:00:00:00:00:00"}, []string{"00:00:00:00:00:00"}, ""
		}, Forbidden, "neither its product UUID"},
		"nothing is known": {func(_ *Deployment, m *Provided, e *order.Enrolment) {
			m.MACs, m.ProductUUID, e.Identity.ProductUUID = nil, "", ""
		}, Forbidden, "neither its product UUID"},
		"another token":        {func(_ *Deployment, _ *Provided, e *order.Enrolment) { e.Token = NewSecret(order.EnrolPrefix) }, Unauthorized, "the token is not that of a deployment that is under way"},
		"no token any more":    {func(d *Deployment, _ *Provided, e *order.Enrolment) { d.TokenHash = "" }, Unauthorized, "the token is not that of"},
		"another deployment":   {func(_ *Deployment, _ *Provided, e *order.Enrolment) { e.Deployment = NewID(DeploymentID, time.Now()) }, Unauthorized, "the token is not that of deployment"},
		"released":             {func(d *Deployment, _ *Provided, _ *order.Enrolment) { d.Phase = PhaseRelease }, Unauthorized, " is over: its token is not good any more (deploy the machine again)"},
		"recovering":           {func(d *Deployment, _ *Provided, _ *order.Enrolment) { d.Phase = PhaseRecover }, Unauthorized, " is over"},
		"over":                 {func(d *Deployment, _ *Provided, _ *order.Enrolment) { d.Finished = &time.Time{} }, Unauthorized, " is over"},
		"no key":               {func(_ *Deployment, _ *Provided, e *order.Enrolment) { e.PublicKey = "AAAA" }, Rejected, "public_key is no key of an agent"},
		"no boot":              {func(_ *Deployment, _ *Provided, e *order.Enrolment) { e.BootID = "" }, Rejected, "does not say its boot_id"},
		"a text over lines":    {func(_ *Deployment, _ *Provided, e *order.Enrolment) { e.Identity.Kernel = "6.8\nevil" }, Rejected, "is no name"},
		"a text without bound": {func(_ *Deployment, _ *Provided, e *order.Enrolment) { e.Identity.Hostname = string(make([]byte, 4000)) }, Rejected, "is no name"},
		"MACs without bound":   {func(_ *Deployment, _ *Provided, e *order.Enrolment) { e.MACs = make([]string, 1000) }, Rejected, "it names 1000 MAC addresses"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, m, e := enrolment(t)
			test.change(&d, &m, &e)
			err := CheckEnrolment(d, m, e)
			if test.code == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.says)
			require.Equal(t, test.code, CodeOf(err))
			require.NotContains(t, err.Error(), e.Token)
		})
	}
}

// FuzzEnrolment holds that nobody enrols with what is not the token, whatever else they say.
func FuzzEnrolment(f *testing.F) {
	d, m, e := enrolment(f)
	var seeds [][]byte
	for _, change := range []func(*order.Enrolment){func(*order.Enrolment) {}, func(e *order.Enrolment) { e.Token = "cld_" }, func(e *order.Enrolment) { e.MACs = nil }} {
		c := e
		change(&c)
		text, err := json.Marshal(c)
		require.NoError(f, err)
		seeds = append(seeds, text)
	}
	fuzztest.Run(f, 400, seeds, func(t *testing.T, body []byte) {
		var got order.Enrolment
		if json.Unmarshal(body, &got) != nil {
			return
		}
		if err := CheckEnrolment(d, m, got); err == nil && (got.Token != e.Token || got.Identity.SystemID != m.ID) {
			t.Fatalf("%+v enrols", got)
		}
	})
}
