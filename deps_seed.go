//go:build seed

// Package certlab pins dependencies while the packages that use them are being written.
package certlab

import (
	_ "github.com/alecthomas/kong"
	_ "github.com/canonical/pebble/client"
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/juju/charm/v12"
	_ "github.com/prometheus/client_golang/prometheus"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/stretchr/testify/require"
	_ "github.com/ulikunitz/xz"
	_ "golang.org/x/sys/unix"
	_ "gopkg.in/yaml.v3"
	_ "modernc.org/sqlite"
	_ "pgregory.net/rapid"
	_ "github.com/santhosh-tekuri/jsonschema/v6"
)
