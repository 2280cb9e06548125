package results_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/results"
)

// TestCheckboxJUnitAgreesWithJSON: the report beside each sample's submission.json says the same of each test, as far as it can.
func TestCheckboxJUnitAgreesWithJSON(t *testing.T) {
	t.Parallel()
	for _, path := range samples(t) {
		t.Run(sampleName(path), func(t *testing.T) {
			t.Parallel()
			sub := readFile(t, path, results.Options{})
			report, err := results.Read(bytes.NewReader(unpack(t, path)["submission.junit"]), results.Options{KeepLog: 1 << 20})
			require.NoError(t, err)
			require.Equal(t, results.JUnit, report.Format)
			tests := make(map[string]*results.Result)
			for section, r := range sub.Records() {
				if section != results.Attachments {
					tests[r.ID] = r
				}
			}
			for i := range report.Results {
				got := &report.Results[i]
				want := tests[got.ID]
				require.NotNil(t, want, got.ID)
				require.InDelta(t, want.Duration, got.Duration, 1e-9)
				switch want.Outcome {
				case results.Fail, results.Crash, results.SkipOutcome:
					require.Equal(t, want.Outcome, got.Outcome, got.ID)
				case results.NotSupported:
					require.Equal(t, results.SkipOutcome, got.Outcome)
				case results.Pass:
					require.Contains(t, []results.Outcome{results.Pass, results.Undecided}, got.Outcome)
				default: // printed like a pass
					require.Equal(t, results.Undecided, got.Outcome, "%s was %s and must not be a pass", got.ID, want.Outcome)
				}
			}
			switch sampleName(path) {
			case "v2.9.1-odd", "v5.0.0-odd", "v7.3.0-large":
				require.Len(t, report.Results, len(sub.Results))
				require.Zero(t, report.Counts()["undecided"], "these versions' reports are sound")
			case "head-large":
				require.NotZero(t, report.Counts()["undecided"])
			}
		})
	}
}

func TestJUnitOfOtherTools(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"pytest": {`<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest" errors="1" failures="1" skipped="1" tests="4" time="0.1" timestamp="2026-01-01T00:00:00" hostname="h">
			<testcase classname="tests.test_a" name="test_ok" time="0.001"/>
			<testcase classname="tests.test_a" name="test_bad[1-&gt;2]" time="0.002"><failure message="assert 1 == 2">def test():
&gt;  assert 1 == 2</failure></testcase>
			<testcase classname="tests.test_a" name="test_err" time="0"><error message="boom">tb</error></testcase>
			<testcase classname="tests.test_a" name="test_skip" time="0"><skipped type="pytest.skip" message="no">x.py:1: no</skipped><properties><property name="k" value="v"/></properties></testcase>
			</testsuite></testsuites>`,
			"tests.test_a::test_ok pass||;tests.test_a::test_bad[1->2] fail|assert 1 == 2|def test():\n>  assert 1 == 2;tests.test_a::test_err crash|boom|tb;tests.test_a::test_skip skip|no|x.py:1: no"},
		"surefire": {`<testsuite xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" name="com.x.T" time="1,234.5" tests="2" errors="0" skipped="0" failures="0">
			<properties><property name="java.version" value="21"/></properties>
			<testcase name="a" classname="com.x.T" time="1,234.5"><system-out><![CDATA[out <b> ]] > &amp;]]></system-out><system-err>err</system-err></testcase>
			<testcase name="b" classname="com.x.T" time="0"><rerunFailure message="flaky">x</rerunFailure></testcase></testsuite>`,
			"com.x.T::a pass||out <b> ]] > &amp;err;com.x.T::b pass||"},
		"gtest": {`<testsuites tests="2" failures="0" disabled="1" errors="0" name="AllTests"><testsuite name="S" tests="2" failures="0" disabled="1" errors="0">
			<testcase name="A" status="run" result="completed" time="0.1" classname="S" /><testcase name="B" status="notrun" result="suppressed" time="0" classname="S" /></testsuite></testsuites>`,
			"S::A pass||;S::B skip||"},
		"nested suites, worst element": {`<testsuites><testsuite name="o"><testsuite name="i"><testcase name="x"><skipped/><failure/><error/></testcase></testsuite><testcase name="y"><failure message="1"/><failure message="2"/></testcase></testsuite></testsuites>`,
			"x crash||;y fail|1\n2|"},
		"no tests":           {`<testsuites/>`, ""},
		"latin 1":            {"<?xml version='1.0' encoding='ISO-8859-1'?><testsuite><testcase name='n\xe4me'/></testsuite>", "näme pass||"},
		"control characters": {"<testsuite><testcase name='a'><failure>vt[\x0b] bad[\xff] nul[&#0;]</failure></testcase></testsuite>", "a fail||vt[\x0b] bad[\uFFFD] nul[\x00]"},
		"entities":           {"<testsuite><testcase name='&#65;&#x42;&quot;&apos;'/></testsuite>", `AB"' pass||`},
		"comments":           {"<!-- a --><testsuite><!-- <testcase name='no'/> --><testcase name='a'><?pi?></testcase></testsuite><!-- b -->\n", "a pass||"},
		"sound Checkbox":     {`<testsuites tests="2" failures="1" errors="0" skipped="0"><testcase classname="a" name="a"/><testcase classname="b" name="b"><failure>x</failure></testcase></testsuites>`, "a pass||;b fail||x"},
		"unsound Checkbox":   {`<testsuites tests="2" failures="1" errors="0" skipped="0"><testcase classname="a" name="a"/><testcase classname="c" name="c"/><testcase classname="b" name="b"><failure>x</failure></testcase></testsuites>`, "a undecided||;c undecided||;b fail||x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sub, err := read(c.text, results.Options{KeepLog: 1000})
			require.NoError(t, err)
			var got []string
			for _, r := range sub.Results {
				got = append(got, fmt.Sprintf("%s %s|%s|%s", r.ID, r.Outcome, r.Comments, r.Log))
			}
			require.Equal(t, c.want, strings.Join(got, ";"))
		})
	}
}

