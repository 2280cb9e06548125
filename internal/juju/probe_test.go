package juju

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// probeTexts describe the charm that the hook tool transcript was recorded with, as far as the transcript shows it.
var probeTexts = map[string]string{
	"metadata.yaml": `
name: probe
summary: probe
description: probe
provides: {prov: {interface: probe}}
requires: {req: {interface: probe}}
peers: {cluster: {interface: probe-peer}}
extra-bindings: {extra: }
storage: {data: {type: filesystem, location: /srv/probe, multiple: {range: 0-1}}}
resources: {blob: {type: file, filename: blob.bin, description: a file}}
`,
	"config.yaml": `
options:
  s: {type: string, default: hello}
  i: {type: int, default: 3}
  f: {type: float, default: 1.5}
  b: {type: boolean, default: false}
  nodef: {type: string}
  sec: {type: secret}
`,
	"manifest.yaml": "bases:\n- {name: ubuntu, channel: \"24.04\", architectures: [amd64]}\n",
	"actions.yaml": `
echo:
  description: echo
  params:
    num: {type: integer}
    text: {type: string, default: hi}
    nested: {type: object, properties: {inner: {type: string, default: deep}}}
  required: [num]
`,
}

func newSeeded() *rand.ChaCha8 { return rand.NewChaCha8([32]byte{1}) }

type seeded struct{ *rand.ChaCha8 }

func (s seeded) Read(p []byte) (int, error) { return s.ChaCha8.Read(p) }

// probeModel is the transcript's model: one application of one unit, its leader, on one machine, active, with its peer relation.
func probeModel(t *testing.T, version string) *Model {
	t.Helper()
	now := time.Date(2026, 11, 23, 8, 53, 7, 0, time.UTC)
	ch, err := NewCharm(probeTexts)
	require.NoError(t, err)
	s := NewState(ModelInfo{Name: "lab1", UUID: "e9824888-ad46-4197-8a05-f3d6e755c569", Version: version, Controller: "c1",
		Cloud: "lab", Region: "default", APIAddresses: []string{"10.77.0.10:17070"}}, now)
	s.Machines["0"] = &Machine{ID: "0", Hostname: "m1", Addresses: []string{"10.77.0.11"}, Life: Alive,
		Interfaces: []NetworkInterface{{Name: "eth0", MAC: "fe:17:1b:4f:b2:21", Addresses: []string{"10.77.0.11/24"}}}}
	stored := ch.WithRevision(0)
	s.Charms[stored.URL] = stored
	s.Applications["probe"] = &Application{Name: "probe", Charm: stored.URL, Leader: "probe/0", Life: Alive, Created: now,
		Resources: map[string]Resource{"blob": {Name: "blob", Filename: "blob.bin"}}}
	s.Units["probe/0"] = &Unit{Name: "probe/0", Application: "probe", Machine: "0", Life: Alive,
		Workload: Status{Status: "active", Message: "ready", Since: now}}
	s.Relations[0] = &Relation{ID: 0, Endpoints: []Endpoint{{"probe", "cluster", "probe-peer", Peer}}, Life: Alive, Created: now,
		Units: map[string]*RelationUnit{"probe/0": {InScope: true, Settings: map[string]string{
			"egress-subnets": "10.77.0.11/32", "ingress-address": "10.77.0.11"}}}}
	s.Next = Sequences{Machine: 1, Relation: 1, Task: 2, Unit: map[string]int{"probe": 1}}
	s.Tasks[1] = &Task{ID: 1, Receiver: "probe/0", Action: ExecAction, Status: TaskRunning, Params: map[string]any{
		"command": "bash ./t.sh > ./t.out 2>&1; echo hi; echo err >&2", "timeout": int64(5 * time.Minute)}}
	return NewModel(s, Options{Clock: newManualClock(now), Random: seeded{newSeeded()}})
}
