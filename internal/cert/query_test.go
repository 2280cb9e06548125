package cert

import (
	"fmt"
	"strings"
	"testing"

	"certlab/internal/fuzztest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func queryMachine() *FleetMachine {
	return &FleetMachine{
		Machine: Machine{ID: "m01hzz3m2k3n4p5q6r7s8t9v0w1", Hostname: "Node7", SystemID: "xemby4", Architecture: "arm64", Origin: "maas"},
		State:   MachineFree, Pool: "lab", Zone: "z1", Tags: []string{"gpu", "10g"}, Cores: 80, MemoryMiB: 64 << 10, StorageBytes: 1_000_204_886_016,
		NICs: 2, Vendor: "Ampere(TM)", Product: "Mt. Jade", Firmware: "2.05.20210923", GPUs: []string{"NVIDIA A100, 80GB [10de:20b2]"},
		Class: "mt-jade", CID: "202411-36001", Rack: "r4", Abilities: map[string]bool{"display": true, "suspend": false},
	}
}

func TestAQueryMatchesWhatItSays(t *testing.T) {
	t.Parallel()
	for text, failing := range map[string]string{
		"node7":                          "",
		"XEMBY4":                         "",
		"202411-36001":                   "",
		"m01hzz3m2k3n4p5q6r7s8t9v0w1":    "",
		"node8":                          "node8",
		"name=node7":                     "",
		"tags=gpu,tags=10G":              "",
		"tags=gpu, tags=^10g":            "tags=^10g",
		"tags!=old,tag=^slow":            "",
		"tags!=gpu":                      "tags!=gpu",
		"arch=arm64|amd64":               "",
		"arch=^arm64|amd64":              "arch=^arm64|amd64",
		"cores>=80,cores<=80,cores=80":   "",
		"cores>80":                       "cores>80",
		"memory>=64G":                    "",
		"memory>=64GiB,memory>65535MiB":  "",
		"memory>64G":                     "memory>64G",
		"memory>=65GB":                   "",
		"memory < 0.1T":                  "",
		"storage>=1T":                    "",
		"storage>=1TiB":                  "storage>=1TiB",
		"nics!=2":                        "nics!=2",
		"vendor=ampere,product='mt. ja'": "",
		`gpu="a100, 80gb"`:               "",
		"gpu=a100":                       "",
		"gpu=^a100":                      "gpu=^a100",
		"firmware=2.05":                  "",
		"class=mt":                       "class=mt",
		"rack=r4,cid=202411-36001":       "",
		"ability=display":                "",
		"ability=suspend":                "ability=suspend",
		"ability!=rtc-wake":              "",
		"state=free|ready,origin=maas":   "",
		"state!=free":                    "state!=free",
	} {
		q, err := ParseQuery(text)
		require.NoError(t, err, text)
		require.Equal(t, failing, q.Match(queryMachine()), text)
	}
	require.Empty(t, Query{}.Match(queryMachine()), "no query: every machine")
}

func TestWhatIsNotKnownMeetsNoConstraintButNot(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"cores>=0", "cores<4", "cores!=4", "memory<1T", "vendor=dell", "gpu=a", "tags=a", "ability=display"} {
		q, err := ParseQuery(text)
		require.NoError(t, err)
		require.Equal(t, text, q.Match(&FleetMachine{}))
	}
	for _, text := range []string{"vendor!=dell", "gpu=^a", "tags!=a", "ability!=display"} {
		q, err := ParseQuery(text)
		require.NoError(t, err)
		require.Empty(t, q.Match(&FleetMachine{}), text)
	}
}

