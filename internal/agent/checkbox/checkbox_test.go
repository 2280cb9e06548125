package checkbox

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestVersionIsReadFromWhatEachCheckboxPrints(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Version{
		"checkbox-ng: 1.18.1\ncheckbox-support: not available\n": {1, 18, 1},
		"7.3.0\n": {7, 3, 0},
		"$PROVIDERPATH is defined, so following provider sources are ignored ['/usr/share/plainbox-providers-1'] \n5.0.0\n": {5, 0, 0},
		"7.4.0.dev12\n":                  {7, 4, 0},
		"6.1\n":                          {6, 1, 0},
		"checkbox-ng 3.3.0~rc1-1ubuntu1": {3, 3, 0},
	} {
		got, err := ParseVersion(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	_, err := ParseVersion("checkbox-support: 1.2.3\nno version\n")
	require.Error(t, err)
}

func TestCapabilitiesFollowTheVersion(t *testing.T) {
	t.Parallel()
	old, middle, late, last := CapabilitiesOf(Version{1, 18, 1}), CapabilitiesOf(Version{3, 3, 0}), CapabilitiesOf(Version{5, 0, 0}), CapabilitiesOf(Version{9, 0, 0})
	require.Equal(t, ResumeByID, old.Resume)
	require.Equal(t, ResumeByID, middle.Resume)
	require.Equal(t, ResumeByLauncher, late.Resume)
	require.False(t, middle.Match)
	require.True(t, late.Match)
	require.False(t, old.CheckConfig)
	require.False(t, late.NeedsUser, "5.0.0 ran unprivileged jobs as root")
	require.True(t, last.NeedsUser)
	require.Equal(t, CapabilitiesOf(Version{7, 3, 0}), last)
}

func TestLauncherSaysAllThatARunNeeds(t *testing.T) {
	t.Parallel()
	l := Launcher{Plan: "com.example::p", Title: "50% done", Description: "certlab run r1 attempt 1", Exclude: []string{"a b", "it's,x"}, Match: []string{"^c$"},
		Environment: map[string]string{"B": "2", "A": "x=y %"}, Manifest: map[string]string{"com.example::has_x": "true"}, NormalUser: "ubuntu",
		Archive: "/run/s.tar.xz", SecretFile: "/run/secret.conf"}
	text, err := l.Text(CapabilitiesOf(Version{7, 3, 0}))
	require.NoError(t, err)
	require.Equal(t, `[launcher]
launcher_version = 1
stock_reports = text
session_title = 50%% done
session_desc = certlab run r1 attempt 1

[config]
config_filename = /run/secret.conf

[test plan]
unit = com.example::p
forced = yes

[test selection]
forced = yes
exclude = 'a b' 'it\x27s,x'
match = '^c$'

[ui]
type = silent

[restart]
strategy = XDG

[agent]
normal_user = ubuntu

[exporter:certlab]
unit = com.canonical.plainbox::tar

[transport:certlab]
type = file
path = /run/s.tar.xz

[report:certlab]
exporter = certlab
transport = certlab
forced = yes

[environment]
A = x=y %%
B = 2

[manifest]
com.example::has_x = true
`, text)
	old := CapabilitiesOf(Version{1, 18, 1})
	_, err = l.Text(old)
	require.ErrorContains(t, err, "match")
	l.Match = nil
	text, err = l.Text(old)
	require.NoError(t, err)
	require.Contains(t, text, `exclude = 'a b' 'it\x27s\x2cx'`)
	require.Contains(t, text, "[daemon]\nnormal_user = ubuntu\n")
}

func TestLauncherRefusesWhatItCannotSay(t *testing.T) {
	t.Parallel()
	c := CapabilitiesOf(Version{1, 18, 1})
	for name, l := range map[string]Launcher{
		"title":       {Plan: "p", Title: "two\nlines"},
		"value":       {Plan: "p", Environment: map[string]string{"A": "b\n[ui]\ntype = interactive"}},
		"name":        {Plan: "p", Environment: map[string]string{"A=B": "c"}},
		"line feed":   {Plan: "p", Exclude: []string{"a\rb"}},
		"separator":   {Plan: "p", Title: "a\u2028b"},
		"repetition":  {Plan: "p", Exclude: []string{"a{1,2}"}},
		"manifest id": {Plan: "p", Manifest: map[string]string{"[x]": "true"}},
	} {
		_, err := l.Text(c)
		require.Error(t, err, name)
	}
}

func TestConsoleTellsProgress(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]Console{
		"head-reboot.txt":                  {Done: 2, Planned: 2, Last: "com.example.lab::quotes"},
		"killed-then-resumed.txt":          {Done: 1, Planned: 1, Last: "com.example.lab::quotes"},
		"resumed-blocker-with-comment.txt": {Done: 1, Planned: 1, Last: "com.example.lab::quotes"},
		"head-manual.txt": {Done: 1, Planned: 4, Job: "com.example.lab::manual", Last: "com.example.lab::manual", Traceback: true,
			Error: "plainbox.impl.developer.UnexpectedMethodCall:"},
	} {
		data, err := os.ReadFile(filepath.Join("testdata/console", file))
		require.NoError(t, err)
		var whole, pieces Console
		whole.Write(data)
		for _, b := range data { // however it arrives
			pieces.Write([]byte{b})
		}
		require.Equal(t, whole, pieces, file)
		whole.line = nil
		require.Equal(t, want, whole, file)
	}
}

// writeSession makes a session directory like Checkbox's.
func writeSession(t *testing.T, dir, id, description, running, outcome string, flags ...string) Session {
	t.Helper()
	blob, err := json.Marshal(map[string]string{"testplan_id": "com.example::p", "description": description})
	require.NoError(t, err)
	results := map[string]any{}
	if outcome != "" {
		results[running] = []any{map[string]any{"outcome": outcome, "comments": "why"}}
	}
	state := map[string]any{"version": 7, "session": map[string]any{
		"metadata": map[string]any{"title": "t", "app_blob": base64.StdEncoding.EncodeToString(blob), "flags": flags, "running_job_name": running},
		"results":  results,
	}}
	s := filepath.Join(dir, id+".session")
	require.NoError(t, os.MkdirAll(filepath.Join(s, "session-share"), 0o755))
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	require.NoError(t, json.NewEncoder(z).Encode(state))
	require.NoError(t, z.Close())
	require.NoError(t, os.WriteFile(filepath.Join(s, "session"), b.Bytes(), 0o644))
	found, ok, err := FindSession(dir, description)
	require.NoError(t, err)
	require.True(t, ok)
	return found
}

func TestSessionSaysWhatWasInterrupted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := writeSession(t, dir, "a", "ours", "com.example::j", "", "incomplete")
	require.Equal(t, "com.example::j", s.Interrupted())
	require.True(t, s.Incomplete)
	require.Equal(t, "com.example::p", s.Plan)
	// Checkbox leaves the last job's name there when it has ended: it was not interrupted.
	s = writeSession(t, dir, "b", "second", "com.example::j", "fail", "incomplete")
	require.Empty(t, s.Interrupted())
	require.Equal(t, "fail", s.RunningEnd)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.session", "session"), []byte("\x1f\x8bgarbage"), 0o644))
	_, ok, err := FindSession(dir, "ours")
	require.NoError(t, err)
	require.False(t, ok)
	_, err = Sessions(filepath.Join(dir, "nothing here"))
	require.NoError(t, err)
}

