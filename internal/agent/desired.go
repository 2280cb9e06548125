package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"certlab/internal/order"
)

// readDesired reads the desired state from the file with this name in dir and returns it with the SHA-256 of the file. There being none is no error: the agent then waits
// for one, with nothing configured.
func readDesired(dir, name string) (order.AgentDesired, string, error) {
	var d order.AgentDesired
	data, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return d, "", nil
	}
	if err != nil {
		return d, "", fmt.Errorf("cannot read the desired state: %w", err)
	}
	if len(data) > maxState {
		return d, "", fmt.Errorf("cannot read the desired state: %s is larger than %d bytes", filepath.Join(dir, name), maxState)
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return order.AgentDesired{}, "", fmt.Errorf("cannot read the desired state in %s: %s (the charm writes it again at its next hook, such as that of `juju config`)", filepath.Join(dir, name), clip(err.Error(), 300))
	}
	sum := sha256.Sum256(data)
	return d, hex.EncodeToString(sum[:]), nil
}

// readSecretEnvironment reads NAME=value lines. Empty lines and those that begin with # are left out.
func readSecretEnvironment(path string) (map[string]string, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the secret environment: %w", err)
	}
	env := make(map[string]string)
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.TrimRight(line, "\r\n")
		if text := strings.TrimSpace(line); text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, fmt.Errorf("cannot read the secret environment: line %d is not NAME=value", number) // and is not shown
		}
		env[strings.TrimSpace(name)] = value
	}
	return env, nil
}
