package results_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"html"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"

	"certlab/internal/results"
)

var update = flag.Bool("update", false, "write the golden files anew")

// samples are archives that real versions of Checkbox wrote.
func samples(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.tar.xz")
	require.NoError(t, err)
	require.Len(t, files, 8)
	return files
}

func sampleName(file string) string { return strings.TrimSuffix(filepath.Base(file), ".tar.xz") }

func readFile(t testing.TB, file string, opts results.Options) *results.Submission {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	sub, err := results.Read(f, opts)
	require.NoError(t, err)
	return sub
}

// unpack returns an archive's files as another reader than ours gives them.
func unpack(t testing.TB, file string) map[string][]byte {
	t.Helper()
	once, _ := unpacked.LoadOrStore(file, sync.OnceValues(func() (map[string][]byte, error) { return unpackFile(file) }))
	members, err := once.(func() (map[string][]byte, error))()
	require.NoError(t, err)
	return maps.Clone(members)
}

// unpacked remembers samples: under the race detector, unpacking them for each test would take most of the tests' time.
var unpacked sync.Map

func unpackFile(file string) (map[string][]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := xz.NewReader(f)
	if err != nil {
		return nil, err
	}
	members := make(map[string][]byte)
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return members, nil
		}
		if err != nil {
			return nil, err
		}
		if members[h.Name], err = io.ReadAll(archive); err != nil {
			return nil, err
		}
	}
}

// TestSamplesReadAsRecorded holds the reading of each sample against a golden file: its summary, and a line for each job.
func TestSamplesReadAsRecorded(t *testing.T) {
	t.Parallel()
	for _, file := range samples(t) {
		t.Run(sampleName(file), func(t *testing.T) {
			t.Parallel()
			sub := readFile(t, file, results.Options{})
			require.Equal(t, results.Archive, sub.Format)
			var b bytes.Buffer
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			require.NoError(t, enc.Encode(sub.Summary()))
			fmt.Fprintf(&b, "kernel %q distribution %q packages %d collectors %d version %q\n", sub.System.Kernel,
				sub.System.Distribution["description"], len(sub.System.Packages), len(sub.System.Collectors), sub.System.CollectorsVersion)
			for section, r := range sub.Records() {
				fmt.Fprintf(&b, "%s | %s | %s | %s | %s | %s | %d | %s %s\n",
					section, r.ID, r.Name, r.Outcome, r.CertificationStatus, r.Category, r.LogSize, r.Stdout, r.Stderr)
			}
			golden := strings.TrimSuffix(file, ".tar.xz") + ".golden"
			if *update {
				require.NoError(t, os.WriteFile(golden, b.Bytes(), 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), b.String())
		})
	}
}

// TestNothingIsLost compares every field of every record with what encoding/json finds in the same file.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	for _, file := range samples(t) {
		t.Run(sampleName(file), func(t *testing.T) {
			t.Parallel()
			members := unpack(t, file)
			var raw struct {
				Results     []map[string]any `json:"results"`
				Resources   []map[string]any `json:"resource-results"`
				Attachments []map[string]any `json:"attachment-results"`
				Packages    []map[string]string
				Launcher    map[string]map[string]string
				Categories  map[string]string          `json:"category_map"`
				System      map[string]json.RawMessage `json:"system_information"`
			}
			require.NoError(t, json.Unmarshal(members["submission.json"], &raw))
			sub := readFile(t, file, results.Options{KeepLog: 1 << 20})

			got := make(map[string]*results.Result)
			for _, r := range sub.Records() {
				require.NotContains(t, got, r.ID)
				got[r.ID] = r
			}
			n := 0
			for _, list := range [][]map[string]any{raw.Results, raw.Resources, raw.Attachments} {
				for _, want := range list {
					n++
					id := html.UnescapeString(want["full_id"].(string))
					r := got[id]
					require.NotNil(t, r, id)
					for key, value := range map[string]string{
						"id": r.ShortID, "name": r.Name, "category": r.Category, "category_id": r.CategoryID,
					} {
						require.Equal(t, html.UnescapeString(want[key].(string)), value, key)
					}
					for key, value := range map[string]string{
						"outcome": string(r.Outcome), "status": r.Status, "certification_status": r.CertificationStatus, "io_log": r.Log,
					} {
						require.Equal(t, want[key].(string), value, key)
					}
					for key, value := range map[string]string{"comments": r.Comments, "template_id": r.TemplateID, "plugin": r.Plugin} {
						if want[key] == nil {
							require.True(t, value == "" || key == "plugin", "%s: %q", key, value)
						} else {
							require.Equal(t, want[key].(string), value, key)
						}
					}
					require.Equal(t, want["duration"].(float64), r.Duration)
					if want["skip_reason"] == nil {
						require.Empty(t, r.SkipReason)
					} else {
						wanted, err := json.Marshal(want["skip_reason"])
						require.NoError(t, err)
						require.JSONEq(t, string(wanted), string(r.SkipReason))
						_, ok := r.Skip()
						require.True(t, ok)
					}
					require.Empty(t, r.Extra)
				}
			}
			require.Len(t, got, n)
			require.Empty(t, sub.Extra)
			require.Len(t, sub.System.Packages, len(raw.Packages)+packagesCollected(sub, raw.Packages))
			require.Equal(t, raw.Launcher, sub.Launcher)
			require.Len(t, sub.Categories, len(raw.Categories))
			for name, value := range raw.System {
				if name == "version" {
					continue
				}
				var want struct {
					Success bool
					Tool    string `json:"tool_version"`
					Outputs struct {
						Payload        json.RawMessage
						Stdout, Stderr string
						ReturnCode     int `json:"return_code"`
					}
				}
				require.NoError(t, json.Unmarshal(value, &want))
				c := sub.System.Collectors[name]
				require.Equal(t, want.Success, c.Success)
				require.Equal(t, want.Tool, c.ToolVersion)
				require.Equal(t, want.Outputs.Stdout, c.Stdout)
				require.Equal(t, want.Outputs.Stderr, c.Stderr)
				require.Equal(t, want.Outputs.ReturnCode, c.ReturnCode)
				if want.Outputs.Payload != nil {
					require.JSONEq(t, string(want.Outputs.Payload), string(c.Payload.JSON))
				}
			}
			for _, r := range sub.Records() {
				for _, member := range []string{r.Stdout, r.Stderr} {
					if member != "" {
						require.Contains(t, members, member)
						delete(members, member)
					}
				}
			}
			for name := range members {
				require.True(t, strings.HasPrefix(name, "submission."), "no job of %s", name)
			}
		})
	}
}