func TestResumeByIDNeverTurnsAnInterruptedJobIntoAPass(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tool := &Tool{Path: "checkbox-cli", Version: Version{1, 18, 1}, Capabilities: CapabilitiesOf(Version{1, 18, 1})}
	preset := func(s Session) string {
		text, err := os.ReadFile(s.resultPath())
		if errors.Is(err, os.ErrNotExist) {
			return ""
		}
		require.NoError(t, err)
		return string(text)
	}
	s := writeSession(t, dir, "a", "ours", "com.example::j", "", "incomplete")
	cmd, err := tool.Resume("l", s, false, "machine lost")
	require.NoError(t, err)
	require.Equal(t, []string{"checkbox-cli", "launcher", "l", "--resume", "a"}, cmd.Args)
	require.Empty(t, cmd.Stdin)
	require.JSONEq(t, `{"outcome":"fail","comments":"Certlab: machine lost"}`, preset(s))
	// Used once, it must not hit the next job, which is meant to be interrupted.
	_, err = tool.Resume("l", s, true, "rebooted")
	require.NoError(t, err)
	require.Empty(t, preset(s))
	// A job that has ended keeps its outcome, which Checkbox would overwrite with a pass.
	s = writeSession(t, dir, "b", "second", "com.example::j", "crash", "incomplete")
	_, err = tool.Resume("l", s, false, "machine lost")
	require.NoError(t, err)
	require.JSONEq(t, `{"outcome":"fail","comments":"Certlab: crashed; why"}`, preset(s))
	// What a job has preset for itself stays.
	s = writeSession(t, dir, "c", "third", "com.example::j", "", "incomplete")
	require.NoError(t, os.WriteFile(s.resultPath(), []byte(`{"outcome":"skip"}`), 0o644))
	_, err = tool.Resume("l", s, true, "rebooted")
	require.NoError(t, err)
	require.JSONEq(t, `{"outcome":"skip"}`, preset(s))
}

