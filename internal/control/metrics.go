package control

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metricsTimeout bounds what one scrape asks of the database.
const metricsTimeout = 10 * time.Second

var (
	runsDesc        = prometheus.NewDesc("certlab_runs", "Runs by state.", []string{"state"}, nil)
	submissionsDesc = prometheus.NewDesc("certlab_submissions", "Submissions by state of their index.", []string{"index_state"}, nil)
	agentsDesc      = prometheus.NewDesc("certlab_agents", "Agents that may act for a machine.", nil, nil)
	refusedDesc     = prometheus.NewDesc("certlab_agents_refused", "Agents that are related and were refused.", nil, nil)
	freeDesc        = prometheus.NewDesc("certlab_free_bytes", "Free bytes in the storage.", nil, nil)
	minFreeDesc     = prometheus.NewDesc("certlab_min_free_bytes", "Bytes that must stay free for runs to be handed out.", nil, nil)
)

// Describe and Collect make a Lab a prometheus.Collector.
func (l *Lab) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{runsDesc, submissionsDesc, agentsDesc, refusedDesc, freeDesc, minFreeDesc} {
		out <- d
	}
}

// Collect reads the figures.
func (l *Lab) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), metricsTimeout)
	defer cancel()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, c := range []struct {
		desc  *prometheus.Desc
		count func(context.Context) (map[string]int, error)
	}{{runsDesc, l.DB.RunCounts}, {submissionsDesc, l.DB.IndexCounts}} {
		counts, err := c.count(ctx)
		if err != nil {
			out <- prometheus.NewInvalidMetric(c.desc, err)
			continue
		}
		for state, n := range counts {
			gauge(c.desc, float64(n), state)
		}
	}
	gauge(agentsDesc, float64(l.Agents()))
	gauge(refusedDesc, float64(len(l.Refusals())))
	free, _ := l.Space()
	gauge(freeDesc, float64(free))
	gauge(minFreeDesc, float64(l.Desired().MinFreeBytes))
}

// Agents returns how many machines have an agent that may act for them.
func (l *Lab) Agents() int { return len(*l.agents.Load()) }
