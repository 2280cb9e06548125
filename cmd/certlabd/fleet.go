package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"sync"

	"certlab/internal/cert"
	"certlab/internal/control"
	"certlab/internal/control/provision"
	"certlab/internal/durable"
	"certlab/internal/order"
	"certlab/internal/provider/maas"
	"certlab/internal/server/api"
	"certlab/internal/sshkeys"
	"certlab/internal/userdata"
)

var _ api.Fleet = (*provision.Fleet)(nil)

// region is the MAAS that is in force.
type region struct {
	mu       sync.Mutex
	conf     order.MAAS
	provider *maas.Provider
}

// newFleet returns the engine that takes machines from the provider; it has none until applyFleet gives it one.
func (s *service) newFleet() *provision.Fleet {
	return provision.New(provision.Options{DB: s.db, Logger: s.logger, Lab: s.lab, Now: s.now, Keys: siteKeys{s.lab}, Script: s.script, Agent: s.guest, Console: s.console,
		Secret: s.enrolSecret(), Heard: s.lab.Heard, Gate: s.trust, Observer: s.trust, Checker: s.trust, Placed: s.placed})
}

// enrolSecret is what the tokens of deployed machines are made from. It is kept with the keys, and not in the database, which holds hashes alone.
// Where it cannot be kept, deployments that a crash interrupts may have to be repeated.
func (s *service) enrolSecret() []byte {
	path := filepath.Join(s.data.Keys(), "enrol.key")
	secret, err := os.ReadFile(path)
	if err == nil && len(secret) == enrolSecretSize {
		return secret
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.logger.Warn("cannot read what the tokens of deployed machines are made from", "error", err)
		return nil
	}
	secret = make([]byte, enrolSecretSize)
	rand.Read(secret)
	if err := durable.WriteFile(path, secret, 0o600); err != nil {
		s.logger.Warn("cannot keep what the tokens of deployed machines are made from", "error", err)
	}
	return secret
}

const enrolSecretSize = 32

// placed says whether the unit on a machine is on that machine of the provider's, by what the unit has told of its hardware.
func (s *service) placed(ctx context.Context, machine string, p cert.Provided) cert.Placement {
	m, err := s.db.Machine(ctx, machine)
	if err != nil || m.Unit == "" {
		return cert.Placement{}
	}
	for _, a := range s.lab.Desired().Agents {
		if a.Unit == m.Unit && a.Identity.SystemID == m.SystemID {
			return cert.PlaceUnit(a.Unit, a.Identity, []cert.Provided{p})
		}
	}
	return cert.Placement{}
}

// siteKeys resolves people's SSH keys through the site's proxy.
type siteKeys struct{ lab *control.Lab }

func (k siteKeys) Resolve(ctx context.Context, keys []string) ([]string, error) {
	r := sshkeys.Resolver{Transport: sshkeys.NewTransport(k.lab.Desired().Fleet.Proxy)}
	var out []string
	for _, key := range keys {
		found, err := r.Resolve(ctx, key)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// agentURLs are where agents reach this service.
func agentURLs(d order.ControllerDesired) []string {
	out := make([]string, len(d.Addresses))
	for n, a := range d.Addresses {
		out[n] = "https://" + net.JoinHostPort(a, strconv.Itoa(d.Port))
	}
	return out
}

// script is the user-data of a deployment.
func (s *service) script(in provision.Script) ([]byte, error) {
	d := s.lab.Desired()
	return userdata.Script(userdata.Params{Controllers: agentURLs(d), CAs: s.keys.CAs(), Deployment: in.Deployment, Token: in.Token, Keys: in.Keys, Proxy: d.Fleet.Proxy,
		Mirror: d.Fleet.Mirror, Made: s.now()})
}

// guest is the desired state of an agent on a machine that was deployed.
func (s *service) guest(cert.Machine) order.AgentDesired {
	d := s.lab.Desired()
	return order.AgentDesired{ModelUUID: d.ModelUUID, ControllerURLs: agentURLs(d), ControllerCAs: s.keys.CAs(), Checkbox: d.Fleet.Checkbox, Proxy: d.Fleet.Proxy}
}

// console writes what the site's program has of a machine's console.
func (s *service) console(ctx context.Context, machine string, w io.Writer) error {
	m, err := s.db.Machine(ctx, machine)
	if err != nil {
		return err
	}
	err = s.fleet.SiteProgram(ctx, "console", []string{"CERTLAB_MACHINE=" + m.ID, "CERTLAB_HOSTNAME=" + m.Hostname, "CERTLAB_SYSTEM_ID=" + m.SystemID}, w)
	if os.IsNotExist(err) {
		return cert.Errorf(cert.NotFound, "there is no console log of %s: the site has no program for it (put one named console into the site's resource)", m.Hostname)
	}
	return err
}

// applyFleet makes the desired state's provider the one in force. What cannot be read leaves the one before.
func (s *service) applyFleet(ctx context.Context, conf order.Fleet) error {
	s.region.mu.Lock()
	defer s.region.mu.Unlock()
	if conf.MAAS.URL == "" {
		s.region.provider = nil
		s.fleet.Apply(nil, conf)
		return nil
	}
	key, err := os.ReadFile(conf.MAAS.KeyFile)
	if err != nil {
		return fmt.Errorf("cannot read the key of MAAS: %w", err)
	}
	same, was := conf.MAAS, s.region.conf
	same.KeyFile, was.KeyFile = "", "" // a new key is no other region
	same.Source, was.Source = "", ""
	if s.region.provider != nil && reflect.DeepEqual(same, was) {
		s.region.provider.SetKey(string(key))
		s.fleet.Apply(s.region.provider, conf)
		s.region.conf = conf.MAAS
		return nil
	}
	var ca []byte
	if conf.MAAS.CAFile != "" {
		if ca, err = os.ReadFile(conf.MAAS.CAFile); err != nil {
			return fmt.Errorf("cannot read the certificates of MAAS: %w", err)
		}
	}
	lab, err := s.db.LabID(ctx)
	if err != nil {
		return err
	}
	erase := make(map[string]cert.Erase, len(conf.MAAS.Erase))
	for pool, how := range conf.MAAS.Erase {
		erase[pool] = cert.Erase(how)
	}
	p, err := maas.New(maas.Config{URL: conf.MAAS.URL, Key: string(key), Lab: lab, QuarantinePool: conf.MAAS.QuarantinePool, QuarantineTag: conf.MAAS.QuarantineTag,
		Erase: erase, PowerUnits: conf.MAAS.PowerUnits, CACert: ca, Now: s.now, Log: s.logger})
	if err != nil {
		return err
	}
	s.region.provider, s.region.conf = p, conf.MAAS
	s.fleet.Apply(p, conf)
	return nil
}
