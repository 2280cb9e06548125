// Package version holds the version that was stamped into a binary when it was built.
package version

// Version is set by the linker (-X certlab/internal/version.Version=…) from `git describe`.
// It stays "dev" in binaries built by a plain `go build`.
var Version = "dev"
