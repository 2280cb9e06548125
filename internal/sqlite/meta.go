package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Names of what the database knows of itself.
const (
	metaEpoch   = "epoch"
	MetaScrub   = "scrub"   // how far the check of files has come
	MetaClock   = "clock"   // what retention believes of the clock
	MetaIndexer = "indexer" // version of the reader that all submissions have been offered to
	MetaLostLog = "log"     // transactions that a damaged write-ahead log has cost
	metaLab     = "lab"     // what this lab calls itself at its provider
	MetaContact = "contact" // when the provider last answered while something was under way
)

// An Epoch names the data from one jump back in time (a restore, a repair) to the next.
type Epoch struct {
	ID    string    `json:"id"`
	Since time.Time `json:"since"`
	Cause string    `json:"cause"` // new, restore, repair or log
}

// makeEpoch gives a database that has none its first epoch.
func (db *DB) makeEpoch(ctx context.Context) error {
	e, err := db.Epoch(ctx)
	if err != nil || e.ID != "" {
		return err
	}
	err = db.NewEpoch(ctx, "new", time.Now())
	if Full(err) {
		return nil // reading goes on
	}
	return err
}

// losses says what each cause of an epoch may have cost a campaign that is not final. Results come again from agents; what persons decided does not.
var losses = map[string]string{
	"restore": "the controller was restored from a backup, and what was decided since that was made is lost",
	"repair":  "the controller's database was repaired, and what was decided may be lost",
	"log":     "the end of the database's log was damaged, and what was decided last may be lost",
}

// NewEpoch begins an epoch: agents will say what they hold. Of campaigns that are not final it is noted that something may be lost that nobody delivers
// again, such as that a person has rejected a machine: the policy does not approve them any more.
func (db *DB) NewEpoch(ctx context.Context, cause string, now time.Time) error {
	text, err := json.Marshal(Epoch{ID: rand.Text(), Since: now.UTC(), Cause: cause})
	if err != nil {
		return fmt.Errorf("cannot begin an epoch: %w", err)
	}
	return db.write(ctx, func(tx *sql.Tx) error {
		if loss := losses[cause]; loss != "" {
			if _, err := tx.ExecContext(ctx, "UPDATE campaigns SET changed = changed + 1, data = json_set(data, '$.unsure', ?) WHERE "+openCampaigns,
				fmt.Sprintf("%s (%s)", loss, now.UTC().Format("2006-01-02 15:04 UTC"))); err != nil {
				return fmt.Errorf("cannot note what campaigns may have lost: %w", err)
			}
		}
		return setMeta(ctx, tx, metaEpoch, string(text))
	})
}

// Epoch returns the epoch; one without an ID if there is none.
func (db *DB) Epoch(ctx context.Context) (e Epoch, err error) {
	_, err = db.Meta(ctx, metaEpoch, &e)
	return e, err
}

// Meta reads a value into out. It returns false, and leaves out alone, if there is none.
func (db *DB) Meta(ctx context.Context, name string, out any) (bool, error) {
	const text = "SELECT value FROM meta WHERE name = ?"
	err := db.r.QueryRowContext(ctx, text, name).Scan(jsonColumn{out})
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, db.note("table meta", fmt.Errorf("cannot read %s: %w", name, err))
	}
	return true, nil
}

// SetMeta stores a value.
func (db *DB) SetMeta(ctx context.Context, name string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("cannot store %s: %w", name, err)
	}
	return db.write(ctx, func(tx *sql.Tx) error { return setMeta(ctx, tx, name, string(text)) })
}

func setMeta(ctx context.Context, tx *sql.Tx, name, text string) error {
	if _, err := tx.ExecContext(ctx, "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", name, text); err != nil {
		return fmt.Errorf("cannot store %s: %w", name, err)
	}
	return nil
}

// A LostLog is what a write-ahead log that was damaged on disk has cost. See openlog.go.
type LostLog struct {
	Found        time.Time `json:"found"`
	Transactions int       `json:"transactions"` // at most
	Kept         string    `json:"kept"`         // where the damaged log is kept
}
