package maas

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"certlab/internal/cert"
)

// Bounds of what lshw may have printed: real ones have a few hundred nodes, nested ten deep.
const (
	maxDepth  = 64
	maxNodes  = 50_000
	maxField  = 256
	maxListed = 256
)

// node is one piece of hardware while lshw's XML is read.
type node struct {
	id, class                                         string
	vendor, product, version, serial, date, uuid, bus string
}

// parseLshw reads the XML that lshw has printed. It is read as a stream: nothing of it is kept but what cert.Hardware has.
func parseLshw(document []byte) (cert.Hardware, error) {
	d := xml.NewDecoder(bytes.NewReader(document))
	d.CharsetReader = latin
	d.Strict = false // lshw does not escape all that firmware says of itself
	var h cert.Hardware
	var open []*node  // the nodes that are being read, outermost first
	var path []string // the elements that are
	nodes := 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return cert.Hardware{}, err
		}
		switch t := token.(type) {
		case xml.StartElement:
			if len(path) >= maxDepth {
				return cert.Hardware{}, fmt.Errorf("it is nested deeper than %d", maxDepth)
			}
			path = append(path, t.Name.Local)
			switch t.Name.Local {
			case "node":
				if nodes++; nodes > maxNodes {
					return cert.Hardware{}, fmt.Errorf("it has more than %d nodes", maxNodes)
				}
				open = append(open, &node{id: attribute(t, "id"), class: attribute(t, "class")})
			case "setting":
				if len(open) > 0 && attribute(t, "id") == "uuid" {
					open[len(open)-1].uuid = field(attribute(t, "value"))
				}
			}
		case xml.EndElement:
			if len(path) == 0 {
				return cert.Hardware{}, errors.New("it ends more than it begins")
			}
			path = path[:len(path)-1]
			if t.Name.Local == "node" && len(open) > 0 {
				open[len(open)-1].into(&h, len(open))
				open = open[:len(open)-1]
			}
		case xml.CharData:
			// Only what stands directly in a node is the node's.
			if len(open) > 0 && len(path) > 1 && path[len(path)-2] == "node" {
				open[len(open)-1].set(path[len(path)-1], t)
			}
		}
	}
	if nodes == 0 {
		return cert.Hardware{}, errors.New("it lists no hardware")
	}
	// The outermost ends last; what is in it was met before.
	slices.Sort(h.NICs)
	return h, nil
}

func (n *node) set(name string, data []byte) {
	at := map[string]*string{"vendor": &n.vendor, "product": &n.product, "version": &n.version, "serial": &n.serial, "date": &n.date, "businfo": &n.bus}[name]
	if at != nil && len(*at) < maxField {
		*at = field(*at + string(data))
	}
}

// into adds what a node says to the machine's hardware. depth 1 is the machine itself.
func (n *node) into(h *cert.Hardware, depth int) {
	switch {
	case depth == 1 && (n.class == "system" || n.class == ""):
		h.Vendor, h.Product, h.Version, h.Serial, h.ProductUUID = n.vendor, n.product, n.version, n.serial, strings.ToLower(n.uuid)
	case n.id == "firmware" && h.FirmwareVersion == "":
		h.FirmwareVendor, h.FirmwareVersion, h.FirmwareDate = n.vendor, n.version, n.date
	case n.class == "processor" && h.CPU == "":
		h.CPU = n.product
	case n.class == "display" && len(h.GPUs) < maxListed:
		if name := n.named(); name != "" {
			h.GPUs = append(h.GPUs, name)
		}
	case n.class == "network" && strings.HasPrefix(n.bus, "pci@") && len(h.NICs) < maxListed:
		if name := n.named(); name != "" {
			h.NICs = append(h.NICs, name)
		}
	}
}

func (n *node) named() string { return strings.TrimSpace(n.vendor + " " + n.product) }

func attribute(t xml.StartElement, name string) string {
	for _, a := range t.Attr {
		if a.Name.Local == name {
			return field(a.Value)
		}
	}
	return ""
}

// field bounds a text.
func field(text string) string {
	text = plain(text)
	if len(text) > maxField {
		text = strings.ToValidUTF8(text[:maxField], "")
	}
	return text
}

// latin reads the one other encoding that lshw writes. Whatever says to be another one is taken for UTF-8.
func latin(charset string, r io.Reader) (io.Reader, error) {
	if !strings.EqualFold(charset, "iso-8859-1") && !strings.EqualFold(charset, "latin1") {
		return r, nil
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, c := range data {
		b.Write(utf8.AppendRune(nil, rune(c)))
	}
	return &b, nil
}