// packagesCollected is the number of packages when only the collector of 7.1 and newer named them.
func packagesCollected(sub *results.Submission, listed []map[string]string) int {
	if listed != nil {
		return 0
	}
	return len(sub.System.Packages)
}

// TestEntitiesAreUnescapedInSomeFieldsOnly uses what the two odd samples have on purpose.
func TestEntitiesAreUnescapedInSomeFieldsOnly(t *testing.T) {
	t.Parallel()
	sub := readFile(t, "testdata/v5.0.0-odd.tar.xz", results.Options{KeepLog: 1 << 20})
	byID := make(map[string]*results.Result)
	for _, r := range sub.Records() {
		byID[r.ID] = r
	}
	odd := byID[`com.example.lab::tmpl/dev-we/ird:näme&<x>"q"`]
	require.NotNil(t, odd)
	require.Equal(t, `tmpl/dev-we/ird:näme&<x>"q"`, odd.ShortID)
	require.Equal(t, `Lab "odd" <jobs> & things`, odd.Category)
	require.Equal(t, "test_output/com.example.lab__tmpl_dev-we_ird_n_me__x__q_", odd.Stdout)
	require.Equal(t, `He said "hi" & <b>bold</b> 'single' é ✓`, byID["com.example.lab::quotes"].Name)
	require.Equal(t, `Lab "odd" <jobs> & things`, sub.Categories["com.example.lab::lab"])

	bare := `{"title":"a &amp; b","testplan_id":"x&#39;y","description":"&lt;d&gt;","origin":{"version":"1&amp;2"},
		"results":[{"full_id":"n::a&amp;amp;b","name":"&copy; &quot;&#34;","category_id":"c&amp;d","comments":"&lt;","plugin":"s&amp;","template_id":"t&amp;",
		"io_log":"&amp;","outcome":"pass","duration":1}],
		"category_map":{"c&amp;d":"never","c&d":"C &gt; D"},"kernel":"k&amp;","kernel-cmdline":"q&amp;","packages":[{"name":"p&amp;","version":"&lt;1"}],
		"distribution":{"codename":"n&amp;"},"processor":{"model":"&#39;m"},"snap-packages":[{"name":"s&amp;","revision":"&lt;"}],
		"launcher":{"a":{"b":"&amp;"}},
		"rejected-jobs":[{"full_id":"r&amp;","name":"&lt;r","template_id":"&amp;"}]}`
	sub, err := results.Read(strings.NewReader(bare), results.Options{KeepLog: 100})
	require.NoError(t, err)
	require.Equal(t, "a &amp; b", sub.Title)
	require.Equal(t, "x&#39;y", sub.Plan)
	require.Equal(t, "&lt;d&gt;", sub.Description)
	require.Equal(t, "1&amp;2", sub.CheckboxVersion())
	r := sub.Results[0]
	require.Equal(t, "n::a&amp;b", r.ID, "unescaped once")
	require.Equal(t, `&copy; ""`, r.Name, "only what the template writes")
	require.Equal(t, "C > D", r.Category)
	require.Equal(t, []string{"&lt;", "s&amp;", "t&amp;", "&amp;"}, []string{r.Comments, r.Plugin, r.TemplateID, r.Log})
	require.Equal(t, "k&", sub.System.Kernel)
	require.Equal(t, "q&amp;", sub.System.KernelCmdline)
	require.Equal(t, results.Package{Name: "p&", Version: "<1"}, sub.System.Packages[0])
	require.Equal(t, "n&", sub.System.Distribution["codename"])
	require.Equal(t, "'m", sub.System.Processor["model"])
	require.Equal(t, map[string]string{"name": "s&", "revision": "<"}, sub.System.Snaps[0])
	require.Equal(t, "&amp;", sub.Launcher["a"]["b"])
	require.Equal(t, "r&", sub.Rejected[0].ID)
	require.Equal(t, "<r", sub.Rejected[0].Name)
	require.Equal(t, "&amp;", sub.Rejected[0].TemplateID)
}

