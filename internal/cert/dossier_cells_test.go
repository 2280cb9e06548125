package cert

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A file of a few MiB may have millions of empty cells, each of which costs more than the comma that makes it.
func TestFaultImportOfMillionsOfCells(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString("machine")
	for n := range 999 {
		fmt.Fprintf(&text, ",env:V%d", n)
	}
	for n := range 1001 {
		fmt.Fprintf(&text, "\nnode%d%s", n, strings.Repeat(",", 999))
	}
	_, err := ReadDossierCSV(strings.NewReader(text.String()))
	require.EqualError(t, err, "cannot import dossiers: there are more than 1000000 cells (import them in parts)")
	whole, _, _ := strings.Cut(text.String(), "\nnode1000,")
	rows, err := ReadDossierCSV(strings.NewReader(whole))
	require.NoError(t, err)
	require.Len(t, rows, 1000)
}
