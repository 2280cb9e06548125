package cert

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"certlab/internal/fuzztest"
)

func TestFaultADossierCSVThatCannotBeReadSaysWhereAndWhy(t *testing.T) {
	t.Parallel()
	for text, message := range map[string]string{
		"":                       "cannot import dossiers: the file is empty (the first line names the columns)",
		"machine,racks\nnode1,x": `cannot import dossiers: there is no column "racks" (there are: machine, cid, rack, position, contact, notes, shared, secure_id, ability:NAME, manifest:ID, env:NAME; did you mean rack?)`,
		"machine;rack\nnode1;x":  `cannot import dossiers: there is no column "machine;rack" (there are: machine, cid, rack, position, contact, notes, shared, secure_id, ability:NAME, manifest:ID, env:NAME; cells are separated by commas)`,
		"machine,ability:\nn,y":  `cannot import dossiers: there is no column "ability:" (there are: machine, cid, rack, position, contact, notes, shared, secure_id, ability:NAME, manifest:ID, env:NAME)`,
		"rack\nx":                "cannot import dossiers: there is no column machine, which says what a line is about",
		"machine,rack,rack\n":    "cannot import dossiers: the column rack is there twice",
		"machine,rack\nnode1,a\nnode2,b\nNODE1,c":  "cannot import dossiers: lines 2 and 4 are both about NODE1 (leave one of them)",
		"machine,rack\nnode1,a,b":                  "cannot import dossiers: line 2 has another number of cells than the first line has columns",
		"machine,rack\nnode1,\"a":                  `cannot import dossiers: line 2 is no CSV: extraneous or missing " in quoted-field`,
		"machine,rack\n,a":                         "cannot import dossiers: line 2 names no machine",
		"machine,secure_id\nnode1,short-secret":    "cannot import dossiers: line 2: secure_id must have 15 to 64 letters and digits, as the certification site shows it",
		"machine\n" + strings.Repeat("x\n", 10001): "cannot import dossiers: lines 2 and 3 are both about x (leave one of them)",
	} {
		_, err := ReadDossierCSV(strings.NewReader(text))
		require.EqualError(t, err, message)
		require.Equal(t, Invalid, CodeOf(err))
	}
	for text, message := range map[string]string{
		"machine,cid\nnode1,a b":                             `cannot import dossiers: line 2 (node1): cid is "a b": it must have letters, digits, . _ or - only, such as 202411-36001`,
		"machine,ability:bmc\nnode1,perhaps":                 `cannot import dossiers: line 2 (node1): ability:bmc is "perhaps": it must be true, false or empty`,
		"machine,manifest:has_camera\nnode1,true":            `cannot import dossiers: line 2 (node1): "has_camera" is no manifest entry: it is named by its full id, such as com.canonical.certification::has_camera`,
		"machine,env:A-B\nnode1,x":                           `cannot import dossiers: line 2 (node1): cannot set the environment variable "A-B": not a variable's name`,
		"machine,shared\nnode1,iperf-a iperf-a":              "cannot import dossiers: line 2 (node1): the shared thing iperf-a is named twice",
		"machine,rack\nnode1,\"a\nb\"":                       "cannot import dossiers: line 2 (node1): rack must be one line of at most 200 bytes",
		"machine,ability:Big\nnode1,yes":                     `cannot import dossiers: line 2 (node1): "Big" is no name of an ability: it must have small letters, digits and - only, such as rtc-wake`,
		"machine,shared\nnode1,a/b":                          `cannot import dossiers: line 2 (node1): "a/b" is no name of a shared thing: it must have letters, digits, . _ or - only, such as iperf-a`,
		"machine,manifest:a::b\nnode1,\"x\ny\"":              `cannot import dossiers: line 2 (node1): the manifest entry a::b is "x\ny": it must be true, false, a number or one line of text`,
		"machine,notes\nnode1," + strings.Repeat("n", 10001): "cannot import dossiers: line 2 (node1): notes must be text of at most 10000 bytes",
	} {
		rows, err := ReadDossierCSV(strings.NewReader(text))
		require.NoError(t, err)
		_, err = rows[0].Apply(Dossier{})
		require.EqualError(t, err, message)
	}
}

func TestFaultMoreLinesThanAnImportTakesAreRefused(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString("machine,rack\n")
	for n := range MaxDossierLines {
		fmt.Fprintf(&text, "node%d,r\n", n)
	}
	rows, err := ReadDossierCSV(strings.NewReader(text.String()))
	require.NoError(t, err)
	require.Len(t, rows, MaxDossierLines)
	_, err = ReadDossierCSV(strings.NewReader(text.String() + "one-more,r\n"))
	require.EqualError(t, err, "cannot import dossiers: there are more than 10000 lines (import them in parts)")
}

