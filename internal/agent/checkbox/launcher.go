package checkbox

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// A Launcher is one attempt at a plan, as Checkbox is told of it. It is complete: nothing that an earlier run left behind plays a part.
type Launcher struct {
	Plan        string
	Title       string // empty: "certlab"
	Description string // goes into the submission and tells our session from others
	Exclude     []string
	Match       []string
	Environment map[string]string // reaches the jobs, and is copied into the submission
	Manifest    map[string]string // full manifest entry id → true, false, a number or text
	NormalUser  string
	Archive     string // absolute path that submission.tar.xz is written to
	SecretFile  string // absolute path of the file with secret environment; empty: none
	Interactive bool
}

// environmentName is what a variable in [environment] may be called.
var environmentName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// manifestName is a full id; = would end the key and a leading [ or # would be something else.
var manifestName = regexp.MustCompile(`^[A-Za-z0-9_.:/-]+$`)

// Text returns the launcher file for a Checkbox with capabilities c. It fails for what a launcher cannot say.
func (l Launcher) Text(c Capabilities) (string, error) {
	var w iniWriter
	w.section("launcher")
	w.set("launcher_version", "1")
	w.set("stock_reports", "text")
	title := l.Title
	if title == "" {
		title = "certlab"
	}
	w.set("session_title", title)
	w.set("session_desc", l.Description)
	if l.SecretFile != "" {
		w.section("config")
		w.set("config_filename", l.SecretFile)
	}
	w.section("test plan")
	w.set("unit", l.Plan)
	w.set("forced", "yes")
	w.section("test selection")
	w.set("forced", "yes")
	for _, list := range []struct {
		key    string
		values []string
	}{{"exclude", l.Exclude}, {"match", l.Match}} {
		if len(list.values) == 0 {
			continue
		}
		if list.key == "match" && !c.Match {
			return "", fmt.Errorf("cannot write a launcher: this version of Checkbox has no match (turn it into exclusions first)")
		}
		text, err := quoteList(list.values, c)
		if err != nil {
			return "", fmt.Errorf("cannot write a launcher: %s: %w", list.key, err)
		}
		w.set(list.key, text)
	}
	w.section("ui")
	if l.Interactive {
		w.set("type", "interactive")
	} else {
		w.set("type", "silent")
	}
	// Checkbox's own ways to start again after a reboot (a systemd unit for snaps) would race with the agent; this one only
	// concerns the desktop of the user who runs Checkbox, which is root.
	w.section("restart")
	w.set("strategy", "XDG")
	if l.NormalUser != "" {
		if c.AgentSection {
			w.section("agent")
		} else {
			w.section("daemon")
		}
		w.set("normal_user", l.NormalUser)
	}
	w.section("exporter:certlab")
	w.set("unit", "com.canonical.plainbox::tar")
	w.section("transport:certlab")
	w.set("type", "file")
	w.set("path", l.Archive)
	w.section("report:certlab")
	w.set("exporter", "certlab")
	w.set("transport", "certlab")
	w.set("forced", "yes")
	if err := w.environment(l.Environment); err != nil {
		return "", err
	}
	if len(l.Manifest) > 0 {
		w.section("manifest")
		for _, id := range slices.Sorted(maps.Keys(l.Manifest)) {
			if !manifestName.MatchString(id) {
				return "", fmt.Errorf("cannot write a launcher: manifest entry %q is not a full id such as com.canonical.certification::has_touchscreen", clip(id, 200))
			}
			w.set(id, l.Manifest[id])
		}
	}
	return w.String(), w.err
}

// SecretText returns the file with environment variables that must not be in the submission: Checkbox copies the launcher into it,
// but not the file that config_filename names.
func SecretText(environment map[string]string) (string, error) {
	var w iniWriter
	if err := w.environment(environment); err != nil {
		return "", err
	}
	return w.String(), w.err
}

// quoteList writes values as Checkbox reads lists: split at spaces and commas as a shell would.
func quoteList(values []string, c Capabilities) (string, error) {
	quoted := make([]string, len(values))
	for i, v := range values {
		if strings.ContainsRune(v, ',') && !c.QuotedCommas {
			// Before 2.0 a comma splits the list within quotes too. Outside of {m,n} its escape means the same to a regular expression.
			if repetition.MatchString(v) {
				return "", fmt.Errorf("this version of Checkbox cannot take %q: write {m,n} without a comma", clip(v, 200))
			}
			v = strings.ReplaceAll(v, ",", `\x2c`)
		}
		v = strings.ReplaceAll(v, "'", `\x27`)
		quoted[i] = "'" + v + "'"
	}
	return strings.Join(quoted, " "), nil
}

var repetition = regexp.MustCompile(`\{\d*,\d*\}`)

// iniWriter writes what Python's ConfigParser reads back: one line per value, % doubled.
type iniWriter struct {
	strings.Builder
	err error
}

func (w *iniWriter) section(name string) {
	if w.Len() > 0 {
		w.WriteByte('\n')
	}
	fmt.Fprintf(w, "[%s]\n", name)
}

func (w *iniWriter) set(key, value string) {
	if strings.ContainsAny(value, "\r\n\x00\v\f\x1c\x1d\x1e\u0085\u2028\u2029") && w.err == nil {
		w.err = fmt.Errorf("cannot write a launcher: the value of %s has more than one line", key)
	}
	fmt.Fprintf(w, "%s = %s\n", key, strings.ReplaceAll(value, "%", "%%"))
}

func (w *iniWriter) environment(environment map[string]string) error {
	if len(environment) == 0 {
		return nil
	}
	w.section("environment")
	for _, name := range slices.Sorted(maps.Keys(environment)) {
		if !environmentName.MatchString(name) {
			return fmt.Errorf("cannot write a launcher: %q is no name for an environment variable", clip(name, 200))
		}
		w.set(name, environment[name])
	}
	return nil
}
