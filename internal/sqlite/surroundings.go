package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"certlab/internal/cert"
)

// Surroundings are what the lab knew of a machine when its submission came in and what the archive does not say. They are kept with its system
// information, so that a later comparison sees what was so then, not what is now.
type Surroundings struct {
	Firmware string            `json:"firmware,omitempty"`
	Hardware map[string]string `json:"hardware,omitempty"`
	Manifest map[string]string `json:"manifest,omitempty"`
}

// SideFacts are what comparing needs of what a submission says of its machine, and of what the lab knew. They are apart from all the rest that it says,
// which is large.
type SideFacts struct {
	Kernel    string            `json:"kernel"`
	Cmdline   string            `json:"kernel_cmdline"`
	Processor map[string]string `json:"processor"`
	Memory    *struct {
		Total int64 `json:"total"`
	} `json:"memory"`
	Lab *Surroundings `json:"lab"`
}

// factsOf makes the facts of a submission's system information. Read again, what the lab knew stays as it was at first.
func factsOf(ctx context.Context, tx *sql.Tx, seq int64, system []byte) (string, error) {
	var before, machine string
	if err := tx.QueryRowContext(ctx, "SELECT facts, machine FROM submissions WHERE seq = ?", seq).Scan(&before, &machine); err != nil {
		return "", fmt.Errorf("cannot read the submission: %w", err)
	}
	var now, old SideFacts
	if len(system) > 0 {
		if err := json.Unmarshal(system, &now); err != nil {
			return "", fmt.Errorf("cannot read the system information: %w", err)
		}
	}
	if before != "" {
		if err := json.Unmarshal([]byte(before), &old); err != nil {
			return "", fmt.Errorf("cannot read what is kept of the machine: %w", err)
		}
	}
	now.Lab = old.Lab
	if now.Lab == nil {
		s, err := surroundings(ctx, tx, machine)
		if err != nil {
			return "", err
		}
		now.Lab = &s
	}
	return mustJSON(now), nil
}

func surroundings(ctx context.Context, tx *sql.Tx, machine string) (s Surroundings, err error) {
	var text sql.NullString
	err = tx.QueryRowContext(ctx, "SELECT hardware FROM fleet WHERE machine = ?", machine).Scan(&text)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return s, fmt.Errorf("cannot read a machine's hardware: %w", err)
	}
	if text.String != "" {
		var h cert.Hardware
		if err := json.Unmarshal([]byte(text.String), &h); err != nil {
			return s, fmt.Errorf("cannot read a machine's hardware: %w", err)
		}
		s.Firmware = strings.TrimSpace(h.FirmwareVersion + " " + h.FirmwareDate)
		s.Hardware = map[string]string{}
		for name, value := range map[string]string{"vendor": h.Vendor, "product": h.Product, "version": h.Version, "serial": h.Serial, "cpu": h.CPU,
			"gpus": strings.Join(h.GPUs, "; "), "nics": strings.Join(h.NICs, "; ")} {
			if value != "" {
				s.Hardware[name] = value
			}
		}
	}
	d, err := dossier(ctx, tx, machine)
	if err != nil {
		return s, err
	}
	s.Manifest = d.Manifest
	return s, nil
}

// reviewAgain has what a run's results mean for a campaign looked at once more: they are read for the first time, or in another way. A verdict stays:
// how results from before it are read now does not matter to it.
func reviewAgain(ctx context.Context, tx *sql.Tx, seq int64, run string) error {
	if _, err := tx.ExecContext(ctx, `UPDATE tries SET reviewed = 0 WHERE run = ? AND reviewed = 1 AND (campaign IN (SELECT id FROM campaigns WHERE `+openCampaigns+`)
		OR (SELECT index_version FROM submissions WHERE seq = ?) = 0)`, run, seq); err != nil {
		return fmt.Errorf("cannot have results compared: %w", err)
	}
	return nil
}
