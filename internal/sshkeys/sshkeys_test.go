package sshkeys

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"certlab/internal/cert"
	"certlab/internal/fuzztest"
	"certlab/internal/order"

	"github.com/stretchr/testify/require"
)

func blob(fields ...string) string {
	var out []byte
	for _, f := range fields {
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(f))), f...)
	}
	return base64.StdEncoding.EncodeToString(out)
}

func ed25519Key() string {
	public, _, _ := ed25519.GenerateKey(rand.Reader)
	return "ssh-ed25519 " + blob("ssh-ed25519", string(public))
}

func ecdsaKey(t *testing.T) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	point, err := key.PublicKey.Bytes()
	require.NoError(t, err)
	return "ecdsa-sha2-nistp256 " + blob("ecdsa-sha2-nistp256", "nistp256", string(point))
}

var rsaKey = "ssh-rsa " + blob("ssh-rsa", "\x01\x00\x01", "\x00\xd1"+strings.Repeat("\x55", 255))

func TestAKeyIsTakenAsItIs(t *testing.T) {
	t.Parallel()
	for _, key := range []string{ed25519Key(), ecdsaKey(t), rsaKey, "sk-ssh-ed25519@openssh.com " + blob("sk-ssh-ed25519@openssh.com", strings.Repeat("k", 32), "ssh:")} {
		got, err := (&Resolver{}).Resolve(t.Context(), "  "+key+"  ada@desk \n")
		require.NoError(t, err)
		require.Equal(t, []string{key + " ada@desk"}, got)
	}
}

func TestFaultAKeyThatIsNoneSaysWhy(t *testing.T) {
	t.Parallel()
	good := ed25519Key()
	for text, why := range map[string]string{
		"":                                   "a public key is its type and its base64, such as ssh-ed25519 AAAA…",
		"ssh-ed25519":                        "a public key is its type and its base64, such as ssh-ed25519 AAAA…",
		`command="id" ` + good:               `"command=\"id\"" is no type of key (options before the key are not allowed)`,
		`no-pty ` + good:                     `"no-pty" is no type of key (options before the key are not allowed)`,
		good + "\nssh-ed25519 x":             "it is not one line of text",
		"ssh-dss AAAA":                       "DSA keys are not taken by sshd any more: use an ssh-ed25519 key",
		good[:39]:                            "what follows ssh-ed25519 is not base64 (was it copied whole?)",
		"ssh-ed25519 " + blob("ssh-ed25519"): "its base64 is cut off (was it copied whole?)",
		"ssh-ed25519 " + blob("ssh-ed25519", "short"):                         "its key has 5 bytes, one of the type ssh-ed25519 has 32",
		"ssh-rsa " + strings.Fields(good)[1]:                                  "its base64 does not hold a key of the type ssh-rsa (was it copied whole?)",
		"ssh-rsa " + blob("ssh-rsa", "\x03", strings.Repeat("n", 128)):        "its RSA key is shorter than 2048 bits, which sshd does not take any more",
		"ssh-ed25519 " + blob("ssh-ed25519", strings.Repeat("k", 32), "more"): "its base64 has more than a key of the type ssh-ed25519",
		"-----BEGIN OPENSSH PRIVATE KEY-----":                                 "it is a private key: give the public one, from the file that ends in .pub",
		"ssh-ed25519 " + strings.Repeat("A", 9000):                            "it has 9012 bytes, at most 8192 are allowed",
	} {
		_, err := (&Resolver{}).Resolve(t.Context(), text)
		require.Error(t, err, text)
		require.Equal(t, cert.Invalid, cert.CodeOf(err))
		require.True(t, strings.HasSuffix(err.Error(), ": "+why), "%q\n%s", why, err)
	}
}

// answering is a transport that answers by address.
type answering map[string]func() (*http.Response, error)

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	if answer, ok := a[r.URL.String()]; ok {
		return answer()
	}
	return status(404, "nothing here")()
}

func status(code int, body string) func() (*http.Response, error) {
	return func() (*http.Response, error) {
		return &http.Response{StatusCode: code, Status: http.StatusText(code), Body: io.NopCloser(strings.NewReader(body)), Header: http.Header{}}, nil
	}
}

func TestNamesAreLookedUp(t *testing.T) {
	t.Parallel()
	one, two := ed25519Key(), ecdsaKey(t)
	r := &Resolver{Transport: answering{
		"https://launchpad.net/~ada/+sshkeys": status(200, one+" ada@desk\n\n# note\nssh-dss AAAA old\n"+two+"\n"),
		"https://github.com/ada-l.keys":       status(200, two+"\n"),
	}}
	got, err := r.Resolve(t.Context(), "lp:ada")
	require.NoError(t, err)
	require.Equal(t, []string{one + " ada@desk", two}, got, "what sshd would skip is left out")
	got, err = r.Resolve(t.Context(), "gh:ada-l")
	require.NoError(t, err)
	require.Equal(t, []string{two}, got)
}

