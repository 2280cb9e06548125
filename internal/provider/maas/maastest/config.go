package maastest

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

func defaultConfig(o Options) map[string]any {
	series := ""
	if len(o.Images) > 0 {
		series = o.Images[0].Release
		for _, i := range o.Images {
			if i.Default {
				series = i.Release
			}
		}
	}
	return map[string]any{
		"node_timeout": int(o.NodeTimeout / time.Minute), "default_distro_series": series, "default_osystem": "ubuntu",
		"commissioning_distro_series": "jammy", "default_min_hwe_kernel": "", "default_storage_layout": "flat", "kernel_opts": nil,
		"enable_disk_erasing_on_release": false, "disk_erase_with_secure_erase": true, "disk_erase_with_quick_erase": false, "maas_name": "maas",
	}
}

// getConfig answers a setting, as JSON.
func (c *call) getConfig() reply {
	name := c.get("name")
	v, ok := c.state.Config[name]
	if !ok {
		return invalid("name", name+" is not a valid config setting (valid settings are: "+strings.Join(c.settings(), ", ")+").")
	}
	b, _ := json.Marshal(v)
	return reply{status: 200, contentType: textJSON, body: b}
}

func (c *call) setConfig() reply {
	name, value := c.get("name"), c.get("value")
	old, ok := c.state.Config[name]
	if !ok {
		return invalid("name", name+" is not a valid config setting (valid settings are: "+strings.Join(c.settings(), ", ")+").")
	}
	switch old.(type) {
	case int:
		i, err := strconv.Atoi(value)
		if err != nil {
			return invalid(name, "Enter a whole number.")
		}
		c.state.Config[name] = i
	case bool:
		c.state.Config[name] = c.yes("value")
	default:
		c.state.Config[name] = value
	}
	return text(200, "OK")
}

func (c *call) settings() []string {
	return sortedKeys(c.state.Config)
}

// config returns a setting's text.
func (r *Region) config(name string) string {
	s, _ := r.state.Config[name].(string)
	return s
}

// nodeTimeout is how long the region waits to hear from a machine that is being deployed, in minutes.
func (r *Region) nodeTimeout() time.Duration {
	switch v := r.state.Config["node_timeout"].(type) {
	case int:
		if d := time.Duration(v) * time.Minute; d > 0 && d != r.options.NodeTimeout.Truncate(time.Minute) {
			return d
		}
	}
	return r.options.NodeTimeout
}

type versionDoc struct {
	Version      string   `json:"version"`
	Subversion   string   `json:"subversion"`
	Capabilities []string `json:"capabilities"`
}

func (c *call) version() reply {
	version, sub, _ := strings.Cut(c.options.Version, "-")
	return asJSON(versionDoc{version, sub, []string{
		"networks-management", "static-ipaddresses", "ipv6-deployment-ubuntu", "devices-management", "storage-deployment-ubuntu",
		"network-deployment-ubuntu", "bridging-interface-ubuntu", "bridging-automatic-ubuntu", "authenticate-api",
	}})
}

type userDoc struct {
	IsSuperuser bool   `json:"is_superuser"`
	Username    string `json:"username"`
	Email       string `json:"email"`
	IsLocal     bool   `json:"is_local"`
	ResourceURI string `json:"resource_uri"`
}

func (u *user) document() userDoc {
	return userDoc{u.Admin, u.Name, u.Email, true, apiRoot + "users/" + u.Name + "/"}
}

func (c *call) whoami() reply { return asJSON(c.user.document()) }

func (c *call) listUsers() reply {
	docs := []userDoc{}
	for _, u := range c.state.Users {
		docs = append(docs, u.document())
	}
	return asJSON(docs)
}