func TestFaultAQueryThatCannotBeReadSaysWhy(t *testing.T) {
	t.Parallel()
	for text, message := range map[string]string{
		"":                                 "cannot read an empty query: give a machine's name, or what it has to have, such as tags=gpu,arch=arm64,memory>=64G",
		"tagz=gpu":                         `cannot select machines by "tagz" (did you mean tags? there are: name, tags, arch, cores, memory, storage, nics, pool, zone, rack, vendor, product, firmware, gpu, ability, class, cid, origin, state)`,
		"colour=red":                       `cannot select machines by "colour" (there are: name, tags, arch, cores, memory, storage, nics, pool, zone, rack, vendor, product, firmware, gpu, ability, class, cid, origin, state)`,
		"release=noble":                    "cannot select machines by release: it is not what a machine has, but what it is deployed with (say it beside the query)",
		"tags=gpu,":                        "cannot read the query: there is nothing between two commas, or after the last one",
		"tags=gpu,node7":                   `cannot read "node7": a constraint is a key, an operator and a value, such as arch=arm64 (a machine's name stands alone, or is given as name=node7)`,
		"tags=":                            `cannot read "tags=": it names no value`,
		"tags!gpu":                         `cannot read "tags!gpu": "!" is not an operator (there are: =, !=, >=, <=, >, <)`,
		"tags!=^gpu":                       `cannot read "tags!=^gpu": both != and ^ say no; use one of them`,
		"arch>=arm64":                      "cannot compare arch with >=: it is not a number (use = or !=)",
		"memory>=64":                       `cannot compare memory with "64": give its unit, one of K, M, G, T, KiB, MiB, GiB, TiB, KB, MB, GB, TB, as in 64G`,
		"memory>=64X":                      `cannot compare memory with "64X": give its unit, one of K, M, G, T, KiB, MiB, GiB, TiB, KB, MB, GB, TB, as in 64G`,
		"memory>=lots":                     `cannot compare memory with "lots": give a number, such as 64G`,
		"cores>=1e3":                       `cannot compare cores with "1e3": give a number, such as 4`,
		"cores>=4G":                        `cannot compare cores with "4G": give a whole number, such as 4`,
		"cores>=1.5":                       `cannot compare cores with "1.5": give a whole number, such as 4`,
		`gpu="A100`:                        `cannot read "gpu=\"A100": a " is not closed`,
		`gpu="A"100`:                       `cannot read "gpu=\"A\"100": quotes go around the whole value`,
		"arch==arm64":                      `cannot read "arch==arm64": "=arm64" has a character that needs quotes around the value`,
		"state=freee":                      `cannot select machines in state "freee" (there are: unknown, free, reserved, provisioning, ready, busy, releasing, dirty, quarantined, foreign, retired)`,
		"a\nb":                             "cannot read the query: it must be one line of text",
		"x=" + strings.Repeat("y", 1023):   "cannot read the query: it has 1025 bytes, at most 1024 are allowed",
		strings.Repeat("tags=a,", 40):      "cannot read the query: it has 41 constraints, at most 32 are allowed",
		"tags=" + strings.Repeat("a|", 40): `cannot read "tags=` + strings.Repeat("a|", 37) + "a" + `…": it names 41 values, at most 32 are allowed`,
	} {
		_, err := ParseQuery(text)
		require.EqualError(t, err, message)
		require.Equal(t, Invalid, CodeOf(err))
	}
}

func TestFaultNoMachineMatchesSaysWhichConstraintExcludesHowMany(t *testing.T) {
	t.Parallel()
	var lab []FleetMachine
	for n := range 12 {
		m := FleetMachine{Machine: Machine{Hostname: fmt.Sprintf("node%d", n), Architecture: []string{"amd64", "arm64"}[n%2]}, State: MachineReserved, Cores: n + 1, MemoryMiB: 1024}
		if n < 5 {
			m.Tags = []string{"gpu"}
		}
		lab = append(lab, m)
	}
	lab[11].State = MachineFree
	explain := func(text string) Explanation {
		q, err := ParseQuery(text)
		require.NoError(t, err)
		return q.Explain(lab)
	}
	e := explain("tags=gpu,arch=riscv64")
	require.Equal(t, "no machine matches tags=gpu,arch=riscv64: arch=riscv64 excludes all 12 (there are: amd64, arm64)", e.Text)
	require.Equal(t, []Excluded{{Constraint: "tags=gpu", Machines: 7, There: []string{"gpu"}}, {Constraint: "arch=riscv64", Machines: 12, There: []string{"amd64", "arm64"}}}, e.Excluded)
	require.Equal(t, "no machine matches tags=gpu,cores>5: of 12 machines tags=gpu excludes 7, cores>5 excludes 5, and together they exclude all", explain("tags=gpu,cores>5").Text)
	require.Equal(t, "no machine matches memory>=64G: memory>=64G excludes all 12 (there are: 1G)", explain("memory>=64G").Text)
	require.Equal(t, "no machine matches cores>99: cores>99 excludes all 12 (there are: 1 to 12)", explain("cores>99").Text)
	require.Equal(t, "no machine matches gpu=a100: gpu=a100 excludes all 12 (no machine is known to have any)", explain("gpu=a100").Text)
	require.Equal(t, "no machine is called node99: none of the 12 machines has that name, id, system_id or certification id", explain("node99").Text)
	require.Equal(t, "5 machines match tags=gpu, of which none is free now (5 reserved)", explain("tags=gpu").Text)
	require.Equal(t, "6 machines match arch=arm64, of which 1 is free now", explain("arch=arm64").Text)
	require.Equal(t, "5 machines match tags=gpu,state=free, of which none is free now (5 reserved)", explain("tags=gpu,state=free").Text)
	q, _ := ParseQuery("tags=gpu")
	require.Equal(t, "no machine matches tags=gpu: there are no machines", q.Explain(nil).Text)
}

