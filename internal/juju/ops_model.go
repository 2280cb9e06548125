package juju

import (
	"fmt"
	"sort"
	"strings"
	"time"
)

// ModelConfigKeys are the keys of model-config that mean something in this model, sorted.
func ModelConfigKeys() []string {
	keys := append([]string(nil), modelProxies...)
	for key := range modelDefaults {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	unique := keys[:0]
	for i, key := range keys {
		if i == 0 || key != keys[i-1] {
			unique = append(unique, key)
		}
	}
	return unique
}

// modelProxies are empty unless set; both the legacy ones and those that only charms see.
var modelProxies = []string{"http-proxy", "https-proxy", "ftp-proxy", "no-proxy", "juju-http-proxy", "juju-https-proxy", "juju-ftp-proxy", "juju-no-proxy"}

// CheckModelConfig refuses keys that the model does not know and values that Juju would not take.
func CheckModelConfig(key, value string) error {
	known := false
	for _, k := range ModelConfigKeys() {
		known = known || k == key
	}
	if !known {
		return fmt.Errorf("unknown model config key %q (the local lab has: %s)", key, strings.Join(ModelConfigKeys(), ", "))
	}
	if key == "update-status-hook-interval" {
		d, err := time.ParseDuration(value)
		if err != nil {
			return fmt.Errorf("invalid update status hook interval in model configuration: %w", err)
		}
		if d < time.Minute || d > time.Hour {
			return fmt.Errorf("update status frequency %v must be between 1m and 60m", d)
		}
	}
	return nil
}
