package watch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"

	"certlab/internal/blobs"
	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

const (
	consoleTimeout = time.Minute
	consoleLimit   = 4 << 20 // bytes
)

// limited keeps the end of what is written to it.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	l.Buffer.Write(p)
	if over := l.Len() - consoleLimit; over > 0 {
		l.Next(over)
	}
	return len(p), nil
}

// saveConsole keeps what the machine's BMC has of its console as a file of the attempt, and says what became of that. Nothing of it keeps a
// machine from being power-cycled.
func (w *Watch) saveConsole(ctx context.Context, c *cert.PowerCycle, m *sqlite.Watched) string {
	if w.Console == nil || w.Files == nil {
		return "no console is kept of it"
	}
	var text limited
	limit, cancel := context.WithTimeout(ctx, consoleTimeout)
	defer cancel()
	err := w.Console(limit, c.Machine, &text)
	switch {
	case errors.Is(err, fs.ErrNotExist), cert.CodeOf(err) == cert.NotFound && err != nil:
		return "no console is kept of it"
	case err != nil && text.Len() == 0:
		return fmt.Sprintf("its console could not be read: %v", err)
	case text.Len() == 0:
		return "its console is empty"
	}
	sum := sha256.Sum256(text.Bytes())
	sha := hex.EncodeToString(sum[:])
	file := cert.File{Attempt: c.Attempt, Kind: cert.KindBMC, Name: fmt.Sprintf("bmc-console-%d.txt", c.Number), SHA256: sha, Size: int64(text.Len()), Received: w.Now()}
	upload := blobs.Upload{Owner: "watch", SHA256: sha, Size: file.Size}
	offset, err := w.Files.Offset(upload)
	if err == nil {
		_, _, err = w.Files.Append(ctx, upload, offset, bytes.NewReader(text.Bytes()[min(offset, file.Size):]), func() error {
			_, err := w.DB.AddFile(ctx, c.Run, file)
			return err
		})
	}
	if err != nil {
		w.Logger.Error("cannot keep a machine's console", "machine", m.Hostname, "run", c.Run, "error", err)
		return "its console could not be kept: " + err.Error()
	}
	kept := fmt.Sprintf("the last %d bytes of its console are kept with the run", file.Size)
	if words := lastWords(text.String()); words != "" {
		kept += ", and it says: " + words
	}
	return kept
}

// lastWords is the line of a console that says most about why a kernel does not come up; empty: none does. A kernel that panics says a lot
// after that, so that the last line is not it.
func lastWords(console string) string {
	lines := strings.Split(console, "\n")
	for _, sign := range []string{"Kernel panic - not syncing", "VFS: Unable to mount root", "(initramfs)", "Gave up waiting for root", "error: kernel",
		"bad shim signature", "You need to load the kernel first", "BUG: ", "Oops: "} {
		for _, line := range slices.Backward(lines) {
			if i := strings.Index(line, sign); i >= 0 {
				return clean(line[i:])
			}
		}
	}
	return ""
}

// escapes are what terminals take as orders.
var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")

func clean(line string) string {
	line = strings.TrimSpace(escapes.ReplaceAllString(strings.ToValidUTF8(line, ""), ""))
	if len(line) > 200 {
		line = strings.ToValidUTF8(line[:200], "") + "…"
	}
	return line
}
