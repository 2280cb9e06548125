package cert_test

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

// versions in their order.
func versions() []string {
	return []string{"0~~", "0~", "0", "0.0.1", "1~rc1", "1", "1-0ubuntu1~22.04", "1-0ubuntu1", "1a", "1+b1", "1.0-1", "1.0-10", "1.2", "1.10", "5.15.0-127.137", "5.15.0-127.137+1",
		"6.8.0-9.9", "6.8.0-50.51", "6.8.0-51.52~22.04.1", "6.8.0-51.52", "6.8.0-51.52.1", "6.8.0-51.53", "6.8.0-101.101", "6.8.1-1015.16", "6.11.0-1.1", "10", "1:0.1", "2:0"}
}

func TestVersionsAreInDpkgsOrder(t *testing.T) {
	t.Parallel()
	list := versions()
	for i, a := range list {
		for j, b := range list {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			require.Equal(t, want, cert.CompareVersions(a, b), "%q and %q", a, b)
		}
	}
	require.Zero(t, cert.CompareVersions("0:1.0", "1.0"))
	require.Zero(t, cert.CompareVersions("1.01", "1.1"))
	require.Zero(t, cert.CompareVersions("1.0", "1.0-0"))
	require.Equal(t, 1, cert.CompareVersions("99999999999999999999999999", "99999999999999999999999998"))
}

func TestDpkgAgrees(t *testing.T) {
	t.Parallel()
	dpkg, err := exec.LookPath("dpkg")
	if err != nil {
		t.Skip("there is no dpkg here")
	}
	list := versions()
	for i, a := range list {
		for _, b := range []string{list[max(0, i-1)], a, list[(i*7+3)%len(list)], list[(i*11+5)%len(list)]} {
			for op, holds := range map[string]bool{"lt": cert.CompareVersions(a, b) < 0, "eq": cert.CompareVersions(a, b) == 0} {
				err := exec.Command(dpkg, "--compare-versions", a, op, b).Run()
				require.Equal(t, err == nil, holds, "%q %s %q", a, op, b)
			}
		}
	}
}
