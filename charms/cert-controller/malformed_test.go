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
	return map[string]hookstest.Malformed{
		"port": number("port", "1"), "min-free-space": number("min-free-space", "0", "zero"), "retention-days": number("retention-days", "0", "zero"),
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
	l.anything = func(method, path string) (int, any) { return http.StatusOK, map[string]any{"id": "x"} }
	line := func(name, most string, accepts ...string) hookstest.Malformed {
		return hookstest.Malformed{Message: `^cannot (use ` + name + ` ".*"(… \(\d+ bytes\))?: want one line of at most ` + most + ` bytes|revoke: give name=, a token's name or id)$`,
			Accepts: append(accepts, "negative", "unit", "command", "more commands", "backticks", "flag", "path upwards", "quote")}
	}
	path := func(name string, accepts ...string) hookstest.Malformed {
		return hookstest.Malformed{Message: `^cannot use ` + name + ` ".*"(… \(\d+ bytes\))?: want an absolute path on the unit's machine$`, Accepts: accepts}
	}
	l.CheckMalformedParams(map[string]map[string]any{
		"list-machines": {"filter": ""}, "show-run": {"run": "r1"}, "create-token": {"name": "ada", "role": "viewer", "days": 30}, "revoke-token": {"name": "ada"},
		"backup": {"path": ""}, "restore": {"path": "/b.tar"}, "repair": {"backup": ""},
	}, map[string]hookstest.Malformed{
		"list-machines filter": line("filter", "1000", "empty"),
		"show-run run":         {Message: `^cannot find run ".*"(… \(\d+ bytes\))?: want a run's id, as run-suite and .certlab run list. show it$`, Accepts: []string{"unit"}},
		"create-token name":    line("name", "100", "empty"), // the service says what makes a name
		"revoke-token name":    line("name", "100"),
		"backup path":          path("path", "empty"),
		"restore path":         path("path"),
		"repair backup":        path("backup", "empty"),
	})
	for _, r := range l.asked() {
		require.Regexp(t, `^/api/v1/(machines\?limit=200|runs/[A-Za-z0-9]+|tokens(/[^/?#]+)?|admin/(backup|restore|repair))$`, r.Path)
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
