package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/tests/bench/report"
)

// TestMeasurementsAreDocumented finds every measure that a benchmark reports among those that the documentation explains, and every
// goal that is said not to be met among them.
func TestMeasurementsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "docs", "reference", "measurements.md"))
	require.NoError(t, err)
	_, how, found := strings.Cut(string(text), "\n## How each figure is measured\n")
	require.True(t, found)
	all := measures(t)
	require.NotEmpty(t, all)
	for measure, where := range all {
		require.Contains(t, how, "\n- **"+measure+"**: ", "reported by %s", where)
	}
	for measure := range report.ReadKnown(string(text)) {
		require.Contains(t, all, measure, "no benchmark reports it, and it is said not to meet its goal")
	}
	require.True(t, report.Quotes(string(text), report.TableMark))
}

// measures returns the Measure of every report.Row in the benchmarks, and where it is.
func measures(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "tests", "bench", "*_test.go"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	out := map[string]string{}
	fset := token.NewFileSet()
	for _, path := range files {
		file, err := parser.ParseFile(fset, path, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			row, ok := n.(*ast.CompositeLit)
			if !ok || !isRow(row.Type) {
				return true
			}
			at := fset.Position(row.Pos()).String()
			for _, e := range row.Elts {
				field, ok := e.(*ast.KeyValueExpr)
				require.True(t, ok, "%s: name the fields", at)
				if field.Key.(*ast.Ident).Name != "Measure" {
					continue
				}
				value, ok := field.Value.(*ast.BasicLit)
				require.True(t, ok, "%s: the measure must be a literal, what varies is its case", at)
				measure, err := strconv.Unquote(value.Value)
				require.NoError(t, err)
				out[measure] = at
			}
			return true
		})
	}
	return out
}

func isRow(e ast.Expr) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != "Row" {
		return false
	}
	pkg, ok := s.X.(*ast.Ident)
	return ok && pkg.Name == "report"
}