// TestListsAreThoseOfTheFile: results are the file's own, also where Checkbox has resource jobs among them; resources has the
// resource jobs of every version; and each job is a record once.
func TestListsAreThoseOfTheFile(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct{ results, resources, attachments, records int }{
		"head-800jobs":   {801, 1, 0, 801},
		"head-killed-nb": {3, 0, 0, 3},
		"head-large":     {193, 49, 59, 252},
		"head-reboot":    {4, 0, 0, 4},
		"head-small":     {6, 1, 0, 6},
		"v2.9.1-odd":     {23, 4, 3, 30},
		"v5.0.0-odd":     {26, 4, 3, 33},
		"v7.3.0-large":   {52, 30, 51, 133},
	} {
		sub := readFile(t, "testdata/"+name+".tar.xz", results.Options{})
		require.Len(t, sub.Results, want.results, name)
		require.Len(t, sub.Resources, want.resources, name)
		require.Len(t, sub.Attachments, want.attachments, name)
		ids := make(map[string]bool)
		for _, r := range sub.Records() {
			require.False(t, ids[r.ID], r.ID)
			ids[r.ID] = true
		}
		require.Len(t, ids, want.records, name)
		for _, r := range sub.Resources {
			require.Equal(t, "resource", r.Plugin)
			require.True(t, ids[r.ID])
		}
		for _, r := range sub.Attachments {
			require.Equal(t, "attachment", r.Plugin)
		}
		total := 0
		for _, n := range sub.Counts() {
			total += n
		}
		require.Equal(t, want.results, total)
	}
}