func TestResumeByLauncherAnswersTheCommentPromptOnly(t *testing.T) {
	t.Parallel()
	tool := &Tool{Path: "checkbox-cli", Version: Version{7, 3, 0}, Capabilities: CapabilitiesOf(Version{7, 3, 0})}
	s := writeSession(t, t.TempDir(), "a", "ours", "com.example::j", "", "incomplete")
	cmd, err := tool.Resume("l", s, false, "machine lost")
	require.NoError(t, err)
	require.Equal(t, []string{"checkbox-cli", "launcher", "l"}, cmd.Args)
	require.Equal(t, "Certlab: machine lost\n", cmd.Stdin)
	require.NoFileExists(t, s.resultPath())
	cmd, err = tool.Resume("l", s, true, "")
	require.NoError(t, err)
	require.Empty(t, cmd.Stdin)
	require.Empty(t, tool.Start("l").Stdin)
}

func TestForeignSessionsAreSetAside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range 5 {
		writeSession(t, dir, fmt.Sprintf("foreign%d", i), fmt.Sprintf("other %d", i), "j", "", "incomplete")
	}
	writeSession(t, dir, "done", "done", "j", "pass", "submitted")
	writeSession(t, dir, "mine", "mine", "j", "", "incomplete")
	listing := writeSession(t, dir, "listing", "listed", "", "", "incomplete", "bootstrapping")
	state, err := os.ReadFile(filepath.Join(listing.Dir, "session"))
	require.NoError(t, err)
	z, err := gzip.NewReader(bytes.NewReader(state))
	require.NoError(t, err)
	plain, err := io.ReadAll(z)
	require.NoError(t, err)
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(bytes.Replace(plain, []byte(`"title":"t"`), []byte(`"title":"`+listingTitle+`"`), 1))
	require.NoError(t, w.Close())
	require.NoError(t, os.WriteFile(filepath.Join(listing.Dir, "session"), b.Bytes(), 0o644))
	ids, err := SetAside(dir, "mine")
	require.NoError(t, err)
	require.Len(t, ids, 5)
	left, err := Sessions(dir)
	require.NoError(t, err)
	require.Len(t, left, 2)
	kept, err := filepath.Glob(filepath.Join(dir, "*"+aside))
	require.NoError(t, err)
	require.Len(t, kept, maxAside)
}

func TestSessionIsSavedWithinItsLimit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := writeSession(t, dir, "a", "ours", "j", "", "incomplete")
	require.NoError(t, os.MkdirAll(filepath.Join(s.Dir, "io-logs"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(s.Dir, "io-logs", "j.stdout"), bytes.Repeat([]byte("x"), 5000), 0o644))
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(s.Dir, "link")))
	read := func(max int64) (map[string]int, bool) {
		var b bytes.Buffer
		whole, err := s.Save(&b, max)
		require.NoError(t, err)
		z, err := gzip.NewReader(&b)
		require.NoError(t, err)
		sizes := make(map[string]int)
		for r := tar.NewReader(z); ; {
			h, err := r.Next()
			if err == io.EOF {
				return sizes, whole
			}
			require.NoError(t, err)
			data, err := io.ReadAll(r)
			require.NoError(t, err)
			sizes[h.Name] = len(data)
		}
	}
	sizes, whole := read(1 << 20)
	require.True(t, whole)
	require.Equal(t, 5000, sizes["a.session/io-logs/j.stdout"])
	require.NotContains(t, sizes, "a.session/link")
	sizes, whole = read(100)
	require.False(t, whole)
	require.Equal(t, 100, sizes["a.session/io-logs/j.stdout"])
	require.Equal(t, int64(5000), DirSize(filepath.Join(s.Dir, "io-logs")))
}

