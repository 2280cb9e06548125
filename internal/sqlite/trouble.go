package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	driver "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"certlab/internal/cert"
	"certlab/internal/durable"
)

// Damage is what is known of a database that SQLite has found malformed. It is kept in a file beside the database, so that a restart
// does not forget it.
type Damage struct {
	Found time.Time `json:"found"`
	Where []string  `json:"where"` // what was read when it was found: tables, indexes, pages
	// Located says that this process has looked at the whole database since.
	Located bool `json:"-"`
}

func (d Damage) String() string {
	where := d.Where
	more := ""
	if len(where) > 3 {
		where, more = where[:3], fmt.Sprintf(" and %d more", len(d.Where)-3)
	}
	return strings.Join(where, "; ") + more
}

// DamageName is the name of that file, after the database's.
const DamageName = ".damaged"

// A fault is an error of the storage below the database, in words for whoever asked.
type fault struct {
	known *cert.Error
	err   error
}

func (f *fault) Error() string   { return f.known.Message + ": " + f.err.Error() }
func (f *fault) Unwrap() []error { return []error{f.known, f.err} }

// Damaged reports whether SQLite says that the database's file is malformed.
func Damaged(err error) bool {
	var e *driver.Error
	return errors.As(err, &e) && (e.Code()&0xff == lib.SQLITE_CORRUPT || e.Code()&0xff == lib.SQLITE_NOTADB)
}

// Full reports whether err says that there is no room.
func Full(err error) bool {
	var e *driver.Error
	if errors.As(err, &e) {
		switch e.Code() {
		case lib.SQLITE_FULL, lib.SQLITE_IOERR_SHMSIZE:
			return true
		}
	}
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// readOnly reports whether err says that the file system cannot be written to.
func readOnly(err error) bool {
	var e *driver.Error
	return errors.As(err, &e) && e.Code()&0xff == lib.SQLITE_READONLY || errors.Is(err, syscall.EROFS)
}

// Words for whoever asked. What to do is for the operator, who sees it in the unit's status too.
const (
	repairHint  = "repair it with certlabd repair, or restore a backup"
	fullText    = "cannot store this: the controller's disk is full; it will be taken when there is room"
	frozenText  = "the controller's storage is read-only: see its disk and its kernel's log"
	failingText = "the controller's disk cannot be read or written: see its kernel's log"
	damagedText = "the controller's database is damaged: nothing is written until an admin repairs it"
)

// note looks at an error of SQLite, remembers what it says about the storage, and returns it in words for whoever asked. where is what
// was read or written.
func (db *DB) note(where string, err error) error {
	var known *fault
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case Damaged(err):
		db.setDamage(Damage{Found: time.Now().UTC(), Where: []string{where + ": " + err.Error()}})
		return &fault{cert.Errorf(cert.Unavailable, "%s", damagedText), err}
	case Full(err):
		if !db.full.Swap(true) { // said when it begins, not with each write that fails
			db.troubled()
		}
		return &fault{cert.Errorf(cert.NoSpace, "%s", fullText), err}
	case readOnly(err) && where == "writing":
		if !db.frozen.Swap(true) {
			db.troubled()
		}
		return &fault{cert.Errorf(cert.Unavailable, "%s", frozenText), err}
	case failing(err):
		return &fault{cert.Errorf(cert.Unavailable, "%s", failingText), err}
	}
	return err
}

// failing reports whether err says that the disk could not be read or written.
func failing(err error) bool {
	var e *driver.Error
	return errors.As(err, &e) && e.Code()&0xff == lib.SQLITE_IOERR || errors.Is(err, syscall.EIO)
}

// setDamage keeps the first damage that is found, unless d is a later and closer look.
func (db *DB) setDamage(d Damage) {
	if !db.damage.CompareAndSwap(nil, &d) {
		return
	}
	db.keepDamage(d)
	db.troubled()
}

func (db *DB) keepDamage(d Damage) {
	text, err := json.Marshal(d)
	if err == nil {
		// Where this fails, a restart has to find the damage again.
		_ = durable.WriteFile(db.path+DamageName, text, 0o600)
	}
}

// loadDamage reads what an earlier process has found.
func (db *DB) loadDamage() error {
	text, err := os.ReadFile(db.path + DamageName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot open database %s: %w", db.path, err)
	}
	var d Damage
	if err := json.Unmarshal(text, &d); err != nil {
		d = Damage{Found: time.Now().UTC(), Where: []string{"found by an earlier process"}}
	}
	db.damage.Store(&d)
	return nil
}

// Trouble returns what is wrong with the storage as far as it has been noticed.
func (db *DB) Trouble() (damage *Damage, full, frozen bool) {
	return db.damage.Load(), db.full.Load(), db.frozen.Load()
}

// OnTrouble has fn called whenever trouble is noticed or over. It is set before the database is used.
func (db *DB) OnTrouble(fn func()) { db.onTrouble = fn }

func (db *DB) troubled() {
	if db.onTrouble != nil {
		db.onTrouble()
	}
}

// Refuse makes every write fail as Unavailable with this message, and waits for the write under way; "" takes writes again.
func (db *DB) Refuse(why string) {
	db.gate.Lock()
	defer db.gate.Unlock()
	db.refusal = why
}

// Writable fails as a write would now: refused, or on a database that is known to be damaged.
func (db *DB) Writable() error {
	db.gate.RLock()
	defer db.gate.RUnlock()
	return db.writable()
}

func (db *DB) writable() error {
	if db.refusal != "" {
		return cert.Errorf(cert.Unavailable, "%s", db.refusal)
	}
	if db.damage.Load() != nil {
		return cert.Errorf(cert.Unavailable, "%s", damagedText)
	}
	return nil
}

// Locate reads the whole of a database in which damage was noticed and replaces what is known of it by all that is found. Where
// nothing is found, it was not the file (a faulty cable, a faulty read) and writes are taken again.
func (db *DB) Locate(ctx context.Context) error {
	was := db.damage.Load()
	if was == nil {
		return nil
	}
	problems, err := db.integrity(ctx, 100)
	if err != nil {
		if !Damaged(err) {
			return err
		}
		known := *was
		known.Located = true
		db.damage.Store(&known) // nothing more can be said
		return nil
	}
	if len(problems) == 0 {
		if err := os.Remove(db.path + DamageName); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot forget the damage: %w", err)
		}
		db.damage.Store(nil)
	} else {
		d := Damage{Found: was.Found, Where: problems, Located: true}
		db.damage.Store(&d)
		db.keepDamage(d)
	}
	db.troubled()
	return nil
}