func FuzzParseQuery(f *testing.F) {
	fuzztest.Run(f, 3000, fuzztest.Seeds("node7", `tags=^a,arch=arm64|"amd 64",memory>=64G,gpu='x, y'`, "tags=,", "cores<=1.5", `"`, "memory>=99999999999999999999999999T", "state=free", "^=|"),
		func(t *testing.T, data []byte) {
			q, err := ParseQuery(string(data))
			if err != nil {
				require.Equal(t, Invalid, CodeOf(err))
				fuzztest.Error(t, err)
				return
			}
			require.LessOrEqual(t, len(q.constraints), maxQueryTerms)
			again, err := ParseQuery(q.String())
			require.NoError(t, err)
			require.Equal(t, q.Match(queryMachine()), again.Match(queryMachine()))
			machines := []FleetMachine{*queryMachine(), {}}
			e := q.Explain(machines)
			require.LessOrEqual(t, e.Free, e.Matching)
			require.NotEmpty(t, e.Text)
		})
}

// TestExplanationsAgreeWithMatching holds what Explain counts to what Match says of each machine.
func TestExplanationsAgreeWithMatching(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.SampledFrom([]string{"a", "b", "c"})
		var lab []FleetMachine
		for range rapid.IntRange(0, 12).Draw(t, "machines") {
			lab = append(lab, FleetMachine{Machine: Machine{Architecture: word.Draw(t, "arch")}, Tags: rapid.SliceOfN(word, 0, 2).Draw(t, "tags"),
				Cores: rapid.IntRange(0, 4).Draw(t, "cores"), State: MachineState(rapid.SampledFrom(MachineStates).Draw(t, "state"))})
		}
		terms := rapid.SliceOfN(rapid.OneOf(
			rapid.Custom(func(t *rapid.T) string {
				return rapid.SampledFrom([]string{"tags=", "tags=^", "arch!=", "arch="}).Draw(t, "key") + word.Draw(t, "word")
			}),
			rapid.Custom(func(t *rapid.T) string {
				return "cores" + rapid.SampledFrom([]string{"=", "!=", ">=", "<=", ">", "<"}).Draw(t, "op") + fmt.Sprint(rapid.IntRange(0, 4).Draw(t, "n"))
			})), 1, 5).Draw(t, "terms")
		q, err := ParseQuery(strings.Join(terms, ","))
		require.NoError(t, err)
		e := q.Explain(lab)
		matching, free := 0, 0
		excluded := make([]int, len(terms))
		for n := range lab {
			all := true
			for i, term := range terms {
				alone, err := ParseQuery(term)
				require.NoError(t, err)
				if alone.Match(&lab[n]) != "" {
					excluded[i]++
					all = false
				}
			}
			require.Equal(t, all, q.Match(&lab[n]) == "")
			if all {
				matching++
				if lab[n].State == MachineFree {
					free++
				}
			}
		}
		require.Equal(t, []int{len(lab), matching, free}, []int{e.Of, e.Matching, e.Free})
		for i := range terms {
			require.Equal(t, excluded[i], e.Excluded[i].Machines)
		}
		require.Equal(t, matching == 0, strings.HasPrefix(e.Text, "no machine"))
	})
}
