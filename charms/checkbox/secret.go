package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sort"
	"strings"

	"certlab/internal/hooks"
)

// secretFile holds NAME=value lines for the agent; mode 0600.
const secretFile = "secret-environment"

// writeSecret puts the secret's content into the agent's file, and returns the file's path, or nothing when there is no secret. The
// agent is told when the content changes, since the desired state, which has only the path, does not.
func (a agent) writeSecret(ctx context.Context, u *hooks.Unit, id hooks.SecretID) (string, error) {
	path := a.file(secretFile)
	if id == "" {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("cannot remove the secret environment: %w", err)
		}
		return "", nil
	}
	content, err := u.SecretGet(ctx, hooks.SecretRead{ID: id, Refresh: true})
	switch {
	case errors.Is(err, hooks.ErrNotAllowed):
		return "", hooks.Blocked("type: juju grant-secret %s %s (secret-environment cannot be read)", id.Bare(), u.App)
	case errors.Is(err, hooks.ErrNotFound):
		return "", hooks.Blocked("set secret-environment to a secret that exists, or reset it (there is no secret %s)", id.Bare())
	case err != nil:
		return "", err
	}
	lines, err := secretLines(content)
	if err != nil {
		return "", hooks.Blocked("change the secret of secret-environment: %s", err)
	}
	changed, err := a.WriteFile(path, []byte(lines), 0o600)
	if err == nil && changed {
		_, err = a.Reload()
	}
	return path, err
}

// secretLines turns a secret's keys, which are lower case with hyphens, into variables. Errors show no value.
func secretLines(content map[string]string) (string, error) {
	var lines []string
	for key, value := range content {
		name := strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
		if !variable.MatchString(name) {
			return "", fmt.Errorf("key %q makes no variable's name", key)
		}
		value = strings.TrimSuffix(value, "\n")
		if len(value) > maxValue || hasControl(strings.ReplaceAll(value, "\t", " ")) {
			return "", fmt.Errorf("the value of key %q is not one line of at most %d bytes", key, maxValue)
		}
		lines = append(lines, name+"="+value+"\n")
	}
	sort.Strings(lines)
	return strings.Join(lines, ""), nil
}
