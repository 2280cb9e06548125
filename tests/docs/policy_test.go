package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

// policyRow is a row of the table of keys: key, what it takes, and what holds by default for each kind.
var policyRow = regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\| [^|]+ \\| ([^|]+) \\| ([^|]+) \\| ([^|]+) \\| ([^|]+) \\| .+ \\|$")

// policyMessage is a row of the table of messages: a file, and what is said of it.
var policyMessage = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ``? ?(.+?) ?``? \\|$")

// TestThePolicyFileIsDocumented holds the reference of the policy file to its keys and to the defaults of each kind.
func TestThePolicyFileIsDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "docs", "reference", "policy.md"))
	require.NoError(t, err)
	rows := map[string][]string{}
	for _, m := range policyRow.FindAllStringSubmatch(string(text), -1) {
		rows[m[1]] = m[2:]
	}
	want := map[string][]string{}
	for n, kind := range cert.CampaignKinds {
		require.NoError(t, cert.DefaultPolicy(cert.CampaignKind(kind)).Validate())
		policyKeys(reflect.ValueOf(cert.DefaultPolicy(cert.CampaignKind(kind))), "", func(key, value string) {
			if want[key] == nil {
				want[key] = make([]string, len(cert.CampaignKinds))
			}
			want[key][n] = value
		})
	}
	require.Equal(t, want, rows)
	for _, kind := range cert.CampaignKinds {
		for _, plan := range cert.DefaultPolicy(cert.CampaignKind(kind)).Plans {
			require.Contains(t, string(text), "`"+plan.Plan+"`")
		}
	}

	examples := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(string(text), -1)
	require.NotEmpty(t, examples)
	for _, m := range examples {
		_, err := cert.ParsePolicy([]byte(m[1]))
		require.NoError(t, err, m[1])
	}
	messages := policyMessage.FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(messages), 20)
	for _, m := range messages {
		_, err := cert.ParsePolicy([]byte(m[1]))
		require.EqualError(t, err, m[2], m[1])
	}
}

// policyKeys tells each key of a policy, with its value as the page shows it.
func policyKeys(v reflect.Value, path string, tell func(key, value string)) {
	for n := range v.NumField() {
		tag, _, _ := strings.Cut(v.Type().Field(n).Tag.Get("yaml"), ",")
		key, field := strings.TrimPrefix(path+"."+tag, "."), v.Field(n)
		switch field.Kind() {
		case reflect.Struct:
			policyKeys(field, key, tell)
		case reflect.Slice:
			if field.Type().Elem().Kind() == reflect.Struct {
				tell(key, "below")
				policyKeys(reflect.New(field.Type().Elem()).Elem(), key, func(key, _ string) { tell(key, "–") })
				continue
			}
			if field.Len() > 0 {
				panic("a default list of " + key + ": show it")
			}
			tell(key, "none")
		default:
			tell(key, fmt.Sprintf("`%v`", field.Interface()))
		}
	}
}
