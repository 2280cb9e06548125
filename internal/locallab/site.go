package locallab

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
)

// siteConsole is the lab's own program for consoles: on the controller's machine it asks the lab, which is at the same address in each, as a
// site's asks its console server. The machine's address tells which lab it is.
const siteConsole = `#!/bin/sh
# Prints what the console of a node of the local lab has shown. The machine's name is in CERTLAB_HOSTNAME, or the first argument.
set -eu
lab=$(sed -n 's/^127\.[0-9]*\.\([0-9]*\)\.[0-9]* machine-.*/\1/p' /etc/hosts | head -n 1)
exec curl -fsS --max-time 20 "http://127.77.$lab.2:5240/lab/console/${CERTLAB_HOSTNAME:-$1}"
`

// SitePrograms returns the archive of programs that the lab, as a site, gives its controller. It is always the same.
func SitePrograms() ([]byte, error) {
	var out bytes.Buffer
	packed := gzip.NewWriter(&out)
	archive := tar.NewWriter(packed)
	header := &tar.Header{Name: "console", Mode: 0o755, Size: int64(len(siteConsole)), Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
	if err := archive.WriteHeader(header); err != nil {
		return nil, err
	}
	if _, err := archive.Write([]byte(siteConsole)); err != nil {
		return nil, err
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	if err := packed.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
