package fleet

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/control/provision"
	"certlab/internal/order"
	"certlab/internal/provider/maas/maastest"
)

// spoiled is a provider whose machines are given their faults when they are taken for the first time for a reservation.
type spoiled struct {
	cert.Provider
	l *failing
}

// Acquire draws what goes wrong with this deployment.
func (s spoiled) Acquire(ctx context.Context, id, comment string) (cert.Provided, error) {
	s.l.draw(id, comment)
	return s.Provider.Acquire(ctx, id, comment)
}

// Fault ends are drawn between these.
const (
	faultLeast = 5 * time.Minute
	faultMost  = 3 * time.Hour
)

func (l *failing) draw(id, comment string) {
	l.mu.Lock()
	key := id + " " + comment
	if l.drawn[key] {
		l.mu.Unlock()
		return
	}
	l.drawn[key] = true
	var faults []maastest.Fault
	for _, w := range ways() {
		if l.random.Float64() < l.o.Share {
			faults = append(faults, w.faults(l.random)...)
			l.out.Struck[w.name]++
		}
	}
	lasts := faultLeast + time.Duration(l.random.Int64N(int64(faultMost-faultLeast)))
	l.mu.Unlock()
	l.region.Clear(id)
	for _, f := range faults {
		l.region.Fault(id, f)
	}
	if len(faults) > 0 {
		time.AfterFunc(lasts, func() { l.heal(id) })
	}
}

// heal ends a machine's faults. Who took it between list and deploy gives it back.
func (l *failing) heal(id string) {
	l.region.Clear(id)
	l.region.Change(id, func(s *maastest.MachineState) {
		if s.Owner == "somebody-else" {
			s.Status, s.Owner = maastest.Ready, ""
		}
	})
}

// guests is a lab that nobody else works in.
type guests struct{}

func (guests) SetGuest(string, string) {}
func (guests) DropGuest(string)        {}
func (guests) Wake(string)             {}
func (guests) Refresh()                {}

func encode(s provision.Script) []byte {
	text, _ := json.Marshal(s) // of our own types: cannot fail
	return text
}

// boot is what a machine does that boots what was deployed: its user-data's agent.
func (l *failing) boot(b maastest.Boot) {
	var s provision.Script
	if json.Unmarshal(b.UserData, &s) != nil || !b.Fresh {
		return
	}
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	public := base64.StdEncoding.EncodeToString(must(x509.MarshalPKIXPublicKey(&key.PublicKey)))
	ctx := context.Background()
	insist(func() error { return l.engine.Booted(ctx, s.Token) })
	time.Sleep(20 * time.Second)
	insist(func() error {
		_, err := l.engine.Enrol(ctx, order.Enrolment{Deployment: s.Deployment, Token: s.Token, PublicKey: public, BootID: "boot-" + s.Deployment,
			Identity: order.Identity{Hostname: b.Hostname, Architecture: "amd64", SystemID: b.SystemID, ProductUUID: s.Machine.ProductUUID}})
		return err
	})
	time.Sleep(time.Minute)
	version := map[string]string{"jammy": "22.04", "noble": "24.04"}[b.Release]
	kernel := "6.8.0-31-generic"
	if strings.HasSuffix(b.Kernel, "22.04") {
		kernel = "5.15.0-100-generic"
	}
	insist(func() error {
		return l.engine.AgentStatus(ctx, s.Machine.ID, order.Status{BootID: "boot-" + s.Deployment, Release: "ubuntu@" + version, Kernel: kernel, CheckboxVersion: "5.0.0"})
	})
}

// insist does something again until it is done, or is refused for good; not for ever.
func insist(fn func() error) {
	for range 20 {
		if err := fn(); err == nil || cert.CodeOf(err) == cert.Unauthorized || cert.CodeOf(err) == cert.Forbidden {
			return
		}
		time.Sleep(15 * time.Second)
	}
}
