package sshkeys

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"
)

// maxLine bounds a public key's line, in bytes; an RSA key of 16,384 bits has 2,800.
const maxLine = 8 << 10

// forms says, for each type of key that sshd takes today, how many fields follow the type in its blob. DSA keys are not among them.
var forms = map[string]int{
	"ssh-ed25519":                        1, // key
	"ssh-rsa":                            2, // exponent, modulus
	"ecdsa-sha2-nistp256":                2, // curve, point
	"ecdsa-sha2-nistp384":                2,
	"ecdsa-sha2-nistp521":                2,
	"sk-ssh-ed25519@openssh.com":         2, // key, application
	"sk-ecdsa-sha2-nistp256@openssh.com": 3, // curve, point, application
}

const minModulus = 2048 / 8 // bytes; sshd of newer releases refuses less by default

// Parse returns a public key as one line of authorized_keys: its type, its base64 and its comment, with one space between them. Options
// such as command= are refused, and so is whatever is not a key that sshd would take: a line that sshd skips in silence is a person who
// cannot log in.
func Parse(line string) (string, error) {
	line = strings.TrimSpace(line)
	if len(line) > maxLine {
		return "", fmt.Errorf("it has %d bytes, at most %d are allowed", len(line), maxLine)
	}
	if strings.ContainsFunc(line, func(r rune) bool { return r != '\t' && !unicode.IsPrint(r) }) {
		return "", fmt.Errorf("it is not one line of text")
	}
	if strings.Contains(line, "PRIVATE KEY") {
		return "", fmt.Errorf("it is a private key: give the public one, from the file that ends in .pub")
	}
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return "", fmt.Errorf("a public key is its type and its base64, such as ssh-ed25519 AAAA…")
	}
	kind := fields[0]
	n, ok := forms[kind]
	switch {
	case kind == "ssh-dss":
		return "", fmt.Errorf("DSA keys are not taken by sshd any more: use an ssh-ed25519 key")
	case !ok:
		return "", fmt.Errorf("%q is no type of key (options before the key are not allowed)", clip(kind))
	}
	blob, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil {
		return "", fmt.Errorf("what follows %s is not base64 (was it copied whole?)", kind)
	}
	if err := checkBlob(kind, n, blob); err != nil {
		return "", err
	}
	return strings.Join(fields, " "), nil
}

// checkBlob checks that a blob holds a key of that type: RFC 4253 section 6.6 and those of the other types.
func checkBlob(kind string, n int, blob []byte) error {
	inner, rest, ok := field(blob)
	if !ok || string(inner) != kind {
		return fmt.Errorf("its base64 does not hold a key of the type %s (was it copied whole?)", kind)
	}
	var parts [][]byte
	for range n {
		var part []byte
		if part, rest, ok = field(rest); !ok {
			return fmt.Errorf("its base64 is cut off (was it copied whole?)")
		}
		parts = append(parts, part)
	}
	if len(rest) > 0 {
		return fmt.Errorf("its base64 has more than a key of the type %s", kind)
	}
	switch {
	case strings.Contains(kind, "ed25519") && len(parts[0]) != 32:
		return fmt.Errorf("its key has %d bytes, one of the type %s has 32", len(parts[0]), kind)
	case kind == "ssh-rsa" && len(strings.TrimLeft(string(parts[1]), "\x00")) < minModulus:
		return fmt.Errorf("its RSA key is shorter than 2048 bits, which sshd does not take any more")
	case strings.Contains(kind, "nistp") && !strings.Contains(kind, string(parts[0])):
		return fmt.Errorf("its base64 holds a key on the curve %q", clip(string(parts[0])))
	}
	return nil
}

// field takes one length and as many bytes from a blob.
func field(blob []byte) (value, rest []byte, ok bool) {
	if len(blob) < 4 {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint32(blob)
	if uint64(n) > uint64(len(blob)-4) || n == 0 {
		return nil, nil, false
	}
	return blob[4 : 4+n], blob[4+n:], true
}

func clip(s string) string {
	if len(s) > 60 {
		s = s[:60] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
