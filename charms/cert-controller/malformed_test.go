package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/hooks/hookstest"
)

func malformedOptions() map[string]hookstest.Malformed {
	number := func(name, from string, accepts ...string) hookstest.Malformed {
		return hookstest.Malformed{Message: `^set ` + name + ` to a number from ` + from + ` to \d+ \(it is -?\d+\)$`, Accepts: accepts}
	}
	const url = "set external-url to a URL such as https://lab.example.com, without user, query and fragment, or reset it (it is "
	text := func(name, message string, accepts ...string) hookstest.Malformed {
		return hookstest.Malformed{Message: `^set ` + name + ` to ` + message + ` \((number \d+|it|.*, and it) (is|has) ".*"(… \(\d+ bytes\))?\)$`, Accepts: accepts}
	}
	with := func(row hookstest.Malformed, set map[string]string) hookstest.Malformed {
		row.With = set
		return row
	}
	more := func(row hookstest.Malformed, values map[string]string) hookstest.Malformed {
		row.More = values
		return row
	}
	poolNames := func(name string) hookstest.Malformed {
		return text(name, `at most 200 names of resource pools, separated by commas`, "empty", "space", "unit", "newline")
	}
	const limits = "set fleet-limits to YAML such as boot-minutes: 30, one per line, or reset it: "
	const keys = " (there are boot-minutes, boot-seconds, deploy-minutes, enrol-minutes, incident-machines, incident-minutes, incident-percent, max-deploying, max-queue, max-tries, release-minutes, silence-seconds)"
	return map[string]hookstest.Malformed{
		"maas-credentials": {}, "webhook-secret": {}, "power-units": {}, "auto-return": {},
		"maas-pools": more(poolNames("maas-pools"), map[string]string{"a,b;c": `(number 2 is "b;c")`}), "maas-protected-pools": poolNames("maas-protected-pools"),
		"maas-quarantine-pool": text("maas-quarantine-pool", `the name of a resource pool, or reset it`, "empty", "space", "unit"),
		"maas-quarantine-tag":  text("maas-quarantine-tag", `a tag of letters, digits, '_', '.' and '-', or to nothing`, "empty", "space", "unit", "negative", "flag"),
		"maas-erase": more(text("maas-erase", `POOL=HOW, separated by commas, each pool once, HOW being none, quick, secure or full`, "empty", "space"), map[string]string{
			"a=quick,a=full": `(it has "a=full")`, "quick,full": `(it has "full")`, "a=shred": `(it has "a=shred")`, "==quick": `(it has "=quick")`,
		}),
		"default-release":       text("default-release", `a release as MAAS names it, such as noble, or reset it`, "empty", "space"),
		"max-reservation-hours": number("max-reservation-hours", "1"), "max-extensions": number("max-extensions", "1"),
		"max-machines-per-person": number("max-machines-per-person", "1"), "reminder-minutes": number("reminder-minutes", "1"),
		"silence-minutes": number("silence-minutes", "5"), "power-cycles": number("power-cycles", "1"),
		"check-hours": number("check-hours", "0", "zero"), "quarantine-after": number("quarantine-after", "1"),
		"fleet-limits": {Message: `^` + limits + `(it is not that \(it is ".*"(… \(\d+ bytes\))?\)|line 1: .*)$`, Accepts: []string{"empty", "space"},
			More: map[string]string{
				"boot-minute: 3":                   limits + `line 1: "boot-minute" is not known` + keys,
				"boot-minutes: 3\nboot-minutes: 4": limits + `line 2: "boot-minutes" is there twice` + keys,
				"max-tries: 2\nboot-minutes: soon": limits + `line 2: boot-minutes is a whole number from 1 to 1440 (it is "soon")`,
				"incident-percent: 101":            limits + `line 1: incident-percent is a whole number from 1 to 100 (it is "101")`,
				"max-queue: [1]":                   limits + `line 1: max-queue is a whole number from 1 to 100000 (it is "")`,
				"max-queue: 1.5":                   limits + `line 1: max-queue is a whole number from 1 to 100000 (it is "1.5")`,
				"- boot-minutes":                   limits + `it is not that (it is "- boot-minutes")`,
			}},
		"webhook-url":              text("webhook-url", `a URL such as https://chat.example.com/hooks/certlab, without user and fragment, or reset it`, "empty", "space"),
		"kernel-status-url":        text("kernel-status-url", `a URL such as https://kernel.ubuntu.com/swm/status.json, without user and fragment, or reset it`, "empty", "space"),
		"apt-mirror":               text("apt-mirror", `a URL such as http://mirror.lab/ubuntu, without user, query and fragment, or reset it`, "empty", "space"),
		"deployed-checkbox-source": text("deployed-checkbox-source", `snap, deb or path`),
		"deployed-checkbox-channel": more(with(text("deployed-checkbox-channel", `a PPA, such as ppa:checkbox-dev/stable, or reset it`, "empty", "space"), map[string]string{"deployed-checkbox-source": "deb"}),
			map[string]string{"stable": `(deployed-checkbox-source is deb, and it is "stable")`}),
		"deployed-checkbox-path":     with(text("deployed-checkbox-path", `the absolute path of checkbox-cli, such as /usr/bin/checkbox-cli`), map[string]string{"deployed-checkbox-source": "path"}),
		"deployed-checkbox-packages": text("deployed-checkbox-packages", `names of Debian packages, separated by spaces`, "empty", "space"),
		"port":                       number("port", "1"), "min-free-space": number("min-free-space", "0", "zero"), "retention-days": number("retention-days", "0", "zero"),
		"max-submission-size": number("max-submission-size", "1"),
		"bind-address": {Message: `^set bind-address to an IP address of the machine, or reset it \(it is ".*"(… \(\d+ bytes\))?\)$`, Accepts: []string{"empty", "space"},
			More: map[string]string{"localhost": `set bind-address to an IP address of the machine, or reset it (it is "localhost")`}},
		"external-url": {Message: `^set external-url to a URL such as https://lab.example.com, without user, query and fragment, or reset it \(it is ".*"(… \(\d+ bytes\))?\)$`,
			Accepts: []string{"empty", "space"},
			More: map[string]string{
				"lab.example.com":            url + `"lab.example.com")`,
				"https://u:hunter2@lab/":     url + `"…@lab/")`,
				"https://lab;reboot/":        url + `"https://lab;reboot/")`,
				"https://$(reboot)/":         url + `"https://$(reboot)/")`,
				"javascript://lab/%0aalert ": url,
			}},
		"site-name": {Message: `^set site-name to one line of at most 100 bytes \(it is ".*"(… \(\d+ bytes\))?\)$`,
			// Pages escape what they show.
			Accepts: []string{"empty", "space", "negative", "unit", "command", "more commands", "backticks", "flag", "path upwards", "quote"}},
		"log-level": {Message: `^set log-level to debug, info, warning or error \(it is ".*"(… \(\d+ bytes\))?\)$`,
			More: map[string]string{"loud": `set log-level to debug, info, warning or error (it is "loud")`}},
	}
}

