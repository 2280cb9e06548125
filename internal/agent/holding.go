package agent

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"certlab/internal/agent/apt"
	"certlab/internal/agent/bootloader"
	"certlab/internal/order"
)

// A holding is what was done to the machine for a run's subject: subject.json. It outlives the run where all is put back afterwards.
// Each step is on disk before it is taken, and can be taken again.
type holding struct {
	Run     string        `json:"run"`
	Attempt int           `json:"attempt"`
	Subject order.Subject `json:"subject"`
	Step    holdStep      `json:"step"`
	Boot    string        `json:"boot"`   // id of the boot in which the step was taken
	Before  before        `json:"before"` // of the machine
	Opened  apt.Opened    `json:"opened,omitzero"`
	Set     apt.Set       `json:"set,omitzero"`
	Added   []string      `json:"added,omitempty"`   // packages that were not there; known from holdSelecting on
	Reboots int           `json:"reboots,omitempty"` // into the kernel of before
	Since   time.Time     `json:"since"`
	Dirty   string        `json:"dirty,omitempty"` // why all could not be put back
}

// before is what there was.
type before struct {
	Kernel   string             `json:"kernel"` // uname -r
	Default  bootloader.Default `json:"default"`
	Packages map[string]string  `json:"packages"` // versions, by name
	Auto     []string           `json:"auto,omitempty"`
	Replaced apt.Packages       `json:"replaced,omitempty"` // those of the set that were there in another version
}

type holdStep string

const (
	holdNoted      holdStep = "noted"      // what there was is written down; from here on files of apt's may be ours
	holdInstalling holdStep = "installing" // apt installs the set
	holdSelecting  holdStep = "selecting"  // it is there; the boot loader is being told
	holdSelected   holdStep = "selected"   // it is the default; the machine goes down in Boot
	holdProved     holdStep = "proved"     // the machine runs it
	holdGoingBack  holdStep = "going-back" // the kernel of before is the default; the machine goes down in Boot
	holdRestoring  holdStep = "restoring"  // packages and files are being put back
)

const holdingFile = "subject.json"

// keptDir holds packages that were replaced, to be put back.
const keptDir = "replaced"

func (a *Agent) holdingPath() string { return filepath.Join(a.opts.Dir, holdingFile) }

// loadHolding reads what was done to the machine. What is damaged is taken for the worst: nobody knows what the machine is then.
func (a *Agent) loadHolding() {
	if !exists(a.holdingPath()) {
		return
	}
	var h holding
	if err := readJSON(a.holdingPath(), &h); err != nil {
		a.opts.Log.Error("the record of what was done to this machine for a subject cannot be read", "error", err)
		h = holding{Step: holdRestoring, Since: a.now(), Subject: order.Subject{Restore: true},
			Dirty: "the record of what was there before the last subject was damaged: " + err.Error()}
	}
	a.held = &h
	a.dirtyTrouble()
}

// hold stores a step, durably, before it is taken.
func (a *Agent) hold(h holding) error {
	h.Boot = a.bootID
	if err := writeJSON(a.holdingPath(), h, 0o600); err != nil {
		return err
	}
	a.mu.Lock()
	a.held = &h
	a.dirtyTrouble()
	a.notify()
	a.mu.Unlock()
	return nil
}

// letGo forgets what was done to the machine.
func (a *Agent) letGo() error {
	if err := removeAll(filepath.Join(a.opts.Dir, keptDir), a.holdingPath()); err != nil {
		return err
	}
	a.mu.Lock()
	a.held = nil
	a.dirtyTrouble()
	a.notify()
	a.mu.Unlock()
	return nil
}

// holding returns what was done to the machine for this attempt; nil: nothing yet.
func (t *attempt) holding() *holding {
	rec := t.rec()
	t.agent.mu.Lock()
	defer t.agent.mu.Unlock()
	if h := t.agent.held; h != nil && h.Run == rec.Run.Run && h.Attempt == rec.Run.Attempt {
		copied := *h
		return &copied
	}
	return nil
}

// dirtyTrouble has a person see to a machine that could not be put back. a.mu must be held, or nobody else be there yet.
func (a *Agent) dirtyTrouble() {
	delete(a.problems, "dirty")
	if a.held != nil && a.held.Dirty != "" {
		a.problems["dirty"] = fmt.Sprintf("this machine is dirty and takes no runs: %s (it is tried again every hour; see to it, then run `certlab-agent clean` on the machine)", a.held.Dirty)
	}
}

// told is what the controller is told of a holding: of which run a subject is being taken off, and why it could not be. a.mu must be held.
func (h *holding) told() (restoring, dirty string) {
	if h == nil || !h.Subject.Restore {
		return "", ""
	}
	if h.Dirty != "" {
		return "", h.Dirty
	}
	return h.Run, ""
}

// testedIn is s with jobs having run in the boot with this id.
func testedIn(s *order.SubjectState, boot string) *order.SubjectState {
	if s == nil {
		return nil
	}
	c := *s
	c.Boots = slices.Clone(s.Boots)
	for i := range c.Boots {
		if c.Boots[i].ID == boot {
			c.Boots[i].Tests = true
		}
	}
	return &c
}
