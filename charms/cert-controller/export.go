package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"certlab/internal/durable"
	"certlab/internal/hooks"
)

const (
	exportTime = 10 * time.Minute
	maxShown   = 64 << 10 // of an export that is an action's output
	// hiddenExport are files that are not whole yet.
	hiddenExport = ".export-*"
)

type exportCampaignParams struct {
	Campaign string `param:"campaign"`
	Format   string `param:"format"`
	Path     string `param:"path"`
}

// exportCampaign writes a campaign to a file, which is there whole or not at all; what is small may be the output.
func (sys system) exportCampaign(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params exportCampaignParams
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	if err := checkName("campaign", params.Campaign, aCampaign); err != nil {
		return fail(call, err)
	}
	if params.Path != "" && !cleanPath(params.Path) {
		return fail(call, pathError("path", params.Path))
	}
	if _, err := os.Lstat(params.Path); params.Path != "" && !errors.Is(err, fs.ErrNotExist) {
		return fail(call, fmt.Errorf("cannot write the campaign to %s: it is there already (give another path)", hooks.Shown(params.Path)))
	}
	s, err := sys.service(u)
	if err != nil {
		return fail(call, err)
	}
	out := &export{dir: filepath.Dir(params.Path), limit: -1}
	if params.Path == "" {
		out.limit = maxShown
		known, err := s.knownStorage()
		if err != nil {
			return fail(call, err)
		}
		if known.Location != "" {
			out.dir = filepath.Join(known.Location, "exports")
			params.Path = filepath.Join(out.dir, time.Now().UTC().Format("20060102T150405Z")+"-"+call.ID+"."+params.Format)
		}
	}
	defer out.discard()
	from := campaignPath(params.Campaign, "export") + "?" + url.Values{"format": {params.Format}}.Encode()
	s.Step("GET " + from)
	limited, cancel := context.WithTimeout(ctx, exportTime)
	defer cancel()
	sum := sha256.New()
	size, err := s.socket.Fetch(limited, from, io.MultiWriter(out, sum))
	if err != nil {
		return fail(call, err)
	}
	results := map[string]any{"bytes": size, "sha256": hex.EncodeToString(sum.Sum(nil))}
	if out.file == nil && out.limit > 0 {
		_, err = call.Output.Write(out.held.Bytes())
	} else {
		results["path"] = params.Path
		err = out.keep(params.Path)
	}
	if err != nil {
		return fail(call, fmt.Errorf("cannot write the campaign: %w", err))
	}
	return set(call, results)
}

// An export holds up to limit bytes, and puts what is longer into a hidden file in dir.
type export struct {
	dir   string
	limit int // of what is held; below 0: nothing is
	held  bytes.Buffer
	file  *os.File
}

func (e *export) Write(p []byte) (int, error) {
	if e.file == nil && e.held.Len()+len(p) <= e.limit {
		return e.held.Write(p)
	}
	if e.file == nil {
		if err := e.open(); err != nil {
			return 0, err
		}
	}
	return e.file.Write(p)
}

func (e *export) open() error {
	if e.limit >= 0 {
		if e.dir == "" || e.dir == "." {
			return errors.New("it is too long for an action's output, and there is no storage to put it into (give path=)")
		}
		if err := os.Mkdir(e.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		// One action runs at a time: what is there is of one that was killed.
		left, _ := filepath.Glob(filepath.Join(e.dir, hiddenExport))
		for _, path := range left {
			_ = os.Remove(path)
		}
	}
	file, err := os.CreateTemp(e.dir, hiddenExport)
	if err != nil {
		return err
	}
	e.file = file
	_, err = file.Write(e.held.Bytes())
	return err
}

// keep gives the file its name, once it is whole and on disk.
func (e *export) keep(path string) error {
	if e.file == nil {
		if err := e.open(); err != nil {
			return err
		}
	}
	if err := e.file.Sync(); err != nil {
		return err
	}
	if err := os.Link(e.file.Name(), path); err != nil { // which, unlike a renaming, replaces nothing
		return err
	}
	return durable.SyncDir(e.dir)
}

// discard removes the hidden file; under its name it stays.
func (e *export) discard() {
	if e.file != nil {
		e.file.Close()
		_ = os.Remove(e.file.Name())
	}
}