func TestJobsAreReadInBothFormats(t *testing.T) {
	t.Parallel()
	jobs, err := parseJobs("a::x\tshell\t<missing flags>\na::y\tmanual\tnoreturn autorestart\na::z\tshell\t['preserve-locale']\nb::m\tresource\tone\n two\n")
	require.NoError(t, err)
	require.Equal(t, []Job{{"a::x", "shell", nil}, {"a::y", "manual", []string{"noreturn", "autorestart"}}, {"a::z", "shell", []string{"preserve-locale"}},
		{"b::m", "resource", []string{"one", "two"}}}, jobs)
	require.True(t, jobs[1].NoReturn())
	require.True(t, jobs[1].Interactive())
	data, err := os.ReadFile("testdata/console/list-bootstrapped.json")
	require.NoError(t, err)
	jobs, err = parseJobsJSON(string(data))
	require.NoError(t, err)
	require.Len(t, jobs, 6)
	require.Equal(t, Job{"com.canonical.plainbox::manifest", "resource", []string{"preserve-locale"}}, jobs[4])
}

func TestJobsAreListedWithTheNormalUserWhereCheckboxFindsNone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "checkbox-cli")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+
		"[ \"$1 $5 $6\" = 'list-bootstrapped --normal-user ann' ] && exec printf 'a::b\\tshell\\t<missing flags>\\n'\n"+
		"echo 'RuntimeError: no normal user' >&2\nexit 1\n"), 0o755))
	v := Version{7, 3, 0}
	tool := &Tool{Path: path, Version: v, Capabilities: CapabilitiesOf(v), SessionsDir: t.TempDir()}
	_, err := tool.Jobs(t.Context(), "a::plan")
	require.ErrorContains(t, err, "no normal user")
	tool.NormalUser = "ann"
	jobs, err := tool.Jobs(t.Context(), "a::plan")
	require.NoError(t, err)
	require.Equal(t, []Job{{ID: "a::b", Plugin: "shell"}}, jobs)
}

func TestMatchBecomesExclusionsWhereThereIsNone(t *testing.T) {
	t.Parallel()
	jobs := []Job{{ID: "a::wifi/x.1"}, {ID: "a::disk"}, {ID: "a::info", Plugin: "resource"}}
	exclude, err := MatchExclusions([]string{".*::disk"}, jobs)
	require.NoError(t, err)
	require.Equal(t, []string{`^a::wifi/x\.1$`}, exclude)
	_, err = MatchExclusions([]string{"(?!x)"}, jobs)
	require.Error(t, err)
	require.True(t, Selected("a::disk", nil, []string{"a"}))
	require.False(t, Selected("a::disk", []string{".*disk"}, []string{"a"}))
	require.False(t, Selected("a::disk", nil, []string{"disk"}), "patterns match from the beginning")
}

func TestNearestPlansAreSuggested(t *testing.T) {
	t.Parallel()
	plans := []Plan{{ID: "com.canonical.certification::sru"}, {ID: "com.canonical.certification::sru-server"}, {ID: "com.canonical.certlab::preflight"}}
	require.Equal(t, []string{"com.canonical.certlab::preflight"}, Nearest("com.canonical.certification::prefligth", plans))
	require.Equal(t, "com.canonical.certification::sru", Nearest("sru", plans)[0])
	require.Empty(t, Nearest("com.canonical.certification::entirely-else", plans))
}

