package maas

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"certlab/internal/cert"
	"github.com/stretchr/testify/require"
)

// What each answer of MAAS becomes, for what reads and for what changes. Bodies are a real region's (reference/maas.md).
func TestFaultAnswers(t *testing.T) {
	t.Parallel()
	type outcome struct {
		fault    cert.ProviderFault
		attempts int
		message  string // without "cannot …: "
	}
	const again = " and whether it has happened is not known (the machine has to be read again)"
	for _, test := range []struct {
		name         string
		status       int
		body         string
		headers      []string
		read, change outcome
		wait         time.Duration
	}{
		{
			name: "bad key", status: 401, body: "Authorization Error: Invalid API key.", headers: []string{"Content-Type", "text/html", "WWW-Authenticate", `OAuth realm="OAuth"`},
			read:   outcome{cert.ProviderRefused, 1, "MAAS at " + testURL + " does not accept the key: Authorization Error: Invalid API key. (give it a key that is good: a new one is under the user's API keys in MAAS)"},
			change: outcome{cert.ProviderRefused, 1, "MAAS at " + testURL + " does not accept the key: Authorization Error: Invalid API key. (give it a key that is good: a new one is under the user's API keys in MAAS)"},
		},
		{
			name: "malformed key since the end of 2025", status: 400, body: "Unrecognised signature: method=GET op=None",
			read:   outcome{cert.ProviderRefused, 1, "MAAS at " + testURL + " does not accept the key: Unrecognised signature: method=GET op=None (give it a key that is good: a new one is under the user's API keys in MAAS)"},
			change: outcome{cert.ProviderRefused, 1, "MAAS at " + testURL + " does not accept the key: Unrecognised signature: method=GET op=None (give it a key that is good: a new one is under the user's API keys in MAAS)"},
		},
		{
			name: "clock", status: 401, body: "Authorization Error: 'Expired timestamp: given 1795449600 and now 1795450200 has a greater difference than threshold 300'",
			read:   outcome{cert.ProviderClock, 1, "the clocks differ too much: here it is 2026-11-23 16:00:00 UTC, and at MAAS 2026-11-23 16:10:00 UTC, which is 10m0s apart, and MAAS allows 300 s (set the one that is wrong: both should follow the same NTP servers, see `timedatectl`; the key is not the fault)"},
			change: outcome{cert.ProviderClock, 1, "the clocks differ too much: here it is 2026-11-23 16:00:00 UTC, and at MAAS 2026-11-23 16:10:00 UTC, which is 10m0s apart, and MAAS allows 300 s (set the one that is wrong: both should follow the same NTP servers, see `timedatectl`; the key is not the fault)"},
		},
		{
			name: "nonce", status: 401, body: "Authorization Error: 'Nonce already used: fixed1'",
			read:   outcome{cert.ProviderUnreachable, 3, "something between here and MAAS at " + testURL + " sends requests twice: Authorization Error: 'Nonce already used: fixed1'"},
			change: outcome{cert.ProviderOutcome, 1, "something between here and MAAS at " + testURL + " has sent the request twice," + again},
		},
		{
			name: "no right", status: 403,
			read:   outcome{cert.ProviderForbidden, 1, "MAAS does not let the key's user do that"},
			change: outcome{cert.ProviderForbidden, 1, "MAAS does not let the key's user do that to this machine (it may have been locked, or taken by somebody else meanwhile; look at its owner in MAAS)"},
		},
		{
			name: "not there", status: 404, body: "No Machine matches the given query.",
			read:   outcome{cert.ProviderNotFound, 1, "MAAS does not have it: No Machine matches the given query."},
			change: outcome{cert.ProviderNotFound, 1, "MAAS does not have it: No Machine matches the given query."},
		},
		{
			name: "no MAAS", status: 404, body: "<html><title>404 Not Found</title></html>", headers: []string{"Content-Type", "text/html"},
			read:   outcome{cert.ProviderInvalid, 1, "there is no MAAS at " + testURL + ", but something else that answers (is the address right? It ends in /MAAS)"},
			change: outcome{cert.ProviderInvalid, 1, "there is no MAAS at " + testURL + ", but something else that answers (is the address right? It ends in /MAAS)"},
		},
		{
			name: "another API", status: 404, body: "Unknown API endpoint: /MAAS/api/2.0/x/.",
			read:   outcome{cert.ProviderInvalid, 1, testURL + " does not know that part of MAAS's API 2.0 (is it the address of a MAAS, and not too old?)"},
			change: outcome{cert.ProviderInvalid, 1, testURL + " does not know that part of MAAS's API 2.0 (is it the address of a MAAS, and not too old?)"},
		},
		{
			name: "invalid", status: 400, body: `{"pool": ["Select a valid choice. That choice is not one of the available choices."], "__all__": ["No."]}`,
			read:   outcome{cert.ProviderInvalid, 1, "MAAS says: No; pool: Select a valid choice. That choice is not one of the available choices"},
			change: outcome{cert.ProviderInvalid, 1, "MAAS says: No; pool: Select a valid choice. That choice is not one of the available choices"},
		},
		{
			// gomaasapi would sleep and repeat it.
			name: "conflict with Retry-After", status: 409, body: "Cannot abort in current state: node abc123 is in state Deployed.", headers: []string{"Retry-After", "10"},
			read:   outcome{cert.ProviderConflict, 1, "MAAS says: Cannot abort in current state: node abc123 is in state Deployed."},
			change: outcome{cert.ProviderConflict, 1, "MAAS says: Cannot abort in current state: node abc123 is in state Deployed."},
		},
		{
			name: "busy without Retry-After", status: 503, body: "Unable to change power state to 'off' for node node7: another action is already in progress for that node.", wait: 10 * time.Second,
			read:   outcome{cert.ProviderBusy, 3, "MAAS is busy: Unable to change power state to 'off' for node node7: another action is already in progress for that node."},
			change: outcome{cert.ProviderBusy, 3, "MAAS is busy: Unable to change power state to 'off' for node node7: another action is already in progress for that node."},
		},
		{
			name: "busy for a time", status: 503, body: "Come back", headers: []string{"Retry-After", "7"}, wait: 7 * time.Second,
			read:   outcome{cert.ProviderBusy, 3, "MAAS is busy: Come back"},
			change: outcome{cert.ProviderBusy, 3, "MAAS is busy: Come back"},
		},
		{
			name: "busy for too long to wait here", status: 503, body: "Come back", headers: []string{"Retry-After", "3000"}, wait: 3000 * time.Second,
			read:   outcome{cert.ProviderBusy, 1, "MAAS is busy: Come back"},
			change: outcome{cert.ProviderBusy, 1, "MAAS is busy: Come back"},
		},
		{
			name: "no rack", status: 503, body: "No rack controllers can access the BMC of node node7", headers: []string{"Retry-After", "5"},
			read:   outcome{cert.ProviderNoRack, 1, "no rack controller of MAAS reaches it: No rack controllers can access the BMC of node node7 (look at the rack controllers in MAAS, and at the machine's network)"},
			change: outcome{cert.ProviderNoRack, 1, "no rack controller of MAAS reaches it: No rack controllers can access the BMC of node node7 (look at the rack controllers in MAAS, and at the machine's network)"},
		},
		{
			name: "502 while it restarts", status: 502, body: "<html>502 Bad Gateway</html>", headers: []string{"Content-Type", "text/html"},
			read:   outcome{cert.ProviderUnreachable, 3, "MAAS at " + testURL + " does not answer what is in front of it (502): it may be restarting"},
			change: outcome{cert.ProviderOutcome, 1, "MAAS at " + testURL + " did not answer what is in front of it (502)," + again},
		},
		{
			name: "504", status: 504, body: "",
			read:   outcome{cert.ProviderUnreachable, 3, "MAAS at " + testURL + " does not answer what is in front of it (504): it may be restarting"},
			change: outcome{cert.ProviderOutcome, 1, "MAAS at " + testURL + " did not answer what is in front of it (504)," + again},
		},
		{
			name: "error of MAAS's own", status: 500, body: "Error determining BMC task queue",
			read:   outcome{cert.ProviderBroken, 1, "MAAS failed with 500: Error determining BMC task queue"},
			change: outcome{cert.ProviderBroken, 1, "MAAS failed with 500: Error determining BMC task queue"},
		},
		{
			name: "elsewhere", status: 302, headers: []string{"Location", "https://maas.example/MAAS/"},
			read:   outcome{cert.ProviderInvalid, 1, "MAAS at " + testURL + ` sends us on to "https://maas.example/MAAS/" (is that its address? Then set maas-url to it)`},
			change: outcome{cert.ProviderInvalid, 1, "MAAS at " + testURL + ` sends us on to "https://maas.example/MAAS/" (is that its address? Then set maas-url to it)`},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			check := func(doing string, want outcome, change bool, call func(context.Context, *Provider) error) {
				synctest.Test(t, func(t *testing.T) {
					tries := 0
					s := oneMachine(held, nil)
					reading := s.answer
					s.answer = func(n int, r *http.Request) (*http.Response, error) {
						if change && r.Method == http.MethodGet {
							return reading(n, r)
						}
						tries++
						return answer(test.status, test.body, test.headers...), nil
					}
					err := call(t.Context(), provider(t, s))
					require.EqualError(t, err, doing+want.message)
					require.Equal(t, want.fault, cert.ProviderFaultOf(err))
					require.Equal(t, want.attempts, tries)
					require.Equal(t, test.wait, err.(*cert.ProviderError).Wait)
				})
			}
			check("cannot list the machines: ", test.read, false, func(ctx context.Context, p *Provider) error {
				_, err := p.List(ctx)
				return err
			})
			check(`cannot abort what MAAS does with "node7": `, test.change, true, func(ctx context.Context, p *Provider) error {
				return p.Abort(ctx, "abc123", "")
			})
		})
	}
}

func TestEachAttemptIsSignedAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := always(503, "busy")
		_, err := provider(t, s).List(t.Context())
		require.Equal(t, cert.ProviderBusy, cert.ProviderFaultOf(err))
		nonces := map[string]bool{}
		for _, a := range s.asked {
			require.Contains(t, a.authorization, `oauth_consumer_key="consumerAA"`)
			require.Contains(t, a.authorization, `oauth_signature="%26secretCCCCCC"`)
			nonces[nonce(t, a.authorization)] = true
		}
		require.Len(t, nonces, 3)
		require.GreaterOrEqual(t, s.asked[1].at.Sub(s.asked[0].at), 10*time.Second, "MAAS was not left alone")
	})
}

// A key that is changed while MAAS reads the old one: the new one is tried, for changes too.
func TestFaultKeyChangedWhileAsking(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p *Provider
		s := oneMachine(held, nil)
		reading := s.answer
		s.answer = func(n int, r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodGet {
				return reading(n, r)
			}
			if strings.Contains(r.Header.Get("Authorization"), "secretCCCCCC") {
				p.SetKey("consumerAA:tokenDDDDDD:secretDDDDDD")
				return answer(401, "Authorization Error: Invalid API key."), nil
			}
			return answer(200, held), nil
		}
		p = provider(t, s)
		require.NoError(t, p.Abort(t.Context(), "abc123", ""))
		require.Equal(t, int64(2), p.Calls()["abort"])
		require.Equal(t, int64(2), p.Calls()["whoami"], "whose the new key is has to be asked")
	})
}

func TestTheKeyIsInNoMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, key := range []string{"", "consumer", "consumer:token", "a:b:c:secretCCCCCC", "a b:c:secretCCCCCC", testKey} {
			p := provider(t, always(401, "Authorization Error: Invalid API key secretCCCCCC."), func(c *Config) { c.Key = key })
			_, err := p.List(t.Context())
			require.Equal(t, cert.ProviderRefused, cert.ProviderFaultOf(err), key)
			require.NotContains(t, err.Error(), "secretCCCCCC")
		}
	})
}

func TestConfigThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"":                             `cannot use "" as MAAS's address: it is not like http://maas.example:5240/MAAS`,
		"maas.example":                 `cannot use "maas.example" as MAAS's address: it is not like http://maas.example:5240/MAAS`,
		"ftp://me:secret@maas.example": `cannot use "…@maas.example" as MAAS's address: it is not like http://maas.example:5240/MAAS`,
		"http://me:secret@maas":        `cannot use an address of MAAS with a user in it: the key is given by itself`,
	} {
		_, err := New(Config{URL: url, Key: testKey, Lab: testLab})
		require.EqualError(t, err, want)
	}
	for url, want := range map[string]string{
		"http://maas:5240":                    "http://maas:5240/MAAS",
		"https://maas:5443/MAAS/":             "https://maas:5443/MAAS",
		"http://maas:5240/MAAS/api/2.0/?op=x": "http://maas:5240/MAAS",
		"http://host/sub/MAAS":                "http://host/sub/MAAS",
	} {
		p, err := New(Config{URL: url, Key: testKey, Lab: testLab})
		require.NoError(t, err)
		require.Equal(t, want, p.url)
	}
	_, err := New(Config{URL: testURL, Lab: "a/b"})
	require.EqualError(t, err, `cannot use "a/b" as the lab's id: it is not made of letters, digits, - and _`)
	_, err = New(Config{URL: testURL, Lab: testLab, Erase: map[string]cert.Erase{"gpu": "twice"}})
	require.EqualError(t, err, `cannot erase disks of pool "gpu" by "twice": that is none of none, quick, secure, full`)
	_, err = New(Config{URL: testURL, Lab: testLab, CACert: []byte("junk")})
	require.EqualError(t, err, `cannot use MAAS's CA certificate: it holds no certificate in PEM`)
}
