package api

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"certlab/internal/cert"
)

// Bounds of what is put into an agent's bundle.
const (
	maxBundle      = 256 << 20 // bytes, unpacked
	maxBundleFiles = 2000
	maxBundleKinds = 16 // architectures whose bundle is kept
)

// agentPrefix begins the name of an agent's file in the directory of agents; its architecture follows.
const agentPrefix = "certlab-agent_"

// A bundle is what a deployed machine unpacks: certlab-agent for its architecture, and providers/ with the Checkbox providers of the lab.
type bundle struct {
	made   string // of which files, and how they were
	data   []byte // tar.gz
	sha256 string
}

// bundles keeps the bundle of each architecture until a file of it changes. The zero value is ready.
type bundles struct {
	mu   sync.Mutex // held while one is made: many machines ask at once, and it is made once for all
	kept map[string]bundle
}

// get returns the bundle for an architecture (Debian's name) from the directories of agents and of providers. It fails as NotFound where
// there is no agent, and says for which architectures there is one. The same files give the same bytes.
func (b *bundles) get(agents, providers, architecture string) (bundle, error) {
	if agents == "" {
		return bundle{}, cert.Errorf(cert.NotFound, "there is no agent for machines that are deployed: this lab deploys none")
	}
	if !archPattern.MatchString(architecture) || architecture == "" {
		return bundle{}, cert.Errorf(cert.NotFound, "%q is not an architecture (such as amd64)", clip(architecture, 50))
	}
	files, made, err := bundleFiles(filepath.Join(agents, agentPrefix+architecture), providers)
	if errors.Is(err, errNoAgent) {
		there := architectures(agents)
		if len(there) == 0 {
			return bundle{}, cert.Errorf(cert.NotFound, "there is no agent for %s: this controller has none at all (refresh the cert-controller charm)", architecture)
		}
		return bundle{}, cert.Errorf(cert.NotFound, "there is no agent for %s: this controller has it for %s", architecture, strings.Join(there, ", "))
	}
	if err != nil {
		return bundle{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if kept, ok := b.kept[architecture]; ok && kept.made == made {
		return kept, nil
	}
	data, err := pack(files)
	if err != nil {
		return bundle{}, err
	}
	sum := sha256.Sum256(data)
	if b.kept == nil || len(b.kept) >= maxBundleKinds {
		b.kept = make(map[string]bundle)
	}
	b.kept[architecture] = bundle{made: made, data: data, sha256: hex.EncodeToString(sum[:])}
	return b.kept[architecture], nil
}

var errNoAgent = errors.New("there is no such agent")

// architectures are those that there is an agent for.
func architectures(agents string) []string {
	found, _ := filepath.Glob(filepath.Join(agents, agentPrefix+"*"))
	var names []string
	for _, path := range found {
		if name := strings.TrimPrefix(filepath.Base(path), agentPrefix); archPattern.MatchString(name) && name != "" {
			names = append(names, name)
		}
	}
	return names
}

// A bundleFile is a file on the controller and what it is called in the bundle.
type bundleFile struct {
	path, name string
	mode       int64
}

// bundleFiles lists what goes into a bundle, sorted, and describes the files so that a change shows.
func bundleFiles(agent, providers string) (files []bundleFile, made string, err error) {
	var text strings.Builder
	var size int64
	add := func(path, name string, info fs.FileInfo) error {
		mode := int64(0o644)
		if info.Mode()&0o111 != 0 {
			mode = 0o755
		}
		files = append(files, bundleFile{path, name, mode})
		fmt.Fprintf(&text, "%q %o %d %d\n", name, mode, info.Size(), info.ModTime().UnixNano())
		if size += info.Size(); size > maxBundle || len(files) > maxBundleFiles {
			return fmt.Errorf("cannot make the agent's bundle: it would have more than %d MiB or %d files (look into %s)", maxBundle>>20, maxBundleFiles, providers)
		}
		return nil
	}
	info, err := os.Stat(agent)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil, "", errNoAgent
	}
	if err != nil {
		return nil, "", fmt.Errorf("cannot make the agent's bundle: %w", err)
	}
	if err := add(agent, "certlab-agent", info); err != nil {
		return nil, "", err
	}
	files[0].mode = 0o755
	if providers == "" {
		return files, text.String(), nil
	}
	// The directory itself may be a link; what is in it goes along only if it is a file.
	if resolved, err := filepath.EvalSymlinks(providers); err == nil {
		providers = resolved
	}
	err = filepath.WalkDir(providers, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "__pycache__" || d.Name() == ".git") {
			return fs.SkipDir
		}
		if !d.Type().IsRegular() {
			return nil
		}
		name, err := filepath.Rel(providers, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return add(path, "providers/"+filepath.ToSlash(name), info)
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("cannot make the agent's bundle: %w", err)
	}
	slices.SortStableFunc(files, func(x, y bundleFile) int { return strings.Compare(x.name, y.name) })
	return files, text.String(), nil
}

// pack writes files as tar.gz, without anything that is not the same the next time.
func pack(files []bundleFile) ([]byte, error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(z)
	for _, f := range files {
		if err := packFile(t, f); err != nil {
			return nil, fmt.Errorf("cannot make the agent's bundle: %w", err)
		}
	}
	if err := errors.Join(t.Close(), z.Close()); err != nil {
		return nil, fmt.Errorf("cannot make the agent's bundle: %w", err)
	}
	return out.Bytes(), nil
}

func packFile(t *tar.Writer, f bundleFile) error {
	file, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: info.Size(), Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err = io.CopyN(t, file, info.Size())
	return err
}