func TestProvidersAreAnnounced(t *testing.T) {
	t.Parallel()
	found, err := FindProviders("../../../charms/checkbox/provider")
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, "com.canonical.certlab", found[0].Namespace)
	dir := filepath.Join(t.TempDir(), "providers")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "old.provider"), nil, 0o644))
	require.NoError(t, WriteProviders(dir, found))
	system := ":/usr/local/share/plainbox-providers-1:/usr/share/plainbox-providers-1:/var/tmp/checkbox-providers-develop"
	require.Equal(t, dir+system, ProviderPath(dir, "/usr/bin/checkbox-cli"))
	venv := t.TempDir()
	own := filepath.Join(venv, "share", "plainbox-providers-1")
	require.NoError(t, os.MkdirAll(own, 0o755))
	require.Equal(t, dir+system+":"+own, ProviderPath(dir, filepath.Join(venv, "bin", "checkbox-cli")), "a virtual environment has providers of its own")
	require.NoFileExists(t, filepath.Join(dir, "old.provider"))
	text, err := os.ReadFile(filepath.Join(dir, "com.canonical.certlab-certlab.provider"))
	require.NoError(t, err)
	require.Equal(t, "[PlainBox Provider]\nname = certlab\nnamespace = com.canonical.certlab\nversion = 1.0\nlocation = ../../../charms/checkbox/provider\n", string(text))
	_, err = FindProviders(t.TempDir())
	require.ErrorContains(t, err, "cannot find a Checkbox provider")
	side := t.TempDir()
	for _, dir := range []string{"certlab-gone", "certlab-certlab.new", "somebodys"} {
		require.NoError(t, os.MkdirAll(filepath.Join(side, dir), 0o755))
	}
	require.NoError(t, Sideload(side, found))
	require.FileExists(t, filepath.Join(side, "certlab-certlab", "manage.py"))
	require.NoDirExists(t, filepath.Join(side, "certlab-gone"))
	require.NoDirExists(t, filepath.Join(side, "certlab-certlab.new"))
	require.NoError(t, Sideload(side, nil))
	left, err := os.ReadDir(side)
	require.NoError(t, err)
	require.Len(t, left, 1, "what others have put there stays")
}

func TestSnapsAreKnownByTheirPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "snap"), nil, 0o755))
	require.NoError(t, os.Symlink("snap", filepath.Join(dir, "checkbox-ce-oem.checkbox-cli")))
	require.True(t, IsSnap(filepath.Join(dir, "checkbox-ce-oem.checkbox-cli")))
	require.True(t, IsSnap("/snap/bin/checkbox.checkbox-cli"))
	require.False(t, IsSnap("/usr/bin/checkbox-cli"))
}

// A recorder is a Runner that knows answers and remembers what was run.
type recorder struct {
	answers map[string]error
	output  map[string]string
	ran     []string
}

func (r *recorder) run(_ context.Context, _ []string, name string, args ...string) (string, error) {
	line := strings.Join(append([]string{name}, args...), " ")
	r.ran = append(r.ran, line)
	// The longest prefix is meant: checkbox begins checkbox24.
	longest := func(prefix, best string) bool { return strings.HasPrefix(line, prefix) && len(prefix) >= len(best) }
	var failed, said string
	for prefix := range r.answers {
		if longest(prefix, failed) {
			failed = prefix
		}
	}
	for prefix := range r.output {
		if longest(prefix, said) {
			said = prefix
		}
	}
	return r.output[said], r.answers[failed]
}

func installer(r *recorder, programs ...string) *Installer {
	return &Installer{Run: r.run, Timeout: time.Minute, SnapBin: "/snap/bin", LookPath: func(name string) (string, error) {
		for _, p := range programs {
			if p == name {
				return "/usr/bin/" + name, nil
			}
		}
		return "", errors.New("not found")
	}}
}

