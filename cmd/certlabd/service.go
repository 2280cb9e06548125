package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"certlab/internal/blobs"
	"certlab/internal/control"
	"certlab/internal/control/campaign"
	"certlab/internal/control/kernelnews"
	"certlab/internal/control/provision"
	"certlab/internal/control/review"
	"certlab/internal/control/trust"
	"certlab/internal/control/trust/notices"
	"certlab/internal/control/watch"
	"certlab/internal/durable"
	"certlab/internal/order"
	"certlab/internal/server"
	"certlab/internal/server/api"
	"certlab/internal/server/authority"
	"certlab/internal/server/web"
	"certlab/internal/sqlite"
	"certlab/internal/version"
)

// errRestart ends the service so that it starts again with what has changed under it.
var errRestart = errors.New("the service ends to start again")

// A service is certlabd as it runs.
type service struct {
	dir     string
	data    control.Data
	level   *slog.LevelVar
	logger  *slog.Logger
	db      *sqlite.DB
	store   *blobs.Store
	lab     *control.Lab
	fleet   *provision.Fleet
	trust   *trust.Trust
	watch   *watch.Watch
	outbox  *notices.Outbox
	engine  *campaign.Engine
	review  *review.Review
	kernels *kernelnews.Poller
	about   aboutCache
	region  region
	keys    *authority.Authority
	server  *server.Server
	now     func() time.Time
	limits  server.Limits

	release func()        // of the data's lock
	restart chan struct{} // closed when the service should end
	once    sync.Once

	mu      sync.Mutex
	applied string // hash of the desired state in force
	problem string // what keeps the service from doing what it should
	tls     *listener
	local   *listener
}

// now is the time as the database keeps it.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// newService opens everything, with the desired state as it is. The data directory is that of the desired state; when it changes the
// service ends.
func newService(ctx context.Context, dir string, errs io.Writer) (_ *service, err error) {
	s := &service{dir: dir, level: new(slog.LevelVar), restart: make(chan struct{}), now: now, limits: server.DefaultLimits()}
	s.logger = slog.New(slog.NewTextHandler(errs, &slog.HandlerOptions{Level: s.level}))
	desired, _, err := s.readDesired()
	if err != nil {
		return nil, err
	}
	if err := desired.mounted(); err != nil {
		return nil, err
	}
	s.data = control.Data{Dir: desired.DataDir}
	if s.release, err = s.data.Lock(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	aside, err := control.PutInPlace(s.data)
	if err != nil {
		return nil, err
	}
	if aside != "" {
		s.logger.Warn("a restored copy was put in place", "before", aside)
	}
	if s.db, err = s.data.OpenDatabase(ctx); err != nil {
		return nil, err
	}
	if s.store, err = blobs.Open(s.data.Blobs()); err != nil {
		return nil, err
	}
	if s.keys, err = authority.Open(s.data.Keys(), s.now); err != nil {
		return nil, err
	}
	s.lab = control.New(control.Options{DB: s.db, Blobs: s.store, Data: s.data, Logger: s.logger, Now: s.now, Indexed: s.indexed})
	s.newTrust()
	s.fleet = s.newFleet()
	s.newCampaigns()
	if err := s.trust.Load(ctx); err != nil {
		s.logger.Error("cannot read the incidents yet", "error", err) // the data may be damaged: what can be read is served
	}
	s.server = s.newServer()
	return s, nil
}

func (s *service) newServer() *server.Server {
	registry := prometheus.NewRegistry()
	registry.MustRegister(s.lab, s.trust, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "certlab_build_info", Help: "1, with the version.", ConstLabels: prometheus.Labels{"version": version.Version}})
	build.Set(1)
	registry.MustRegister(build)
	clocks := control.NewClocks(s.logger)
	return server.New(server.Options{
		API: &api.API{Store: s.db, Files: s.store, Lab: s.lab, Fleet: s.fleet, Campaigns: s.engine, Review: s.review, Keys: s.keys, Clocks: clocks, Publish: s.publish, Restart: s.end, Health: s.health, Logger: s.logger, Now: s.now},
		Web: &web.Web{Store: s.db, Lab: s.lab, Fleet: s.fleet, Campaigns: s.engine, Review: s.review, Clocks: clocks, Logger: s.logger, Now: s.now}, Metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
		Tokens: s.db, Contacts: s.lab, Clocks: clocks, Logger: s.logger, Now: s.now, Limits: s.limits,
	})
}

