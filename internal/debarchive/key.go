package debarchive

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// A Key signs an archive. It is made for one, lives in memory, and is not kept: what it has signed can be checked with its public half,
// and nobody can sign anything else.
type Key struct {
	private *rsa.PrivateKey
	made    time.Time
	owner   string
}

// NewKey makes a key of that owner, such as "Archive of the lab <lab@localhost>".
func NewKey(owner string) (*Key, error) {
	private, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		return nil, err
	}
	return &Key{private: private, made: epoch, owner: owner}, nil
}

// Numbers of RFC 4880.
const (
	packetSignature = 2
	packetPublicKey = 6
	packetUserID    = 13

	signatureBinary = 0x00
	signatureText   = 0x01
	signatureOwner  = 0x13 // of a key over its own user id

	algorithmRSA = 1
	hashSHA512   = 10
)

// Public returns the key's public half, armoured, as Signed-By of an apt source takes it.
func (k *Key) Public() (string, error) {
	body := k.publicBody()
	// What a key says of itself is signed over the key and the name (RFC 4880, 5.2.4).
	signed := append([]byte{0x99, byte(len(body) >> 8), byte(len(body))}, body...)
	signed = append(signed, 0xb4)
	signed = binary.BigEndian.AppendUint32(signed, uint32(len(k.owner)))
	signed = append(signed, k.owner...)
	certificate, err := k.signature(signatureOwner, signed, subpacket(27, []byte{0x03})) // it certifies and signs
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	b.Write(packet(packetPublicKey, body))
	b.Write(packet(packetUserID, []byte(k.owner)))
	b.Write(certificate)
	return armour("PUBLIC KEY BLOCK", b.Bytes()), nil
}

// SignDetached returns an armoured signature of data, as Release.gpg has it.
func (k *Key) SignDetached(data []byte) (string, error) {
	signature, err := k.signature(signatureBinary, data)
	if err != nil {
		return "", err
	}
	return armour("SIGNATURE", signature), nil
}

// SignInline returns text with its signature around it, as InRelease has it.
func (k *Key) SignInline(text string) (string, error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " \t\r")
	}
	signature, err := k.signature(signatureText, []byte(strings.Join(lines, "\r\n")))
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n")
	for _, line := range lines {
		if strings.HasPrefix(line, "-") {
			b.WriteString("- ")
		}
		b.WriteString(line + "\n")
	}
	return b.String() + armour("SIGNATURE", signature), nil
}

// publicBody is the key's own packet, which its fingerprint is the sum of.
func (k *Key) publicBody() []byte {
	body := []byte{4}
	body = binary.BigEndian.AppendUint32(body, uint32(k.made.Unix()))
	body = append(body, algorithmRSA)
	body = append(body, mpi(k.private.N)...)
	return append(body, mpi(big.NewInt(int64(k.private.E)))...)
}

func (k *Key) fingerprint() []byte {
	body := k.publicBody()
	sum := sha1.Sum(append([]byte{0x99, byte(len(body) >> 8), byte(len(body))}, body...))
	return sum[:]
}

// signature returns a packet that signs data (RFC 4880, 5.2.3).
func (k *Key) signature(kind byte, data []byte, more ...[]byte) ([]byte, error) {
	fingerprint := k.fingerprint()
	hashed := subpacket(2, binary.BigEndian.AppendUint32(nil, uint32(k.made.Unix())))
	hashed = append(hashed, subpacket(33, append([]byte{4}, fingerprint...))...)
	for _, m := range more {
		hashed = append(hashed, m...)
	}
	head := []byte{4, kind, algorithmRSA, hashSHA512}
	head = binary.BigEndian.AppendUint16(head, uint16(len(hashed)))
	head = append(head, hashed...)
	sum := sha512.New()
	sum.Write(data)
	sum.Write(head)
	sum.Write(binary.BigEndian.AppendUint32([]byte{4, 0xff}, uint32(len(head))))
	digest := sum.Sum(nil)
	signed, err := rsa.SignPKCS1v15(rand.Reader, k.private, crypto.SHA512, digest)
	if err != nil {
		return nil, fmt.Errorf("cannot sign: %w", err)
	}
	issuer := subpacket(16, fingerprint[12:])
	body := binary.BigEndian.AppendUint16(head, uint16(len(issuer)))
	body = append(body, issuer...)
	body = append(body, digest[:2]...)
	body = append(body, mpi(new(big.Int).SetBytes(signed))...)
	return packet(packetSignature, body), nil
}

func subpacket(kind byte, data []byte) []byte {
	return append([]byte{byte(len(data) + 1), kind}, data...)
}

// packet gives a body its head, of the old format with two bytes of length, which every reader knows.
func packet(tag byte, body []byte) []byte {
	return append([]byte{0x80 | tag<<2 | 1, byte(len(body) >> 8), byte(len(body))}, body...)
}

func mpi(n *big.Int) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(n.BitLen())), n.Bytes()...)
}

// armour wraps bytes in text, with their sum (RFC 4880, 6).
func armour(kind string, data []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "-----BEGIN PGP %s-----\n\n", kind)
	text := base64.StdEncoding.EncodeToString(data)
	for len(text) > 64 {
		b.WriteString(text[:64] + "\n")
		text = text[64:]
	}
	b.WriteString(text + "\n")
	const polynomial = 0x1864cfb
	sum := uint32(0xb704ce)
	for _, c := range data {
		sum ^= uint32(c) << 16
		for range 8 {
			if sum <<= 1; sum&0x1000000 != 0 {
				sum ^= polynomial
			}
		}
	}
	fmt.Fprintf(&b, "=%s\n-----END PGP %s-----\n", base64.StdEncoding.EncodeToString([]byte{byte(sum >> 16), byte(sum >> 8), byte(sum)}), kind)
	return b.String()
}
