package main

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Bounds of what can be assigned. The kernel limits one variable to 128 KiB.
const (
	maxAssignments = 500
	maxName        = 256       // bytes
	maxValue       = 32 << 10  // bytes
	maxAll         = 512 << 10 // bytes: with 2 MiB the kernel starts no process
)

var (
	variable   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	manifestID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*::[A-Za-z0-9._/-]+$`)
)

// splitLines splits an option's value into lines.
func splitLines(text string) []string { return strings.Split(text, "\n") }

// splitList splits an action's parameter: one entry per line or, on one line, separated by commas. Juju's command line
// turns a newline into a space, so commas are what works there.
func splitList(text string) []string {
	if strings.Contains(text, "\n") {
		return splitLines(text)
	}
	return strings.Split(text, ",")
}

// list is splitList without empty entries and without spaces around them.
func list(text string) []string {
	var entries []string
	for _, entry := range splitList(text) {
		if entry = strings.TrimSpace(entry); entry != "" {
			entries = append(entries, entry)
		}
	}
	return entries
}

// An assignment is NAME=value, from a line counted from 1.
type assignment struct {
	line        int
	name, value string
}

// assignments reads NAME=value entries. Empty ones and those that begin with # are left out. Errors name what and the line, and never show
// a value: it may be a secret in the wrong place.
func assignments(what string, lines []string, name *regexp.Regexp, example string) ([]assignment, error) {
	var all []assignment
	seen, total := map[string]bool{}, 0
	for i, line := range lines {
		line = strings.TrimSuffix(line, "\r")
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || strings.HasPrefix(trimmed, "#") {
			continue
		}
		left, value, ok := strings.Cut(strings.TrimLeft(line, " \t"), "=")
		left = strings.TrimRight(left, " \t")
		switch {
		case !ok || !name.MatchString(left):
			return nil, fmt.Errorf("%s, line %d: want %s", what, i+1, example)
		case len(left) > maxName:
			return nil, fmt.Errorf("%s, line %d: the name has more than %d bytes", what, i+1, maxName)
		case seen[left]:
			return nil, fmt.Errorf("%s, line %d: %s is there twice", what, i+1, left)
		case len(value) > maxValue:
			return nil, fmt.Errorf("%s, line %d: the value of %s has more than %d bytes", what, i+1, left, maxValue)
		case !utf8.ValidString(value) || hasControl(strings.ReplaceAll(value, "\t", " ")):
			return nil, fmt.Errorf("%s, line %d: the value of %s has a control character or is not UTF-8", what, i+1, left)
		case total+len(left)+len(value) > maxAll:
			return nil, fmt.Errorf("%s, line %d: more than %d KiB in all", what, i+1, maxAll>>10)
		case len(all) == maxAssignments:
			return nil, fmt.Errorf("%s, line %d: more than %d assignments", what, i+1, maxAssignments)
		}
		seen[left] = true
		total += len(left) + len(value)
		all = append(all, assignment{i + 1, left, value})
	}
	return all, nil
}

// parseEnvironment reads variables. Values are taken as they are, spaces included.
func parseEnvironment(what string, lines []string) (map[string]string, error) {
	all, err := assignments(what, lines, variable, "NAME=value")
	if err != nil {
		return nil, err
	}
	env := map[string]string{}
	for _, a := range all {
		env[a.name] = a.value
	}
	return env, nil
}

// parseManifest reads manifest entries. yes and no are other words for true and false.
func parseManifest(what string, lines []string) (map[string]string, error) {
	all, err := assignments(what, lines, manifestID, "the entry's full id and a value, such as com.canonical.certification::has_camera=true")
	if err != nil {
		return nil, err
	}
	entries := map[string]string{}
	for _, a := range all {
		value := strings.TrimSpace(a.value)
		switch strings.ToLower(value) {
		case "":
			return nil, fmt.Errorf("%s, line %d: %s has no value", what, a.line, a.name)
		case "true", "yes":
			value = "true"
		case "false", "no":
			value = "false"
		}
		entries[a.name] = value
	}
	return entries, nil
}
