package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// In console blocks, and in code within a line.
var makeCommand = regexp.MustCompile("(?:(?m:^\\$ )|`)make ([a-z]+)\\b")

// TestMakeTargetsExist finds every target that a document names in the Makefile.
func TestMakeTargetsExist(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	require.NoError(t, err)
	seen := 0
	for _, path := range documents(t) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, m := range makeCommand.FindAllStringSubmatch(string(text), -1) {
			seen++
			require.Regexp(t, `(?m)^`+m[1]+`:.* ## `, string(makefile), "%s: make %s", path, m[1])
		}
	}
	require.Greater(t, seen, 10)
}