func TestSnapIsInstalledAndItsAgentStopped(t *testing.T) {
	t.Parallel()
	r := &recorder{answers: map[string]error{"snap list": errors.New("exit status 1"), "snap stop --disable checkbox.service": errors.New("no such")},
		output: map[string]string{"snap services": "Service         Startup  Current  Notes\ncheckbox.agent  enabled  active   -\n"}}
	path, err := installer(r, "snap").Install(t.Context(), Source{Kind: "snap"}, "24.04")
	require.NoError(t, err)
	require.Equal(t, "/snap/bin/checkbox.checkbox-cli", path)
	require.Equal(t, []string{
		"snap wait system seed.loaded",
		"snap list checkbox24", "snap install checkbox24 --channel=latest/stable",
		"snap list checkbox", "snap install checkbox --channel=24.04/stable --classic",
		"snap stop --disable checkbox.agent", "snap stop --disable checkbox.remote-slave", "snap stop --disable checkbox.service",
		"snap services checkbox", "snap stop --disable checkbox.agent",
	}, r.ran)
	r = &recorder{answers: map[string]error{"snap list": errors.New("exit status 1"), "snap install checkbox22": errors.New("exit status 1")},
		output: map[string]string{"snap install checkbox22": "error: unable to contact snap store\n"}}
	_, err = installer(r, "snap").Install(t.Context(), Source{Kind: "snap", Channel: "uc22/stable"}, "")
	require.EqualError(t, err, "cannot install snap checkbox22: error: unable to contact snap store (exit status 1)")
	_, err = installer(r).Install(t.Context(), Source{Kind: "snap"}, "24.04")
	require.ErrorContains(t, err, "set checkbox-source")
}

func TestSnapsAreOfTheRiskThatIsWantedAndInstalledOnce(t *testing.T) {
	t.Parallel()
	list := map[string]string{
		"snap list checkbox24": "Name Version Rev Tracking Publisher Notes\ncheckbox24 7.4.0 9 latest/stable ce-certification-qa -\n",
		"snap list checkbox":   "Name Version Rev Tracking Publisher Notes\ncheckbox 7.4.0 9 24.04/stable ce-certification-qa classic\n",
	}
	r := &recorder{output: list}
	_, err := installer(r, "snap").Install(t.Context(), Source{Kind: "snap", Channel: "24.04/edge"}, "")
	require.NoError(t, err)
	require.Contains(t, r.ran, "snap refresh checkbox24 --channel=latest/edge")
	require.Contains(t, r.ran, "snap refresh checkbox --channel=24.04/edge --classic")
	// A machine that has lost its network goes on with what it has.
	r = &recorder{output: list, answers: map[string]error{"snap refresh": errors.New("no network"), "snap install": errors.New("no network")}}
	_, err = installer(r, "snap").Install(t.Context(), Source{Kind: "snap", Channel: "24.04"}, "")
	require.NoError(t, err)
	require.Equal(t, "latest/edge", fullChannel("edge"))
	require.Equal(t, "latest/beta/fix", fullChannel("beta/fix"))
	require.Equal(t, "24.04/edge", fullChannel("24.04/edge"))
}

func TestSnapdIsToldOfTheProxyUnlessItHasOne(t *testing.T) {
	t.Parallel()
	r := &recorder{answers: map[string]error{"snap get system proxy.https": errors.New("no such option")},
		output: map[string]string{"snap get system proxy.http": "http://operators:3128\n"}}
	in := installer(r, "snap")
	in.Proxy = Proxy{HTTP: "http://proxy:3128", HTTPS: "http://proxy:3128"}
	_, err := in.Install(t.Context(), Source{Kind: "snap"}, "24.04")
	require.NoError(t, err)
	require.Contains(t, r.ran, "snap set system proxy.https=http://proxy:3128")
	require.NotContains(t, r.ran, "snap set system proxy.http=http://proxy:3128")
}

func TestSnapsAreHeldDuringARun(t *testing.T) {
	t.Parallel()
	r := &recorder{output: map[string]string{"snap list": `Name        Version  Rev   Tracking       Publisher            Notes
checkbox    7.3.0    5224  24.04/stable   ce-certification-qa  classic
checkbox22  7.3.0    726   latest/stable  ce-certification-qa  held
checkbox24  7.3.0    726   latest/stable  ce-certification-qa  -
core24      20260101 1     latest/stable  canonical**          base
`}}
	names, err := HoldSnaps(t.Context(), r.run, nil, 24*time.Hour+time.Minute)
	require.NoError(t, err)
	require.Equal(t, []string{"checkbox", "checkbox24"}, names)
	require.NoError(t, ReleaseSnaps(t.Context(), r.run, nil, names))
	require.NoError(t, ReleaseSnaps(t.Context(), r.run, nil, nil))
	require.Equal(t, []string{"snap list", "snap refresh --hold=25h checkbox checkbox24", "snap refresh --unhold checkbox checkbox24"}, r.ran)
}

