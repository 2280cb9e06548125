package agent

import (
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
)

// A newcomer is a deployed machine that wants to enrol.
type newcomer struct {
	t      *testing.T
	c      *testController
	config order.EnrolConfig
	dir    string
}

func newNewcomer(t *testing.T) *newcomer {
	t.Helper()
	macs := interfaceMACs()
	identity := machineIdentity("/")
	if len(macs) == 0 && identity.ProductUUID == "" {
		t.Skip("this machine has neither a network card nor a product UUID that would tell which it is")
	}
	c := newController(t)
	token := cert.NewSecret(order.EnrolPrefix)
	c.deployment = &cert.Deployment{ID: cert.NewID(cert.DeploymentID, time.Now()), Phase: cert.PhaseBoot, TokenHash: cert.HashSecret(token)}
	c.machine = cert.Provided{ID: identity.SystemID, Hostname: "node7", MACs: macs, ProductUUID: identity.ProductUUID}
	return &newcomer{t: t, c: c, dir: filepath.Join(t.TempDir(), "agent"), config: order.EnrolConfig{
		Controllers: []string{"https://127.0.0.1:1", c.server.URL}, Deployment: c.deployment.ID, Token: token,
		CAs: []string{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.server.Certificate().Raw}))}}}
}

// enrol tries once, in dir.
func (n *newcomer) enrol(dir string) error {
	n.t.Helper()
	config, err := json.Marshal(n.config)
	require.NoError(n.t, err)
	return Enrol(n.t.Context(), strings.NewReader(string(config)), Options{Dir: dir})
}

// in fails unless the agent in dir is the deployment's.
func (n *newcomer) in(dir string) order.AgentDesired {
	n.t.Helper()
	desired, _, err := readDesired(dir, order.AgentDesiredFile)
	require.NoError(n.t, err)
	require.Equal(n.t, n.config.Deployment, desired.Deployment)
	key, err := loadKey(filepath.Join(dir, keyFile))
	require.NoError(n.t, err)
	require.Equal(n.t, key.public, n.c.deployment.AgentKey)
	return desired
}

func TestDeployedMachineEnrols(t *testing.T) {
	t.Parallel()
	n := newNewcomer(t)
	require.NoError(t, n.enrol(n.dir))
	desired := n.in(n.dir)
	require.Equal(t, n.config.Controllers, desired.ControllerURLs, "where the controller says nothing, what brought it here holds")
	require.Equal(t, n.config.CAs, desired.ControllerCAs)
	require.True(t, desired.Reserved)
	info, err := os.Stat(filepath.Join(n.dir, order.AgentDesiredFile))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	// Done is done: nobody is asked again.
	n.c.server.Close()
	require.NoError(t, n.enrol(n.dir))
}

func TestFaultAnswerOfTheEnrolmentIsLost(t *testing.T) {
	t.Parallel()
	n := newNewcomer(t)
	n.c.faults["answer lost"] = 1
	err := n.enrol(n.dir)
	require.ErrorContains(t, err, "cannot reach the controller: ")
	require.NotErrorIs(t, err, ErrRefused)
	require.NoFileExists(t, filepath.Join(n.dir, order.AgentDesiredFile))
	require.NoError(t, n.enrol(n.dir))
	n.in(n.dir)
	require.Len(t, n.c.keys, 2)
	require.Equal(t, n.c.keys[0], n.c.keys[1], "one key, kept from before it was shown")
}

func TestFaultTokenIsUsedTwice(t *testing.T) {
	t.Parallel()
	n := newNewcomer(t)
	require.NoError(t, n.enrol(n.dir))
	before := n.c.deployment.AgentKey
	other := filepath.Join(t.TempDir(), "agent")
	err := n.enrol(other)
	require.ErrorIs(t, err, ErrRefused)
	require.ErrorContains(t, err, "cannot enrol another agent for node7: the token of deployment "+n.config.Deployment+" has been used, and another key came with it this time")
	require.NotContains(t, err.Error(), n.config.Token)
	require.NoFileExists(t, filepath.Join(other, order.AgentDesiredFile))
	require.Equal(t, before, n.c.deployment.AgentKey)
}

func TestFaultTokenIsReplayedFromAnotherMachine(t *testing.T) {
	t.Parallel()
	n := newNewcomer(t)
	n.c.machine.ID = "abc123"
	err := n.enrol(n.dir)
	require.ErrorIs(t, err, ErrRefused)
	require.ErrorContains(t, err, "the machine that asks has the system_id ")
	n.c.machine.ID = machineIdentity("/").SystemID
	n.c.machine.MACs, n.c.machine.ProductUUID = []string{"52:54:00:00:00:01"}, "11111111-2222-3333-4444-555555555555"
	err = n.enrol(n.dir)
	require.ErrorIs(t, err, ErrRefused)
	require.ErrorContains(t, err, "cannot enrol an agent for node7: neither its product UUID nor any of its MAC addresses is one that its provider knows")
	require.Empty(t, n.c.deployment.AgentKey)
	require.Empty(t, n.c.keys)
}

func TestFaultControllerIsGoneWhileAMachineEnrols(t *testing.T) {
	t.Parallel()
	n := newNewcomer(t)
	n.c.faults["enrol 503"] = 1
	err := n.enrol(n.dir)
	require.ErrorContains(t, err, "the controller answers 503")
	require.NotErrorIs(t, err, ErrRefused, "it is tried again")
	n.config.Controllers = n.config.Controllers[:1]
	err = n.enrol(n.dir)
	require.ErrorContains(t, err, "cannot reach the controller: https://127.0.0.1:1: ")
	require.NotErrorIs(t, err, ErrRefused)
	n.config.Controllers = []string{n.c.server.URL}
	require.NoError(t, n.enrol(n.dir))
	n.in(n.dir)
}

func TestFaultFullDiskWhileAMachineEnrols(t *testing.T) {
	t.Parallel()
	n := newNewcomer(t)
	g := &rig{t: t}
	d := smallDisk(t, g)
	d.fill(0)
	err := n.enrol(g.dir)
	require.ErrorContains(t, err, "no space left on device")
	require.NotErrorIs(t, err, ErrRefused)
	require.Empty(t, n.c.keys, "a key that is not on disk is not shown")
	d.free()
	require.NoError(t, n.enrol(g.dir))
	n.in(g.dir)
}

func TestEnrolmentSaysNothingOfItsToken(t *testing.T) {
	t.Parallel()
	err := Enrol(t.Context(), strings.NewReader(`{"token": "cld_secret", "deployment": 7}`), Options{Dir: t.TempDir()})
	require.EqualError(t, err, "cannot read what to enrol with: it is no JSON of an enrolment")
}

func TestDeployedMachineThatIsOverComesBackSeldom(t *testing.T) {
	t.Parallel()
	refusal := &remoteError{Status: 403, Message: "this agent's key is not enrolled"}
	a := newAgent(Options{RetryLimit: time.Minute, Now: time.Now})
	require.LessOrEqual(t, a.patience(20, refusal), time.Minute, "a unit's key may be published any time")
	a.desired.Deployment = "d1"
	require.Greater(t, a.patience(20, refusal), 4*time.Minute)
	require.LessOrEqual(t, a.patience(20, &remoteError{Status: 503}), time.Minute)
}