func TestFaultBadXML(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text   string
		limits results.Limits
		kind   results.Kind
		limit  string
	}{
		"cut":                  {"<testsuites><testcase name='a'", results.Limits{}, results.BadXML, ""},
		"not closed":           {"<testsuites><testcase name='a'/>", results.Limits{}, results.BadXML, ""},
		"crossed":              {"<testsuites><testcase name='a'></testsuites></testcase>", results.Limits{}, results.BadXML, ""},
		"other XML":            {"<svg/>", results.Limits{}, results.UnknownFormat, ""},
		"second root":          {"<testsuites/><testsuites/>", results.Limits{}, results.TrailingData, ""},
		"trailing text":        {"<testsuites/>x", results.Limits{}, results.TrailingData, ""},
		"entity bomb":          {`<!DOCTYPE t [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><testsuites/>`, results.Limits{}, results.BadXML, ""},
		"unknown entity":       {"<testsuites><testcase name='&lol;'/></testsuites>", results.Limits{}, results.BadXML, ""},
		"bare ampersand":       {"<testsuites><testcase name='a & b'/></testsuites>", results.Limits{}, results.BadXML, ""},
		"attribute twice":      {"<testsuites><testcase name='a' name='b'/></testsuites>", results.Limits{}, results.BadXML, ""},
		"no name":              {"<testsuites><testcase/></testsuites>", results.Limits{}, results.BadField, ""},
		"time":                 {"<testsuites><testcase name='a' time='soon'/></testsuites>", results.Limits{}, results.BadField, ""},
		"encoding":             {"<?xml version='1.0' encoding='UTF-16'?><testsuites/>", results.Limits{}, results.BadXML, ""},
		"deep":                 {"<testsuites>" + strings.Repeat("<testsuite>", 100), results.Limits{}, results.LimitExceeded, "depth"},
		"many":                 {"<testsuites>" + strings.Repeat("<testcase name='a'/>", 3) + "</testsuites>", results.Limits{Records: 2}, results.LimitExceeded, "records"},
		"long name":            {"<testsuites><testcase name='" + strings.Repeat("a", 100) + "'/></testsuites>", results.Limits{String: 99}, results.LimitExceeded, "string"},
		"much to hold":         {"<testsuites>" + strings.Repeat("<testcase name='a'/>", 10) + "</testsuites>", results.Limits{Held: 3000}, results.LimitExceeded, "held"},
		"large":                {"<testsuites>" + strings.Repeat(" ", 100000) + "</testsuites>", results.Limits{TotalSize: 70000}, results.LimitExceeded, "total-size"},
		"attribute of many":    {"<testsuites " + strings.Repeat("a='' ", 3), results.Limits{}, results.BadXML, ""},
		"text before the root": {"<?xml version='1.0'?>x<testsuites/>", results.Limits{}, results.BadXML, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := read(c.text, results.Options{Limits: c.limits})
			requireKind(t, err, c.kind)
			var e *results.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, c.limit, e.Limit)
		})
	}
}