func TestDebIsMaskedBeforeItIsInstalled(t *testing.T) {
	t.Parallel()
	installed := "install ok installed"
	r := &recorder{output: map[string]string{"dpkg-query -W -f ${Status} checkbox-provider-base": installed}}
	debs := func(r *recorder) *Installer {
		return installer(r, "apt-get", "systemctl", "add-apt-repository", "checkbox-cli")
	}
	path, err := debs(r).Install(t.Context(),
		Source{Kind: "deb", Channel: "ppa:checkbox-dev/stable", ExtraPackages: []string{"checkbox-provider-base"}}, "")
	require.NoError(t, err)
	require.Equal(t, "/usr/bin/checkbox-cli", path)
	require.Equal(t, []string{
		"systemctl mask --now checkbox-ng.service",
		"add-apt-repository --yes ppa:checkbox-dev/stable",
		"dpkg-query -W -f ${Status} checkbox-ng",
		"apt-get -q update",
		"apt-get -q -y -o DPkg::Lock::Timeout=600 install checkbox-ng",
		"dpkg-query -W -f ${Status} checkbox-provider-base",
	}, r.ran)

	// After a reboot without a network nothing is asked of it. By default the certification plans come too, as far as there are any.
	in := debs(&recorder{output: map[string]string{"dpkg-query": installed},
		answers: map[string]error{"add-apt-repository": errors.New("no network"), "apt-get": errors.New("no network"), "apt-cache show checkbox-provider-sru": errors.New("no such")}})
	in.Sources = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(in.Sources, "checkbox-dev-ubuntu-stable-noble.sources"),
		[]byte("Types: deb\nURIs: https://ppa.launchpadcontent.net/checkbox-dev/stable/ubuntu/\nSuites: noble\n"), 0o644))
	_, err = in.Install(t.Context(), Source{Kind: "deb", Channel: "ppa:checkbox-dev/stable"}, "")
	require.NoError(t, err)
	_, err = in.Install(t.Context(), Source{Kind: "deb", Channel: "ppa:checkbox-dev/beta"}, "")
	require.ErrorContains(t, err, "cannot add ppa:checkbox-dev/beta")
	for _, s := range []Source{{Kind: "rpm"}, {Kind: "path"}, {Kind: "path", Path: "relative"}, {Kind: "deb", Channel: "; reboot"},
		{Kind: "snap", Channel: "--dangerous x"}, {Kind: "deb", ExtraPackages: []string{"-o=x"}}, {Kind: "path", Path: "/nothing/there"}} {
		_, err := installer(&recorder{}, "apt-get", "snap").Install(t.Context(), s, "24.04")
		require.ErrorContains(t, err, "set ", "%+v", s)
	}
	dir := t.TempDir()
	require.NoError(t, maskUnit(dir, "x.service"))
	require.NoError(t, maskUnit(dir, "x.service"))
	target, err := os.Readlink(filepath.Join(dir, "x.service"))
	require.NoError(t, err)
	require.Equal(t, "/dev/null", target)
}

func TestWhatIsStartedMayBeKilledWhenMemoryIsShort(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may protect a process from the kernel's memory killer")
	}
	before, err := os.ReadFile("/proc/self/oom_score_adj")
	require.NoError(t, err)
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-100"), 0); err != nil {
		t.Skipf("cannot protect this process: %v", err)
	}
	defer os.WriteFile("/proc/self/oom_score_adj", before, 0)
	out, err := Exec(t.Context(), nil, "/bin/sh", "-c", "sleep 0.3; cat /proc/self/oom_score_adj")
	require.NoError(t, err)
	require.Equal(t, "0\n", out)
	tool := &Tool{Path: "/bin/sh"}
	out, err = tool.output(t.Context(), time.Minute, "-c", "sleep 0.3; cat /proc/self/oom_score_adj")
	require.NoError(t, err)
	require.Equal(t, "0\n", out)
}

