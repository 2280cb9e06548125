package pack_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/pack"
)

const goodBundle = `description: d
default-base: ubuntu@24.04/stable
applications:
  one:
    charm: ./demo_amd64.charm
    num_units: 1
    to: ["0"]
    constraints: arch=amd64 mem=4G tags=cert,^x zones=z1
    options: {port: 1, flag: true, text: x}
    storage: {data: "rootfs,1,100M"}
  two:
    charm: ./needs_amd64.charm
    num_units: 1
    to: ["1"]
machines:
  "0": {constraints: cores=2}
  "1": {}
relations:
  - ["one:cert-agents", "two:lab"]
`

// bundleDir has the demo charm and one that requires its endpoint, packed.
func bundleDir(t *testing.T) string {
	t.Helper()
	opts := demo(t, "amd64")
	path, err := pack.Write(opts)
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(opts.Dir, "charmcraft.yaml"))
	require.NoError(t, err)
	needs := strings.NewReplacer("name: demo", "name: needs", "provides:", "requires:", "cert-agents: {", "lab: {").Replace(string(text))
	write(t, filepath.Join(opts.Dir, "charmcraft.yaml"), needs)
	require.NoError(t, os.Rename(filepath.Join(opts.Bin, "demo"), filepath.Join(opts.Bin, "needs")))
	_, err = pack.Write(opts)
	require.NoError(t, err)
	return filepath.Dir(path)
}

func TestBundle(t *testing.T) {
	t.Parallel()
	dir := bundleDir(t)
	bundle := filepath.Join(dir, "bundle.yaml")
	write(t, bundle, goodBundle)
	require.NoError(t, pack.VerifyBundle(bundle, ""))

	elsewhere := filepath.Join(t.TempDir(), "bundle.yaml")
	write(t, elsewhere, goodBundle)
	require.ErrorContains(t, pack.VerifyBundle(elsewhere, ""), "demo_amd64.charm")
	require.NoError(t, pack.VerifyBundle(elsewhere, dir))
}

// TestBundleErrors changes one thing in a good bundle at a time; most of them are what a dry run of Juju 4.0.15 lets pass.
func TestBundleErrors(t *testing.T) {
	t.Parallel()
	dir := bundleDir(t)
	for name, c := range map[string]struct{ old, new, want string }{
		"unquoted storage":     {`"rootfs,1,100M"`, `rootfs,1,100M`, "quote a storage directive"},
		"unknown endpoint":     {`"two:lab"`, `"two:nothing"`, `does not define relation "nothing"`},
		"endpoint left out":    {`"two:lab"`, `"two"`, "name the endpoint of two"},
		"unknown application":  {`"two:lab"`, `"three:lab"`, "three"},
		"unknown option":       {"port: 1", "prot: 1", `option "prot" not found`},
		"option type":          {"port: 1", "port: one", `"port"`},
		"unknown machine":      {`to: ["1"]`, `to: ["7"]`, `placement "7"`},
		"unused machine":       {`to: ["1"]`, `to: ["0"]`, `machine "1" is not referred to`},
		"unit left over":       {"num_units: 1\n    to: [\"1\"]", "num_units: 2\n    to: [\"1\"]", "places 1 of them"},
		"unknown constraint":   {"cores=2", "cors=2", `unknown constraint "cors"`},
		"constraint size":      {"mem=4G", "mem=lots", "mem=lots"},
		"other architecture":   {"arch=amd64", "arch=arm64", "arch=arm64, but its charm is for amd64"},
		"storage directive":    {"rootfs,1,100M", "rootfs,1,2,100M", "another field of its kind"},
		"storage count":        {"rootfs,1,100M", "rootfs,0,100M", "a count of 0"},
		"unknown storage":      {"{data: ", "{date: ", "no storage date"},
		"charm of the store":   {"./demo_amd64.charm", "ubuntu", "not a local file"},
		"missing charm":        {"./demo_amd64.charm", "./demo_arm64.charm", "demo_arm64.charm"},
		"charm's base":         {"ubuntu@24.04/stable", "ubuntu@22.04/stable", "is not for ubuntu@22.04"},
		"no base":              {"default-base: ubuntu@24.04/stable\n", "", "has no base"},
		"mistyped key":         {"num_units: 1", "num_unit: 1", "Juju does not read applications.one.num_unit"},
		"mistyped section":     {"relations:", "relation:", "Juju does not read relation"},
		"boolean key":          {"flag: true", "off: true", "off is a boolean"},
		"unknown resource":     {"    to: [\"1\"]", "    to: [\"1\"]\n    resources: {nothing: ./x}", "no resource nothing"},
		"second document":      {"machines:", "---\nmachines:", "more than one document"},
		"not a bundle":         {goodBundle, "- a\n", "cannot"},
		"application's name":   {"  two:", "  two-1:", `invalid application name "two-1"`},
		"relation with itself": {`"two:lab"`, `"one:cert-agents"`, "itself"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, goodBundle, c.old)
			bundle := filepath.Join(t.TempDir(), "bundle.yaml")
			write(t, bundle, strings.Replace(goodBundle, c.old, c.new, 1))
			require.ErrorContains(t, pack.VerifyBundle(bundle, dir), c.want)
		})
	}
}
