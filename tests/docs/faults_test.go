package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	testFunc = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	// As the page writes them: `internal/agent TestFaultAgentKilled`, and behind a slash the name of one of its cases.
	namedTest = regexp.MustCompile("`((?:charms|cmd|internal|tests)[a-z/-]*) (Test\\w+)(?:/([^`]+))?`")
)

// TestEveryFaultIsDocumented finds every test of a fault in the list of faults, and every test that the list names in its package. The rows
// of its tables each name one.
func TestEveryFaultIsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(root, "docs", "reference", "faults.md"))
	require.NoError(t, err)
	packages := tests(t)
	named := requireTests(t, string(page), packages)
	for dir, p := range packages {
		for name := range p.names {
			if strings.HasPrefix(name, "TestFault") {
				require.True(t, named[dir+" "+name], "%s %s is not in docs/reference/faults.md", dir, name)
			}
		}
	}
	rows := 0
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| ---") && !strings.HasSuffix(line, " test |\n") {
			rows++
			require.Regexp(t, namedTest, line, "a fault without a test")
		}
	}
	require.Greater(t, rows, 30)
}

type testPackage struct {
	names map[string]bool
	text  string
}

// TestPromisesAreTested finds every test that the list of promises names.
func TestPromisesAreTested(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(root, "docs", "explanation", "promises.md"))
	require.NoError(t, err)
	require.Greater(t, len(requireTests(t, string(page), tests(t))), 20)
}

// requireTests finds the tests that a page names in their packages, and returns them.
func requireTests(t *testing.T, page string, packages map[string]*testPackage) map[string]bool {
	t.Helper()
	named := map[string]bool{}
	for _, m := range namedTest.FindAllStringSubmatch(page, -1) {
		p, ok := packages[m[1]]
		require.True(t, ok, "%s: there is no such package with tests", m[0])
		require.True(t, p.names[m[2]], "%s: there is no such test", m[0])
		require.True(t, strings.Contains(p.text, m[3]), "%s: there is no such case", m[0])
		named[m[1]+" "+m[2]] = true
	}
	return named
}

// tests returns the packages that have tests, by their directories, without building them.
func tests(t *testing.T) map[string]*testPackage {
	t.Helper()
	out := map[string]*testPackage{}
	for _, top := range []string{"charms", "cmd", "internal", "tests"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, entry os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if entry.IsDir() && entry.Name() == "testdata" {
				return filepath.SkipDir
			}
			if !strings.HasSuffix(path, "_test.go") {
				return nil
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			dir, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			p := out[filepath.ToSlash(dir)]
			if p == nil {
				p = &testPackage{names: map[string]bool{}}
				out[filepath.ToSlash(dir)] = p
			}
			p.text += string(text)
			for _, m := range testFunc.FindAllStringSubmatch(string(text), -1) {
				p.names[m[1]] = true
			}
			return nil
		})
		require.NoError(t, err)
	}
	return out
}
