package trust

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"certlab/internal/cert"
)

// metricsTimeout bounds what one scrape asks of the database.
const metricsTimeout = 10 * time.Second

var (
	machinesDesc = prometheus.NewDesc("certlab_machines", "Machines by their state to this lab.", []string{"state"}, nil)
	reservDesc   = prometheus.NewDesc("certlab_reservations", "Reservations that are not over, by kind and state.", []string{"kind", "state"}, nil)
	incidentDesc = prometheus.NewDesc("certlab_incidents_open", "Incidents that are not over.", nil, nil)
	canaryDesc   = prometheus.NewDesc("certlab_canary_pending", "1 while new deployments wait for the first one with a new version of the provider.", nil, nil)
	checksDesc   = prometheus.NewDesc("certlab_checks_running", "Checks of machines under way.", nil, nil)
	cyclesDesc   = prometheus.NewDesc("certlab_power_cycles_running", "Power cycles of silent machines under way.", nil, nil)
	handsDesc    = prometheus.NewDesc("certlab_machines_need_hands", "Machines at which a person has to do something.", nil, nil)
	noticesDesc  = prometheus.NewDesc("certlab_notices", "Notices that wait to be sent, or were given up.", []string{"state"}, nil)
)

// Describe and Collect make a Trust a prometheus.Collector of the fleet's figures.
func (t *Trust) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{machinesDesc, reservDesc, incidentDesc, canaryDesc, checksDesc, cyclesDesc, handsDesc, noticesDesc} {
		out <- d
	}
}

// Collect reads the figures. What cannot be read is said so.
func (t *Trust) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), metricsTimeout)
	defer cancel()
	gauge := func(d *prometheus.Desc, v int, err error, labels ...string) {
		if err != nil {
			out <- prometheus.NewInvalidMetric(d, err)
			return
		}
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	machines, err := t.Fleet().Machines(ctx)
	if err != nil {
		out <- prometheus.NewInvalidMetric(machinesDesc, err)
	} else {
		states, hands := make(map[string]int), 0
		for _, m := range machines {
			states[string(m.State)]++
			if m.NeedsHands != "" {
				hands++
			}
		}
		for _, s := range cert.MachineStates {
			gauge(machinesDesc, states[s], nil, s)
		}
		gauge(handsDesc, hands, nil)
	}
	open, err := t.DB.OpenReservations(ctx)
	counts := make(map[[2]string]int)
	for _, r := range open {
		counts[[2]string{string(r.Kind), string(r.State)}]++
	}
	for k, n := range counts {
		gauge(reservDesc, n, nil, k[0], k[1])
	}
	if err != nil {
		out <- prometheus.NewInvalidMetric(reservDesc, err)
	}
	incidents, err := t.DB.OpenIncidents(ctx)
	gauge(incidentDesc, len(incidents), err)
	waiting := 0
	if t.canaryNow() != nil {
		waiting = 1
	}
	gauge(canaryDesc, waiting, nil)
	gauge(checksDesc, len(t.checks()), nil)
	cycles, err := t.DB.OpenCycles(ctx)
	gauge(cyclesDesc, len(cycles), err)
	waits, given, err := t.DB.NoticeCounts(ctx)
	gauge(noticesDesc, waits, err, "waiting")
	if err == nil {
		gauge(noticesDesc, given, nil, "given-up")
	}
}
