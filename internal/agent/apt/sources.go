package apt

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Source is one archive that a machine is configured for, in one suite.
type Source struct {
	File       string
	URI        string
	Suite      string
	Components []string
	Options    map[string]string // Signed-By, Trusted and Architectures, as deb822 names them; the values as they are
}

// Sources reads what archives the machine gets binary packages from, in both of apt's formats.
func (s *System) Sources() ([]Source, error) {
	var all []Source
	paths := []string{s.path("etc/apt/sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		found, _ := filepath.Glob(s.path("etc/apt/sources.list.d/" + pattern))
		paths = append(paths, found...)
	}
	for _, path := range paths {
		if path == s.path(sourcesFile) {
			continue
		}
		data, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read which archives the machine uses: %w", err)
		}
		if strings.HasSuffix(path, ".sources") {
			all = append(all, modernSources(path, data)...)
		} else {
			all = append(all, lineSources(path, data)...)
		}
	}
	return all, nil
}

func modernSources(path string, data []byte) []Source {
	var all []Source
	for fields, err := range stanzas(bufio.NewReader(bytes.NewReader(data))) {
		if err != nil {
			break
		}
		if enabled := strings.ToLower(fields["enabled"]); enabled == "no" || enabled == "false" || enabled == "0" || !slices.Contains(strings.Fields(fields["types"]), "deb") {
			continue
		}
		options := make(map[string]string)
		for _, name := range []string{"Signed-By", "Trusted", "Architectures"} {
			if v := fields[strings.ToLower(name)]; v != "" {
				options[name] = v
			}
		}
		for _, uri := range strings.Fields(fields["uris"]) {
			for _, suite := range strings.Fields(fields["suites"]) {
				all = append(all, Source{File: path, URI: uri, Suite: suite, Components: strings.Fields(fields["components"]), Options: options})
			}
		}
	}
	return all
}

// lineSources reads lines such as `deb [signed-by=FILE arch=amd64] URI SUITE COMPONENT…`.
func lineSources(path string, data []byte) []Source {
	var all []Source
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb")
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '\t' {
			continue
		}
		options := make(map[string]string)
		rest = strings.TrimSpace(rest)
		if inside, ok := strings.CutPrefix(rest, "["); ok {
			var given string
			if given, rest, ok = strings.Cut(inside, "]"); !ok {
				continue
			}
			for _, option := range strings.Fields(given) {
				name, value, _ := strings.Cut(option, "=")
				if name, ok := map[string]string{"signed-by": "Signed-By", "trusted": "Trusted", "arch": "Architectures"}[strings.ToLower(name)]; ok {
					options[name] = strings.ReplaceAll(value, ",", " ")
				}
			}
		}
		if words := strings.Fields(rest); len(words) >= 2 {
			all = append(all, Source{File: path, URI: words[0], Suite: words[1], Components: words[2:], Options: options})
		}
	}
	return all
}

// own are the files in which a system's installer writes its own archive.
var own = []string{"ubuntu.sources", "sources.list", "debian.sources"}

// archiveOf picks the machine's own archive of a release among its sources: not a PPA for it.
func archiveOf(all []Source, series string) (Source, bool) {
	uris := make(map[string]bool)
	for _, s := range all {
		if s.Suite == series+"-updates" || s.Suite == series+"-security" {
			uris[s.URI] = true
		}
	}
	best, score := Source{}, -1
	for _, s := range all {
		if s.Suite != series {
			continue
		}
		points := 0
		if uris[s.URI] {
			points += 2
		}
		if slices.Contains(own, filepath.Base(s.File)) {
			points++
		}
		if points > score {
			best, score = s, points
		}
	}
	return best, score >= 0
}

// configured reports whether the machine uses that suite of that archive anyway.
func configured(all []Source, uri, suite string, components []string) bool {
	have := make(map[string]bool)
	for _, s := range all {
		if strings.TrimRight(s.URI, "/") == strings.TrimRight(uri, "/") && s.Suite == suite {
			for _, c := range s.Components {
				have[c] = true
			}
		}
	}
	if len(have) == 0 {
		return false
	}
	return !slices.ContainsFunc(components, func(c string) bool { return !have[c] })
}

// text is a source as deb822.
func (s Source) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Types: deb\nURIs: %s\nSuites: %s\n", s.URI, s.Suite)
	if len(s.Components) > 0 {
		fmt.Fprintf(&b, "Components: %s\n", strings.Join(s.Components, " "))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Options)) {
		// A key may be given in the place of its file's name, over many lines.
		fmt.Fprintf(&b, "%s: %s\n", name, strings.ReplaceAll(s.Options[name], "\n", "\n "))
	}
	return b.String()
}