func TestFaultANameThatGivesNoKeysSaysWhatToDo(t *testing.T) {
	t.Parallel()
	r := &Resolver{Transport: answering{
		"https://launchpad.net/~empty/+sshkeys": status(200, "\n"),
		"https://launchpad.net/~old/+sshkeys":   status(200, "ssh-dss AAAA\n"),
		"https://launchpad.net/~many/+sshkeys":  status(200, strings.Repeat(rsaKey+"\n", 51)),
		"https://launchpad.net/~huge/+sshkeys":  status(200, strings.Repeat("x", maxBody+1)),
		"https://launchpad.net/~login/+sshkeys": status(302, ""),
		"https://launchpad.net/~down/+sshkeys":  status(503, ""),
		"https://launchpad.net/~page/+sshkeys":  status(200, "<html>please log in to the proxy</html>"),
		"https://launchpad.net/~cut/+sshkeys":   func() (*http.Response, error) { return nil, errors.New("connection refused") },
	}}
	for text, want := range map[string]struct {
		code    cert.Code
		message string
	}{
		"lp:nobody":  {cert.Invalid, "cannot look up lp:nobody: Launchpad knows no such person"},
		"gh:nobody":  {cert.Invalid, "cannot look up gh:nobody: GitHub knows no such person"},
		"lp:empty":   {cert.Invalid, "cannot use the keys of lp:empty: there are none at Launchpad (publish one there, or give the key itself)"},
		"lp:old":     {cert.Invalid, "cannot use the keys of lp:old: Launchpad has none that sshd takes: DSA keys are not taken by sshd any more: use an ssh-ed25519 key (publish an ssh-ed25519 key there, or give the key itself)"},
		"lp:many":    {cert.Invalid, "cannot use the keys of lp:many: there are 51 at Launchpad, at most 50 are taken (give the key itself instead)"},
		"lp:huge":    {cert.Unavailable, "cannot look up lp:huge: Launchpad answered with more than 262144 bytes (give the key itself instead)"},
		"lp:login":   {cert.Unavailable, "cannot look up lp:login: Launchpad answered Found (try again later, or give the key itself instead)"},
		"lp:down":    {cert.Unavailable, "cannot look up lp:down: Launchpad answered Service Unavailable (try again later, or give the key itself instead)"},
		"lp:page":    {cert.Invalid, `cannot use the keys of lp:page: Launchpad has none that sshd takes: "<html>please" is no type of key (options before the key are not allowed) (publish an ssh-ed25519 key there, or give the key itself)`},
		"lp:cut":     {cert.Unavailable, "cannot look up lp:cut: the controller cannot reach Launchpad: connection refused (give the key itself instead, or set the model's https-proxy)"},
		"lp:../root": {cert.Invalid, `cannot look up "lp:../root": that is no name of a person at Launchpad`},
		"gh:a/b":     {cert.Invalid, `cannot look up "gh:a/b": that is no name of a person at GitHub`},
		"bb:ada":     {cert.Invalid, `cannot use the key "bb:ada": keys are found at lp: (Launchpad) and gh: (GitHub), or given themselves`},
	} {
		_, err := r.Resolve(t.Context(), text)
		require.EqualError(t, err, want.message)
		require.Equal(t, want.code, cert.CodeOf(err), text)
	}
}

// hanging never answers.
type hanging struct{}

func (hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestFaultAPlaceThatDoesNotAnswerIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, err := (&Resolver{Transport: hanging{}}).Resolve(context.Background(), "lp:ada")
		require.EqualError(t, err, "cannot look up lp:ada: the controller cannot reach Launchpad: it does not answer in time (give the key itself instead, or set the model's https-proxy)")
	})
}

func TestTheProxyIsUsedButForTheHostsThatAreLeftOut(t *testing.T) {
	t.Parallel()
	transport := NewTransport(order.Proxy{HTTP: "http://p:3128", HTTPS: "http://p:3129", No: "github.com"})
	for address, want := range map[string]string{"https://launchpad.net/~a": "http://p:3129", "http://x/": "http://p:3128", "https://github.com/a": ""} {
		req, err := http.NewRequest(http.MethodGet, address, nil)
		require.NoError(t, err)
		proxy, err := transport.Proxy(req)
		require.NoError(t, err)
		if want == "" {
			require.Nil(t, proxy)
			continue
		}
		require.Equal(t, want, proxy.String())
	}
}

// FuzzParse: what is taken is one line that begins with a type of key, and is taken again as it is.
func FuzzParse(f *testing.F) {
	fuzztest.Run(f, 3000, fuzztest.Seeds(ed25519Key()+" a b", rsaKey, `command="x" `+rsaKey, "ssh-rsa AAAA", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA"), func(t *testing.T, data []byte) {
		key, err := Parse(string(data))
		if err != nil {
			fuzztest.Error(t, err)
			return
		}
		require.NotContains(t, key, "\n")
		again, err := Parse(key)
		require.NoError(t, err)
		require.Equal(t, key, again)
		require.Contains(t, forms, strings.Fields(key)[0])
	})
}
