package order

import "time"

// How a machine that was deployed for a lab gets an agent, and how each agent says that it is ready.
//
// The deployment's user-data is a shell script that carries the controller's URLs, its CA certificates and a token which is good for one
// enrolment of that machine in that deployment. Over TLS with those certificates it asks
//
//	GET  /enrol/v1/agent/{architecture}      header Authorization: Certlab-Deployment TOKEN → the agent's bundle, a tar.gz with its SHA-256 in
//	                                         the header Certlab-SHA256; any number of times until the deployment is over. The first one is
//	                                         the machine's first word: it has booted.
//	POST /enrol/v1/enrol   Enrolment         → Enrolled. The token is used up; the same key may repeat it (an answer can be lost), another one
//	                                         is refused, and so is another machine; both are noted in the machine's log.
//
// After that the agent is like any other: mutual TLS with its key, /agent/v1/…. All agents, those of units too, send
//
//	PUT  /agent/v1/status  Status            → 204: at start, when Checkbox has become usable or unusable, when what they hold changes.
const (
	EnrolScheme = "Certlab-Deployment" // of the Authorization header
	EnrolPrefix = "cld_"               // of a token

	BundleHashHeader = "Certlab-SHA256" // of the agent's bundle, lower-case hex
)

// Enrolment asks for the right to act for a machine.
type Enrolment struct {
	Deployment string   `json:"deployment"` // id
	Token      string   `json:"token"`
	PublicKey  string   `json:"public_key"` // as in AgentPublic
	Identity   Identity `json:"identity"`   // SystemID from cloud-init's instance-id
	MACs       []string `json:"macs"`       // of all interfaces: with the product UUID they confirm the identity
	BootID     string   `json:"boot_id"`
}

// EnrolConfig is what a deployed machine is told by its user-data, and `certlab-agent enrol` reads.
type EnrolConfig struct {
	Controllers []string `json:"controllers"` // URLs
	CAs         []string `json:"cas"`         // PEM
	Deployment  string   `json:"deployment"`
	Token       string   `json:"token"`
}

// Enrolled answers an Enrolment.
type Enrolled struct {
	Desired AgentDesired `json:"desired"` // what the agent writes as its desired state; Unit is empty
}

// Status is what an agent says of itself and its machine.
type Status struct {
	BootID          string    `json:"boot_id"`
	Booted          time.Time `json:"booted"`                     // by the machine's clock
	Release         string    `json:"release"`                    // such as ubuntu@24.04
	Kernel          string    `json:"kernel"`                     // uname -r
	Version         string    `json:"version"`                    // of the agent
	CheckboxVersion string    `json:"checkbox_version,omitempty"` // empty: not usable (yet)
	Problem         string    `json:"problem,omitempty"`          // why not, with what to do
	Running         string    `json:"running,omitempty"`          // run id
	Undelivered     []string  `json:"undelivered,omitempty"`      // ids of runs whose files the controller has not acknowledged
	Manual          bool      `json:"manual,omitempty"`           // somebody runs Checkbox by hand
	// Restoring is the run whose subject is being taken off the machine; empty: none. Dirty is why that could not be done, with what to do. While
	// one of them is set the machine takes no runs.
	Restoring string `json:"restoring,omitempty"`
	Dirty     string `json:"dirty,omitempty"`
}

// Ready reports whether runs can be given to the agent.
func (s Status) Ready() bool { return s.CheckboxVersion != "" }
