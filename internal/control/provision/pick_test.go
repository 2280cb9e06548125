package provision

import (
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

// TestPickWithoutAKnownDefault refuses a kernel that no release has also where it is not known which release is the provider's default.
func TestPickWithoutAKnownDefault(t *testing.T) {
	t.Parallel()
	images := []cert.Image{{Release: "jammy", Kernels: []string{"ga-22.04"}}, {Release: "noble", Kernels: []string{"hwe-24.04"}}}
	for kernel, missing := range map[string]string{"": "", "hwe-24.04": "", "hwe-99": "kernel"} {
		_, got := pick(images, "", kernel)
		require.Equal(t, missing, got, kernel)
	}
}