func TestFaultMalformedOptionsAreBlockedAndLeaveTheServiceAlone(t *testing.T) {
	t.Parallel()
	l, id := ready(t, 2)
	l.FireRelation("changed", id, "checkbox/0")
	l.FireRelation("changed", id, "checkbox/1")
	require.Len(t, l.enrolled(), 2)
	good := l.desired()
	l.CheckMalformedOptions(malformedOptions(), func(about string) {
		require.Equal(t, good, l.desired(), about)
		for _, line := range l.State().Log {
			require.NotContains(t, line.Message, "hunter2", about)
		}
	})
	l.WithConfig(map[string]string{"port": "0"})
	l.FireRelation("departed", id, "checkbox/1").RequireStatus("blocked", "set port to a number from 1 to 65535 (it is 0)")
	require.Equal(t, []string{"checkbox/0"}, l.enrolled(), "who leaves loses its access whatever else is wrong")
}

func TestFaultMalformedParametersAreSaid(t *testing.T) {
	t.Parallel()
	l, _ := ready(t, 0)
	l.anything = func(method, path string) (int, any) { return http.StatusOK, map[string]any{"id": "x", "kind": "run"} }
	line := func(name, most string, accepts ...string) hookstest.Malformed {
		return hookstest.Malformed{Message: `^cannot (use ` + name + ` ".*"(… \(\d+ bytes\))?: want one line of at most ` + most + ` bytes|revoke: give name=, a token's name or id)$`,
			Accepts: append(accepts, "negative", "unit", "command", "more commands", "backticks", "flag", "path upwards", "quote")}
	}
	named := func(name string) hookstest.Malformed {
		return hookstest.Malformed{Message: `^cannot use ` + name + ` ".*"(… \(\d+ bytes\))?: (want one line of at most 1000 bytes|give a .*)$`,
			Accepts: []string{"negative", "unit", "command", "more commands", "backticks", "flag", "path upwards", "quote"}}
	}
	reason := func(accepts ...string) hookstest.Malformed {
		row := line("reason", "500", accepts...)
		row.Message = `^cannot (use reason ".*"(… \(\d+ bytes\))?: want one line of at most 500 bytes|do that without a reason: give reason="…"; it is kept in the machine's history)$`
		return row
	}
	name := hookstest.Malformed{Message: `^cannot (use name ".*"(… \(\d+ bytes\))?: want one line of at most 200 bytes|do that without a name: give name=, of the pool)$`, Accepts: line("", "").Accepts}
	kernel := func(name string) hookstest.Malformed {
		return hookstest.Malformed{Message: `^cannot use ` + name + ` ".*"(… \(\d+ bytes\))?: want a name as MAAS has it, such as noble or hwe-24.04$`, Accepts: []string{"empty"}}
	}
	period := func(name string) hookstest.Malformed {
		return hookstest.Malformed{Message: `^cannot use ` + name + ` ".*"(… \(\d+ bytes\))?: want a day or a time, such as 2026-11-23 or 2026-11-23T08:00:00Z$`, Accepts: []string{"empty"}}
	}
	file := func(name string) string {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, []byte("hostname,cid\n"), 0o600))
		return path
	}
	path := func(name string, accepts ...string) hookstest.Malformed {
		return hookstest.Malformed{Message: `^cannot use ` + name + ` ".*"(… \(\d+ bytes\))?: want an absolute path on the unit's machine$`, Accepts: accepts}
	}
	campaignReason := reason()
	campaignReason.Message = strings.Replace(campaignReason.Message, "machine's", "campaign's", 1)
	names := func(name string) hookstest.Malformed {
		return hookstest.Malformed{Message: `^cannot use ` + name + ` ".*"(… \(\d+ bytes\))?: want one line of at most 65536 bytes$`, Accepts: append(line("", "").Accepts, "empty")}
	}
	one := func(name, want string) hookstest.Malformed {
		return hookstest.Malformed{Message: `^cannot use ` + name + ` ".*"(… \(\d+ bytes\))?: want ` + want + `$`, Accepts: []string{"empty"}}
	}
	campaign := map[string]any{"kind": "sru", "kernel": "", "image": "", "as-it-is": true, "series": "", "flavour": "", "stream": "", "pocket": "", "ppa": "", "tracker": "", "spin": 0,
		"cycle": "", "query": "", "machines": "", "of-baseline": true, "except": "", "name": "", "policy": "", "plan": "", "baseline": "", "due": "", "priority": 0, "at-once": 0,
		"reason": "", "dry-run": false}
	l.CheckMalformedParams(map[string]map[string]any{
		"start-campaign": campaign, "list-campaigns": {"state": "open", "limit": 100}, "show-campaign": {"campaign": "c1"},
		"cancel-campaign": {"campaign": "c1", "reason": "a new spin"}, "retry-campaign": {"campaign": "c1", "machines": "", "state": "missing", "issue": "", "jobs": "", "reason": "a new switch"},
		"export-campaign": {"campaign": "c1", "format": "json", "path": ""},
		"list-machines":   {"filter": "", "state": "any", "query": ""}, "show-machine": {"machine": "node1"}, "quarantine": {"machine": "node1", "reason": "smoke"},
		"return-to-service": {"machine": "node1", "force": true, "reason": "repaired"}, "power": {"machine": "node1", "action": "cycle", "reason": "hangs"},
		"console-log": {"machine": "node1"}, "import-dossiers": {"path": file("in.csv"), "dry-run": true}, "export-dossiers": {"path": ""},
		"run-plan":          {"plan": "a::b", "query": "node1", "release": "", "kernel": "", "reason": "", "wait": 0},
		"list-reservations": {"state": "open"}, "show-reservation": {"reservation": "v1"}, "cancel-reservation": {"reservation": "v1", "reason": ""},
		"pause": {"scope": "pool", "name": "lab", "reason": "new switch"}, "resume": {"scope": "pool", "name": "lab"}, "list-incidents": {"all": false},
		"usage": {"from": "", "to": ""}, "show-run": {"run": "r1"}, "create-token": {"name": "ada", "role": "viewer", "days": 30}, "revoke-token": {"name": "ada"},
		"backup": {"path": ""}, "restore": {"path": "/b.tar"}, "repair": {"backup": ""},
	}, map[string]hookstest.Malformed{
		"start-campaign kernel": {Message: `^cannot use kernel ".*"(… \(\d+ bytes\))?: want (its source package and exact version, such as linux=6.8.0-51.52|one line of at most 1000 bytes)$`, Accepts: []string{"empty"}},
		"start-campaign image":  {Message: `^cannot (use image ".*"(… \(\d+ bytes\))?: want one line of at most 1000 bytes|tell what to test: give one of kernel=, image= and as-it-is=true)$`, Accepts: []string{"empty"}},
		"start-campaign series": line("series", "1000", "empty"), "start-campaign flavour": line("flavour", "1000", "empty"), "start-campaign stream": line("stream", "1000", "empty"),
		"start-campaign pocket": line("pocket", "1000", "empty"), "start-campaign ppa": line("ppa", "1000", "empty"), "start-campaign tracker": line("tracker", "1000", "empty"),
		"start-campaign cycle": line("cycle", "1000", "empty"), "start-campaign name": line("name", "1000", "empty"), "start-campaign policy": line("policy", "1000", "empty"),
		"start-campaign baseline": line("baseline", "1000", "empty"), "start-campaign reason": reason("empty"),
		"start-campaign query":    {Message: `^cannot (use query ".*"(… \(\d+ bytes\))?: want one line of at most 1000 bytes|tell which machines: give one of query=, machines= and of-baseline=true)$`, Accepts: []string{"empty"}},
		"start-campaign machines": {Message: `^cannot (use machines ".*"(… \(\d+ bytes\))?: want one line of at most 65536 bytes|tell which machines: give one of query=, machines= and of-baseline=true)$`, Accepts: []string{"empty"}},
		"start-campaign except":   names("except"), "start-campaign plan": one("plan", "a full id, such as com.canonical.certification::sru-server"),
		"start-campaign due":     one("due", "a day or a time, such as 2026-12-01 or 2026-12-01T12:00:00Z"),
		"show-campaign campaign": named("campaign"), "cancel-campaign campaign": named("campaign"), "cancel-campaign reason": campaignReason,
		"retry-campaign campaign": named("campaign"), "retry-campaign reason": campaignReason, "retry-campaign machines": names("machines"), "retry-campaign jobs": names("jobs"),
		"retry-campaign issue": line("issue", "1000", "empty"), "export-campaign campaign": named("campaign"), "export-campaign path": path("path", "empty"),
		"list-machines filter": line("filter", "1000", "empty"), "list-machines query": line("query", "1000", "empty"),
		"show-machine machine": named("machine"), "quarantine machine": named("machine"), "quarantine reason": reason(),
		"return-to-service machine": named("machine"), "return-to-service reason": reason(), "power machine": named("machine"), "power reason": reason(),
		"console-log machine": named("machine"), "export-dossiers path": path("path", "empty"),
		"import-dossiers path": {Message: `^cannot use path ".*"(… \(\d+ bytes\))?: want an absolute path on the unit's machine$`},
		"run-plan plan":        {Message: `^cannot run plan ".*"(… \(\d+ bytes\))?: want a full id, such as com.canonical.certlab::preflight$`},
		"run-plan query":       named("query"), "run-plan release": kernel("release"), "run-plan kernel": kernel("kernel"), "run-plan reason": reason("empty"),
		"show-reservation reservation": named("reservation"), "cancel-reservation reservation": named("reservation"), "cancel-reservation reason": reason("empty"),
		"pause name": name, "pause reason": reason(), "resume name": name, "usage from": period("from"), "usage to": period("to"),
		"show-run run":      {Message: `^cannot find run ".*"(… \(\d+ bytes\))?: want a run's id, as run-suite and .certlab run list. show it$`, Accepts: []string{"unit"}},
		"create-token name": line("name", "100", "empty"), // the service says what makes a name
		"revoke-token name": line("name", "100"),
		"backup path":       path("path", "empty"),
		"restore path":      path("path"),
		"repair backup":     path("backup", "empty"),
	})
	for _, r := range l.asked() {
		require.Regexp(t, `^/api/v1/(machines\?limit=200(&query=[^/?#]+)?|machines/[^/?#]+(/(quarantine|return|power|console))?|dossiers\?dry_run=true|dossiers.csv|`+
			`reservations(\?limit=200&state=open|/[^/?#]+(/cancel)?)?|pauses(\?name=[^/?#]*&scope=pool)?|campaigns(\?limit=100&state=open|/[^/?#]+(/cancel|/retry|/export\?format=json)?)?|incidents\?limit=200&open=true|usage|fleet|runs/[A-Za-z0-9]+|tokens(/[^/?#]+)?|admin/(backup|restore|repair))$`, r.Path)
	}
}

func TestFaultDamagedFilesOfTheCharmsAreMadeAnew(t *testing.T) {
	t.Parallel()
	l, id := ready(t, 2)
	l.FireRelation("changed", id, "checkbox/0")
	l.FireRelation("changed", id, "checkbox/1").RequireStatus("active", "0 machines, 0 running")
	good := l.desired()
	for _, name := range []string{"service/desired.json", "storage.json", "relations.json", "applied.json", "bin/copied.json"} {
		for _, damage := range []string{"", "{", "\x00\x00\x00\x00", `{"id":1}`, "[]"} {
			require.NoError(t, os.WriteFile(filepath.Join(l.base, name), []byte(damage), 0o600))
			l.Fire("config-changed").RequireStatus("active", "0 machines, 0 running")
			require.Equal(t, good, l.desired(), "%s was %q", name, damage)
		}
	}
	require.Equal(t, "data/0", strings.TrimSpace(string(must(os.ReadFile(filepath.Join(l.storage, markFile))))))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