func TestAptIsWaitedForAndMended(t *testing.T) {
	t.Parallel()
	const install = "apt-get -q -y -o DPkg::Lock::Timeout=600 install checkbox-ng"
	var ran []string
	in := &Installer{Timeout: time.Minute, Patience: time.Millisecond, LookPath: func(name string) (string, error) { return "/usr/bin/" + name, nil }}
	in.Run = func(_ context.Context, _ []string, name string, args ...string) (string, error) {
		line := strings.Join(append([]string{name}, args...), " ")
		times := 0
		for _, before := range ran {
			if before == line {
				times++
			}
		}
		ran = append(ran, line)
		switch {
		case name == "dpkg-query":
			return "", nil
		case line == "apt-get -q update" && times < 2:
			return "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 812 (apt-get)\n", errors.New("exit status 100")
		case line == "apt-get -q update":
			return "E: The repository 'http://broken noble Release' does not have a Release file.\n", errors.New("exit status 100")
		case line == install && times == 0:
			return "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem.\n", errors.New("exit status 100")
		}
		return "", nil
	}
	require.NoError(t, in.packages(t.Context(), []string{"checkbox-ng"}))
	require.Equal(t, []string{"dpkg-query -W -f ${Status} checkbox-ng", "apt-get -q update", "apt-get -q update", "apt-get -q update",
		install, "dpkg --configure -a", install}, ran)
}

func TestDesktopSessionIsFound(t *testing.T) {
	t.Parallel()
	proc := t.TempDir()
	add := func(pid, comm string, environ ...string) {
		dir := filepath.Join(proc, pid)
		require.NoError(t, os.Mkdir(dir, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "comm"), []byte(comm+"\n"), 0o644))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "environ"), []byte(strings.Join(environ, "\x00")+"\x00"), 0o644))
	}
	add("10", "bash", "DISPLAY=:9")
	_, ok := FindDesktop(proc, "")
	require.False(t, ok)
	add("11", "Xwayland", "DISPLAY=:1")
	add("12", "gnome-shell", "WAYLAND_DISPLAY=wayland-0", "XDG_RUNTIME_DIR=/run/user/1000", "PATH=/bin", "SECRET=x")
	d, ok := FindDesktop(proc, "")
	require.True(t, ok)
	require.Equal(t, map[string]string{"WAYLAND_DISPLAY": "wayland-0", "XDG_RUNTIME_DIR": "/run/user/1000", "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/user/1000/bus"}, d.Environment)
	_, ok = FindDesktop(proc, "nobody-here")
	require.False(t, ok)
	require.True(t, NeedsDesktop("com.canonical.certification::client-cert-desktop-24-04-automated"))
	require.False(t, NeedsDesktop("com.canonical.certification::sru-server"))
	passwd := filepath.Join(t.TempDir(), "passwd")
	require.NoError(t, os.WriteFile(passwd, []byte("root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\n"), 0o644))
	require.Equal(t, "ann", NormalUser(passwd))
	require.True(t, UserExists(passwd, "ann"))
	require.False(t, UserExists(passwd, "bob"))
}

func TestFaultAskingCheckboxIsRepeatedWhenItIsKilled(t *testing.T) {
	t.Parallel()
	count := filepath.Join(t.TempDir(), "count")
	script := `echo x >>"$0"; if [ "$(wc -l <"$0")" -le "$1" ]; then kill -KILL $$; fi; echo answer`
	tool := &Tool{Path: "/bin/sh", Env: []string{"PATH=" + os.Getenv("PATH")}}
	out, err := tool.output(t.Context(), time.Minute, "-c", script, count, "2")
	require.NoError(t, err)
	require.Equal(t, "answer\n", out)

	require.NoError(t, os.Remove(count))
	_, err = tool.output(t.Context(), time.Minute, "-c", script, count, "100")
	require.ErrorContains(t, err, "signal: killed")
	tries, err := os.ReadFile(count)
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("x\n", maxKills), string(tries))

	require.NoError(t, os.Remove(count))
	_, err = tool.output(t.Context(), time.Minute, "-c", `echo x >>"$0"; exit 3`, count)
	require.ErrorContains(t, err, "exit status 3")
	tries, err = os.ReadFile(count)
	require.NoError(t, err)
	require.Equal(t, "x\n", string(tries), "what ended by itself was repeated")
}
