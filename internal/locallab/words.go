package locallab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// splitWords splits a setting as systemd does: at white space, with 'single' and "double" quotes and C escapes.
func splitWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	in := false
	quote := byte(0)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\':
			i++
			if i == len(s) {
				return nil, errors.New("ends in a backslash")
			}
			word.WriteByte(unescapeByte(s[i]))
			in = true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteByte(c)
		case c == '\'' || c == '"':
			quote = c
			in = true
		case c == ' ' || c == '\t' || c == '\n':
			if in {
				words = append(words, word.String())
				word.Reset()
				in = false
			}
		default:
			word.WriteByte(c)
			in = true
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote is not closed")
	}
	if in {
		words = append(words, word.String())
	}
	return words, nil
}

func unescapeByte(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 't':
		return '\t'
	case 'r':
		return '\r'
	case 's':
		return ' '
	}
	return c
}

// expandVariables replaces ${NAME} anywhere, and a word that is $NAME alone by the value's words.
func expandVariables(argv, env []string) []string {
	values := map[string]string{}
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		values[name] = value
	}
	var out []string
	for _, word := range argv {
		if name, ok := strings.CutPrefix(word, "$"); ok && isName(name) {
			out = append(out, strings.Fields(values[name])...)
			continue
		}
		out = append(out, expandBraces(word, values))
	}
	return out
}

func expandBraces(word string, values map[string]string) string {
	var out strings.Builder
	for {
		before, rest, ok := strings.Cut(word, "$")
		out.WriteString(before)
		if !ok {
			return out.String()
		}
		if strings.HasPrefix(rest, "$") {
			out.WriteByte('$')
			word = rest[1:]
			continue
		}
		if name, after, ok := strings.Cut(strings.TrimPrefix(rest, "{"), "}"); ok && strings.HasPrefix(rest, "{") && isName(name) {
			out.WriteString(values[name])
			word = after
			continue
		}
		out.WriteByte('$')
		word = rest
	}
}

func isName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '_' && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// readEnvironment reads an environment file: NAME=value lines, quotes as a shell has them, comments with # or ;.
func readEnvironment(path string) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	scanner := bufio.NewScanner(io.LimitReader(file, maxUnitFile))
	scanner.Buffer(nil, maxUnitFile)
	var env []string
	pending := ""
	for scanner.Scan() {
		line := pending + strings.TrimSpace(scanner.Text())
		pending = ""
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if rest, ok := strings.CutSuffix(line, "\\"); ok {
			pending = rest
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if !ok || !isName(name) {
			continue // as systemd does, which only logs it
		}
		value = strings.TrimSpace(value)
		if len(value) >= 2 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
			words, err := splitWords(value)
			if err == nil && len(words) == 1 {
				value = words[0]
			}
		}
		env = append(env, name+"="+value)
	}
	return env, scanner.Err()
}

func setSignal(to *syscall.Signal, value string) error {
	name := value
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	sig := unix.SignalNum(name)
	if sig == 0 {
		n := 0
		if _, err := fmt.Sscanf(value, "%d", &n); err != nil || n < 1 || n > 64 {
			return fmt.Errorf("%q is not a signal", value)
		}
		sig = syscall.Signal(n)
	}
	*to = sig
	return nil
}
