package maas

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sort"
	"strings"
	"unicode"
)

// sentence makes one line of what MAAS says of an error: a text, a JSON object of the fields that are wrong, or a page.
func sentence(x *exchange) string {
	text := strings.TrimSpace(x.text)
	if text == "" || x.html && !strings.HasPrefix(text, "Authorization") {
		return strings.TrimSpace(fmt.Sprintf("%d %s", x.status, http.StatusText(x.status)))
	}
	return fields(text)
}

// fields flattens {"pool": ["Select a valid choice."]} to "pool: Select a valid choice". Any other text stays what it is, in one line.
func fields(text string) string {
	var object map[string]any
	if json.Unmarshal([]byte(text), &object) != nil || len(object) == 0 {
		return plain(text)
	}
	names := make([]string, 0, len(object))
	for name := range object {
		names = append(names, name)
	}
	sort.Strings(names)
	var parts []string
	for _, name := range names {
		said := strings.Join(texts(object[name], 0), " ")
		if name != "__all__" {
			said = name + ": " + said
		}
		parts = append(parts, strings.TrimRight(said, ". "))
	}
	return plain(strings.Join(parts, "; "))
}

// texts returns all texts in a JSON value.
func texts(value any, depth int) []string {
	if depth > 8 {
		return nil
	}
	switch value := value.(type) {
	case nil:
		return nil
	case string:
		return []string{value}
	case []any:
		var all []string
		for _, one := range value {
			all = append(all, texts(one, depth+1)...)
		}
		return all
	case map[string]any:
		encoded, _ := json.Marshal(value)
		return []string{string(encoded)}
	}
	return []string{fmt.Sprint(value)}
}

// maxSaid is how much of what somebody else says goes into a message.
const maxSaid = 400

// plain makes one printable line of a text.
func plain(text string) string {
	words := strings.FieldsFunc(strings.ToValidUTF8(text, "?"), func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) })
	text = strings.Join(words, " ")
	if runes := []rune(text); len(runes) > maxSaid {
		text = string(runes[:maxSaid]) + "…"
	}
	return text
}
