package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"certlab/internal/durable"
	"certlab/internal/order"
)

// ErrRefused means that the controller will never let this agent in: its deployment is over, or its token has been used by another.
var ErrRefused = errors.New("the controller refuses this machine")

// enrolTime bounds one try at enrolling.
const enrolTime = 2 * time.Minute

// maxEnrolConfig bounds what an enrolment is told, in bytes.
const maxEnrolConfig = 256 << 10

// Enrol makes the agent in dir known to the controller that config (JSON, order.EnrolConfig) names, with the one-time token in it, and
// writes the desired state that the controller answers with. It tries once. It can be repeated, also after it was cut off anywhere: the
// key is on disk before it is shown to anybody, and the controller takes the same key again. Where it was done already it does nothing.
// The zero Options but for Dir are good for a real machine.
func Enrol(ctx context.Context, config io.Reader, opts Options) error {
	opts.defaults()
	path := filepath.Join(opts.Dir, order.AgentDesiredFile)
	if exists(path) {
		return nil
	}
	var c order.EnrolConfig
	if err := json.NewDecoder(io.LimitReader(config, maxEnrolConfig)).Decode(&c); err != nil {
		return errors.New("cannot read what to enrol with: it is no JSON of an enrolment") // and may hold the token
	}
	if err := makeDir(opts.Dir); err != nil {
		return err
	}
	key, err := loadKey(filepath.Join(opts.Dir, keyFile))
	if err != nil {
		return err
	}
	bootID, err := readBootID(opts.BootIDFile)
	if err != nil {
		return err
	}
	controller, err := newRemote(key, c.Controllers, c.CAs, opts.Now)
	if err != nil {
		return err
	}
	if controller == nil {
		return errors.New("cannot enrol without the address of a controller")
	}
	ctx, cancel := context.WithTimeout(ctx, enrolTime)
	defer cancel()
	identity := machineIdentity("/")
	var answer order.Enrolled
	err = controller.sendJSON(ctx, http.MethodPost, "/enrol/v1/enrol", order.Enrolment{Deployment: c.Deployment, Token: c.Token, PublicKey: key.public,
		Identity: identity, MACs: interfaceMACs(), BootID: bootID}, &answer)
	var answered *remoteError
	if errors.As(err, &answered) && (answered.Status == http.StatusUnauthorized || answered.Status == http.StatusForbidden) {
		return fmt.Errorf("%w: %s", ErrRefused, answered.Message)
	}
	if err != nil {
		return err
	}
	desired := answer.Desired
	desired.Unit, desired.Deployment = "", c.Deployment
	if len(desired.ControllerURLs) == 0 {
		desired.ControllerURLs = c.Controllers
	}
	if len(desired.ControllerCAs) == 0 {
		desired.ControllerCAs = c.CAs
	}
	if len(desired.ProviderPaths) == 0 {
		desired.ProviderPaths = ownProviders()
	}
	desired.Binary = "" // there is one, and nobody replaces it
	data, err := json.MarshalIndent(desired, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(data, '\n'), 0o600)
}

// ownProviders are the Checkbox providers that came in the agent's bundle.
func ownProviders() []string {
	found, err := filepath.Glob(filepath.Join(filepath.Dir(ownBinary()), "providers", "*"))
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(found, func(path string) bool {
		info, err := os.Stat(path)
		return err != nil || !info.IsDir()
	})
}

// maxMACs is how many addresses a machine names.
const maxMACs = 64

// interfaceMACs are the hardware addresses of the machine's interfaces, each once.
func interfaceMACs() []string {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var macs []string
	for _, i := range interfaces {
		if text := i.HardwareAddr.String(); len(i.HardwareAddr) >= 6 && i.Flags&net.FlagLoopback == 0 && !slices.Contains(macs, text) && len(macs) < maxMACs {
			macs = append(macs, text)
		}
	}
	return macs
}
