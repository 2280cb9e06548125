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

// withSurroundings adds to a submission's system information what is kept with it. Read again, it keeps what was known at first.
func withSurroundings(ctx context.Context, tx *sql.Tx, seq int64, system string) (string, error) {
	if !strings.HasPrefix(system, "{") {
		return system, nil
	}
	var kept sql.NullString
	var machine string
	if err := tx.QueryRowContext(ctx, "SELECT CASE WHEN json_valid(system) THEN system ->> '$.lab' END, machine FROM submissions WHERE seq = ?", seq).Scan(&kept, &machine); err != nil {
		return "", fmt.Errorf("cannot read the submission: %w", err)
	}
	if !kept.Valid {
		now, err := surroundings(ctx, tx, machine)
		if err != nil {
			return "", err
		}
		kept.String = mustJSON(now)
	}
	rest := strings.TrimPrefix(system, "{")
	if strings.TrimSpace(rest) == "}" {
		return `{"lab":` + kept.String + "}", nil
	}
	return `{"lab":` + kept.String + "," + rest, nil
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