func TestAnImportChangesWhatItsColumnsAreAbout(t *testing.T) {
	t.Parallel()
	before := Dossier{CID: "202411-36001", Rack: "r1", Notes: "keep", Manifest: map[string]string{"a::one": "true", "a::two": "3"}, Abilities: map[string]bool{"bmc": true}}
	rows, err := ReadDossierCSV(strings.NewReader("\ufeffmachine, rack ,cid,manifest:a::two,manifest:a::new,ability:display,shared,secure_id\nnode1, r2 ,,,TRUE,no,b a,ABCDEF123456789\n"))
	require.NoError(t, err)
	require.Equal(t, "ABCDEF123456789", rows[0].SecureID)
	after, err := rows[0].Apply(before)
	require.NoError(t, err)
	require.Equal(t, Dossier{Rack: "r2", Notes: "keep", Manifest: map[string]string{"a::one": "true", "a::new": "true"}, Abilities: map[string]bool{"bmc": true, "display": false},
		Environment: map[string]string{}, Shared: []string{"a", "b"}}, after)
	require.Equal(t, map[string]string{"a::one": "true", "a::two": "3"}, before.Manifest, "the dossier before is left alone")
	require.Equal(t, []DossierChange{
		{Field: "ability:display", After: "false"}, {Field: "cid", Before: "202411-36001"}, {Field: "manifest:a::new", After: "true"},
		{Field: "manifest:a::two", Before: "3"}, {Field: "rack", Before: "r1", After: "r2"}, {Field: "shared", After: "a b"},
	}, Changes(before.Fields(), after.Fields()))
}

func drawDossier(t *rapid.T, name string) Dossier {
	line := rapid.StringMatching(`[a-z,";=+ ]{0,12}`)
	d := Dossier{Machine: NewID(MachineID, epoch), Hostname: name, CID: rapid.StringMatching(`([0-9]{3}-[0-9]{2})?`).Draw(t, "cid"), Rack: line.Draw(t, "rack"),
		Notes:       strings.Join(rapid.SliceOfN(line, 0, 3).Draw(t, "notes"), "\n"),
		Abilities:   rapid.MapOfN(rapid.StringMatching(`[a-z][a-z-]{0,3}`), rapid.Bool(), 0, 3).Draw(t, "abilities"),
		Manifest:    rapid.MapOfN(rapid.StringMatching(`[a-z]::[a-z]{1,3}`), rapid.StringMatching(`[a-zA-Z0-9,"]{1,5}`), 0, 3).Draw(t, "manifest"),
		Environment: rapid.MapOfN(rapid.StringMatching(`[A-Z]{1,3}`), rapid.StringMatching(`[a-z,"]{1,5}`), 0, 3).Draw(t, "environment"),
		Shared:      rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,3}`), 0, 3, rapid.ID).Draw(t, "shared")}
	return d.Tidy()
}

// TestWhatIsExportedIsImportedWithoutAChange holds export and import to each other, for dossiers before and after any other.
func TestWhatIsExportedIsImportedWithoutAChange(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var all []Dossier
		for n := range rapid.IntRange(1, 3).Draw(t, "machines") {
			all = append(all, drawDossier(t, fmt.Sprintf("node%d", n)))
		}
		var out bytes.Buffer
		require.NoError(t, WriteDossierCSV(&out, all))
		rows, err := ReadDossierCSV(&out)
		require.NoError(t, err)
		require.Len(t, rows, len(all))
		for n, row := range rows {
			require.NoError(t, all[n].Validate())
			require.Equal(t, all[n].Hostname, row.Machine)
			after, err := row.Apply(all[n])
			require.NoError(t, err)
			require.Equal(t, all[n], after)
			other := drawDossier(t, all[n].Hostname)
			after, err = row.Apply(other)
			require.NoError(t, err)
			for name, value := range all[n].Fields() {
				require.Equal(t, value, after.Fields()[name], "an import wins")
			}
		}
	})
}

func FuzzReadDossierCSV(f *testing.F) {
	fuzztest.Run(f, 2000, fuzztest.Seeds("machine,rack,ability:bmc,manifest:a::b,env:A,secure_id\nnode1,r,yes,true,x,ABCDEFGHIJKLMNO\n", "machine\n\"a\nb\"", "machine;rack"), func(t *testing.T, data []byte) {
		rows, err := ReadDossierCSV(bytes.NewReader(data))
		if err != nil {
			require.Equal(t, Invalid, CodeOf(err))
			fuzztest.Error(t, err)
			return
		}
		for _, row := range rows {
			d, err := row.Apply(Dossier{})
			if err != nil {
				fuzztest.Error(t, err)
				continue
			}
			require.NoError(t, d.Validate())
		}
	})
}

func TestAMachinesOwnGoesBeforeItsZones(t *testing.T) {
	t.Parallel()
	d := Dossier{Environment: map[string]string{"A": "machine"}, Shared: []string{"b", "a"}}
	z := ZoneDossier{Environment: map[string]string{"A": "zone", "B": "zone"}, Shared: []string{"b", "c"}}
	require.Equal(t, map[string]string{"A": "machine", "B": "zone"}, SiteEnvironment(d, z))
	require.Equal(t, []string{"a", "b", "c"}, SharedBy(d, z))
	require.Nil(t, SiteEnvironment(Dossier{}, ZoneDossier{}))
}