// close gives everything back. What is not open yet is left out.
func (s *service) close() {
	if s.db != nil {
		if err := s.db.Close(); err != nil {
			s.logger.Error("cannot close the database", "error", err)
		}
	}
	if s.release != nil {
		s.release()
	}
}

// end asks run to return errRestart.
func (s *service) end() { s.once.Do(func() { close(s.restart) }) }

const (
	watchInterval = 2 * time.Second
	renewInterval = time.Hour
	shutdownTime  = 10 * time.Second
)

// run serves until ctx ends, or until the service has to start again (errRestart).
func (s *service) run(ctx context.Context, hup <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	loops := make(chan error, 1)
	go func() { loops <- s.loops(ctx) }()
	defer func() {
		cancel()
		if loops != nil {
			<-loops
		}
	}()
	if err := s.listenLocal(); err != nil {
		return err
	}
	defer s.stopListening()
	watch, renew := time.NewTicker(watchInterval), time.NewTicker(renewInterval)
	defer watch.Stop()
	defer renew.Stop()
	var last fs.FileInfo
	retry := true
	for {
		// After a problem the same file is tried again: a port may have become free.
		if info, err := os.Stat(filepath.Join(s.dir, order.ControllerDesiredFile)); retry || err != nil || last == nil || !sameFile(info, last) {
			last = info
			err := s.apply(ctx)
			if errors.Is(err, errRestart) {
				return err
			}
			retry = err != nil
			s.setProblem(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-loops:
			loops = nil
			return fmt.Errorf("cannot go on: a loop has ended: %w", err)
		case <-s.restart:
			return errRestart
		case <-hup:
			retry = true
		case <-renew.C:
			retry = true
		case <-watch.C:
		}
	}
}

// loops runs all loops until ctx or the first of them ends.
func (s *service) loops(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all := []func(context.Context) error{s.lab.Loops, s.fleet.Loop, s.trust.Loop, s.watch.Loop, s.outbox.Loop, s.engine.Loop, s.review.Loop, s.kernels.Run}
	errs := make(chan error, len(all))
	for _, loop := range all {
		go func() {
			err := loop(ctx)
			cancel()
			errs <- err
		}()
	}
	var ended []error
	for range all {
		ended = append(ended, <-errs)
	}
	return errors.Join(ended...)
}

func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// setProblem keeps what is wrong for /health/ready, and logs it once.
func (s *service) setProblem(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	s.mu.Lock()
	was := s.problem
	s.problem = text
	s.mu.Unlock()
	if text == was {
		return
	}
	if text != "" {
		s.logger.Error("the desired state is not in force", "error", text)
	}
	s.lab.Refresh()
}

// desiredState is a desired state that makes sense.
type desiredState struct{ order.ControllerDesired }

// maxDesired bounds the desired state's file, in bytes: 1,000 agents take about 1 MB.
const maxDesired = 64 << 20

// readDesired reads the desired state and its hash.
func (s *service) readDesired() (desiredState, string, error) {
	var d desiredState
	path := filepath.Join(s.dir, order.ControllerDesiredFile)
	f, err := os.Open(path)
	if err != nil {
		return d, "", fmt.Errorf("cannot read the desired state (the charm writes it): %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxDesired+1))
	if err != nil {
		return d, "", fmt.Errorf("cannot read the desired state: %w", err)
	}
	if len(text) > maxDesired {
		return d, "", fmt.Errorf("cannot read the desired state: %s is larger than %d bytes", path, maxDesired)
	}
	if err := json.Unmarshal(text, &d.ControllerDesired); err != nil {
		return d, "", fmt.Errorf("cannot read the desired state %s: %w", path, err)
	}
	if !filepath.IsAbs(d.DataDir) {
		return d, "", fmt.Errorf("cannot use the desired state %s: data_dir is %q, it must be an absolute path", path, d.DataDir)
	}
	if d.Port < 0 || d.Port > 65535 {
		return d, "", fmt.Errorf("cannot use the desired state %s: port is %d", path, d.Port)
	}
	if d.LogLevel != "" {
		if _, ok := logLevels[d.LogLevel]; !ok {
			return d, "", fmt.Errorf("cannot use the desired state %s: log_level is %q, it must be debug, info, warning or error", path, d.LogLevel)
		}
	}
	sum := sha256.Sum256(text)
	return d, hex.EncodeToString(sum[:]), nil
}

var logLevels = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warning": slog.LevelWarn, "error": slog.LevelError}

// mounted fails when the storage is not there yet.
func (d desiredState) mounted() error {
	if d.DataMark == "" {
		return nil
	}
	path := filepath.Join(d.DataDir, d.DataMark)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot use %s: the file %s is not there, so the storage is not mounted (yet)", d.DataDir, d.DataMark)
	} else if err != nil {
		return fmt.Errorf("cannot use %s: %w", d.DataDir, err)
	}
	return nil
}

// apply makes the desired state on disk the one in force.
func (s *service) apply(ctx context.Context) error {
	d, hash, err := s.readDesired()
	if err != nil {
		return err
	}
	if d.DataDir != s.data.Dir {
		s.logger.Warn("the data directory has changed: the service starts again", "from", s.data.Dir, "to", d.DataDir)
		return errRestart
	}
	if d.LogLevel != "" {
		s.level.Set(logLevels[d.LogLevel])
	}
	if _, err := s.keys.Serve(certificateNames(d.ControllerDesired)); err != nil {
		return err
	}
	if err := s.publish(); err != nil {
		return err
	}
	if err := s.lab.Apply(ctx, d.ControllerDesired); err != nil {
		return err
	}
	if err := s.listen(d.ControllerDesired); err != nil {
		return err
	}
	if err := s.applyFleet(ctx, d.Fleet); err != nil {
		return err
	}
	s.mu.Lock()
	changed := s.applied != hash
	s.applied = hash
	s.mu.Unlock()
	if changed {
		s.logger.Info("desired state applied", "sha256", hash, "agents", len(d.Agents))
	}
	return nil
}

// publish writes public.json, if it is not what it should be.
func (s *service) publish() error {
	text, err := json.Marshal(order.ControllerPublic{CAs: s.keys.CAs()})
	if err != nil {
		return err
	}
	path := filepath.Join(s.dir, order.ControllerPublicFile)
	if have, err := os.ReadFile(path); err == nil && string(have) == string(text) {
		return nil
	}
	if err := durable.WriteFile(path, text, 0o644); err != nil {
		return fmt.Errorf("cannot publish the certificate authorities: %w", err)
	}
	s.lab.Refresh()
	return nil
}

// health answers /health/ready.
func (s *service) health(ctx context.Context) order.ControllerHealth {
	_, low := s.lab.Space()
	h := order.ControllerHealth{Version: version.Version, Machines: s.lab.Agents(), DiskLow: low}
	s.mu.Lock()
	h.Applied, h.Problem = s.applied, s.problem
	s.mu.Unlock()
	runs, err := s.db.RunCounts(ctx)
	h.Running = runs["running"]
	stop := h.Problem != ""
	for _, p := range s.lab.Problems() {
		stop = stop || p.Stop
		h.Problems = append(h.Problems, p.Text)
	}
	if h.Problem != "" { // often it follows from the others
		h.Problems = append(h.Problems, h.Problem)
	}
	if p := s.fleet.Problem(); p != "" {
		h.Problems = append(h.Problems, p)
	}
	h.Problems = append(h.Problems, s.placements(ctx)...)
	if err != nil && len(h.Problems) == 0 {
		stop = true
		h.Problems = append(h.Problems, err.Error())
	}
	h.Ready = h.Applied != "" && !stop
	if len(h.Problems) > 0 {
		h.Problem = h.Problems[0]
	}
	if refused := s.lab.Refusals(); h.Problem == "" && len(refused) > 0 {
		// Not this service's fault, and the others can work: ready, with a word to the operator.
		h.Problem = fmt.Sprintf("unit %s was refused: %s", refused[0].Enrolment.Unit, refused[0].Reason)
	}
	if h.Applied == "" && h.Problem == "" {
		h.Problem = "the desired state has not been applied yet"
	}
	return h
}
