package fleet

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"regexp"
	"sync"
	"time"

	"certlab/internal/order"
	"certlab/internal/provider/maas/maastest"
)

// A rack holds the machines: it is what the region's power actions act on.
type rack struct {
	region *maastest.Region
	cas    func() ([]string, error)
	macs   map[string]string // by system_id
	script Script

	mu    sync.Mutex
	nodes map[string]*node
	wait  sync.WaitGroup
}

// A node is one machine. Its disk is what is lost when it is wiped.
type node struct {
	systemID string
	off      context.CancelFunc // of the present boot; nil while it is off
	disk     *disk
	ran      []order.Order // that its agents have taken, once each
	lost     []string      // runs whose submission was on a disk that was wiped before anybody had acknowledged it
}

// A disk keeps what the agent on it keeps.
type disk struct {
	deployment, token string
	urls              []string
	key               tls.Certificate
	public            string
	enrolled          bool
	runs              map[string]*run
}

func newRack() *rack { return &rack{nodes: map[string]*node{}, macs: map[string]string{}} }

func (r *rack) node(id string) *node {
	n := r.nodes[id]
	if n == nil {
		n = &node{systemID: id}
		r.nodes[id] = n
	}
	return n
}

// PowerOn boots a machine. One that is freshly installed has an empty disk.
func (r *rack) PowerOn(systemID string, b maastest.Boot) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.node(systemID)
	if n.off != nil { // a restart
		n.off()
	}
	if b.Fresh {
		r.wipe(n)
		d, err := newDisk(b.UserData)
		if err != nil {
			return err
		}
		n.disk = d
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.off = cancel
	if n.disk != nil {
		d := n.disk
		r.wait.Go(func() { r.boot(ctx, systemID, d) })
	}
	return nil
}

// PowerOff cuts a machine's power.
func (r *rack) PowerOff(systemID string, _ bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.node(systemID); n.off != nil {
		n.off()
		n.off = nil
	}
	return nil
}

// State reports whether a machine is on.
func (r *rack) State(systemID string) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.node(systemID).off != nil, nil
}

// Wipe erases a machine's disk.
func (r *rack) Wipe(systemID string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wipe(r.node(systemID))
	return nil
}

func (r *rack) wipe(n *node) {
	if n.disk == nil {
		return
	}
	for id, run := range n.disk.runs {
		if !run.delivered {
			n.lost = append(n.lost, id)
		}
	}
	n.disk = nil
}

// lost returns the runs whose results went away with a disk.
func (r *rack) lost() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, n := range r.nodes {
		all = append(all, n.lost...)
	}
	return all
}

// close cuts all machines' power and waits for their ends.
func (r *rack) close() {
	r.mu.Lock()
	for _, n := range r.nodes {
		if n.off != nil {
			n.off()
			n.off = nil
		}
	}
	r.mu.Unlock()
	r.wait.Wait()
}

var (
	tokenPattern      = regexp.MustCompile(`cld_[A-Za-z0-9_-]{43}`)
	deploymentPattern = regexp.MustCompile(`\bd[0-9a-z]{26}\b`)
	urlPattern        = regexp.MustCompile(`https://[0-9.:]+`)
)

// newDisk is what a machine finds in its user-data.
func newDisk(userData []byte) (*disk, error) {
	d := &disk{token: tokenPattern.FindString(string(userData)), deployment: deploymentPattern.FindString(string(userData)),
		urls: urlPattern.FindAllString(string(userData), -1), runs: map[string]*run{}}
	if d.token == "" || d.deployment == "" || len(d.urls) == 0 {
		return nil, fmt.Errorf("cannot find token, deployment and URL in the user-data")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "certlab-agent"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	d.key = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	d.public = base64.StdEncoding.EncodeToString(public)
	return d, nil
}
