package locallab

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// A Cloud is what the firmware and the installed image tell a machine of the cloud that it is in: where its metadata is, and what it may
// read it with.
type Cloud struct {
	InstanceID string `json:"instance_id"`
	Hostname   string `json:"hostname"`
	Zone       string `json:"zone"`
	Metadata   string `json:"metadata"` // URL, below which there is latest/user-data
	// The parts of the key that requests are signed with, as MAAS has it: OAuth 1.0, PLAINTEXT.
	ConsumerKey string `json:"consumer_key"`
	TokenKey    string `json:"token_key"`
	TokenSecret string `json:"token_secret"`
}

// Where a machine's stand-in for cloud-init finds what it needs, and where it leaves what cloud-init leaves.
const (
	insideCloud    = insideDir + "/cloud.json"
	cloudDir       = "/var/lib/cloud"
	cloudRunDir    = "/run/cloud-init"
	cloudOutputLog = "/var/log/cloud-init-output.log"
)

// writeCloud leaves, inside the machine, what only its root may read.
func writeCloud(c *Cloud) error {
	if c == nil {
		return nil
	}
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(insideCloud), 0o755); err != nil {
		return err
	}
	return os.WriteFile(insideCloud, data, 0o600)
}

func readCloud(path string) (Cloud, error) {
	var c Cloud
	data, err := os.ReadFile(path)
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(data, &c)
}
