package locallab

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"certlab/internal/debarchive"
	"certlab/internal/durable"
)

// The kernels of the lab's archive.
const (
	releasedKernel = "6.8.0-50.51" // in updates; new machines have it
	proposedKernel = "6.8.0-51.52" // in proposed
)

// archivePort is where the lab's archive is served, at the address of its MAAS.
const archivePort = 5248

// archiveVersion is that of what the archive holds: a lab that was made by another version of this program gets its archive anew.
const archiveVersion = "1"

func (l *Lab) archiveAddress() string {
	return net.JoinHostPort(fmt.Sprintf("127.77.%d.2", l.settings.Number), strconv.Itoa(archivePort))
}

// codename is what the archive's suites are named after: the release that the machines are of, which is the host's.
func codename(osRelease string) string { return hostImage(osRelease).Release }

// openArchive makes the lab's archive, unless it is there, and says what machines have to know of it. It listens from now on, and answers
// once it is served.
func (l *Lab) openArchive() (err error) {
	name := codename(osReleaseFile())
	dir := l.path("archive")
	mark := filepath.Join(dir, "made")
	if made, err := os.ReadFile(mark); err != nil || string(made) != archiveVersion+" "+name+"\n" {
		if err := makeArchive(dir, name); err != nil {
			return fmt.Errorf("cannot make the lab's archive: %w", err)
		}
		if err := durable.WriteFile(mark, []byte(archiveVersion+" "+name+"\n"), 0o600); err != nil {
			return err
		}
	}
	key, err := os.ReadFile(filepath.Join(dir, "archive.asc"))
	if err != nil {
		return fmt.Errorf("cannot read the key of the lab's archive: %w", err)
	}
	if l.archive, err = net.Listen("tcp", l.archiveAddress()); err != nil {
		return fmt.Errorf("cannot serve the lab's archive: %w", err)
	}
	l.kernels = &Kernels{Installed: releasedKernel, Archive: "http://" + l.archiveAddress() + "/ubuntu", Key: string(key), Codename: name}
	return nil
}

// makeArchive makes the archive, signed with a key that nobody keeps.
func makeArchive(dir, name string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	key, err := debarchive.NewKey("Archive of the local lab <lab@localhost>")
	if err != nil {
		return err
	}
	public, err := key.Public()
	if err != nil {
		return err
	}
	kernel := func(version string) []debarchive.Package {
		return debarchive.Kernel(debarchive.KernelSpec{Version: version, Arch: debArch()})
	}
	if err := debarchive.Write(filepath.Join(dir, "ubuntu"), key, debArch(),
		debarchive.Suite{Name: name},
		debarchive.Suite{Name: name + "-updates", Codename: name, Packages: kernel(releasedKernel)},
		debarchive.Suite{Name: name + "-security", Codename: name},
		debarchive.Suite{Name: name + "-proposed", Codename: name, NotAutomatic: true, Packages: kernel(proposedKernel)},
	); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "archive.asc"), []byte(public), 0o644)
}

// serveArchive serves the archive until the listener is closed.
func (l *Lab) serveArchive() {
	mux := http.NewServeMux()
	files := http.FileServer(http.Dir(l.path("archive")))
	mux.HandleFunc("GET /ubuntu/", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/") {
			http.NotFound(w, r) // no lists: apt asks for none
			return
		}
		files.ServeHTTP(w, r)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	if err := server.Serve(l.archive); err != nil && !errors.Is(err, net.ErrClosed) {
		l.log.Error("cannot serve the lab's archive", "error", err)
	}
}
