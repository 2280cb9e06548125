package sqlite

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"certlab/internal/durable"
)

// SQLite takes the first frame of its write-ahead log with a wrong checksum for the end of the log: what follows is dropped without a
// word. That is right for a transaction that a power cut tore. But each commit is synced before the next begins, so when two or more
// commits follow a bad frame, it was good once: the log was damaged on disk, and acknowledged changes are lost.

const (
	logHeader   = 32
	frameHeader = 24
)

// OpenAlone is Open for a process that nobody else shares the database with. It finds out whether the log was damaged, and notes that.
func OpenAlone(ctx context.Context, path string) (*DB, error) {
	lost, err := keepLog(path, time.Now())
	if err != nil {
		return nil, fmt.Errorf("cannot open database %s: %w", path, err)
	}
	// Opening cuts the log off: until it is noted in the database, a file says that it has to be.
	pending := path + "-wal.lost"
	if lost != nil {
		if err := durable.WriteFile(pending, []byte(mustJSON(lost)), 0o600); err != nil {
			return nil, fmt.Errorf("cannot open database %s: %w", path, err)
		}
	} else if text, err := os.ReadFile(pending); err == nil {
		lost = new(LostLog)
		if json.Unmarshal(text, lost) != nil {
			lost = &LostLog{Found: time.Now().UTC(), Kept: path + "-wal.damaged"}
		}
	}
	db, err := Open(ctx, path)
	if err != nil || lost == nil || db.Writable() != nil {
		return db, err
	}
	if err := db.noteLog(ctx, *lost, time.Now()); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := os.Remove(pending); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open database %s: %w", path, err), db.Close())
	}
	return db, nil
}

// lostCommits returns how many commits of the log at path follow a frame that SQLite will stop at. It reads the log without its lock.
func lostCommits(path string) (int, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	head := make([]byte, logHeader)
	if _, err := io.ReadFull(f, head); err != nil {
		return 0, nil // no log yet
	}
	var order binary.ByteOrder = binary.LittleEndian
	switch binary.BigEndian.Uint32(head) {
	case 0x377f0682:
	case 0x377f0683:
		order = binary.BigEndian
	default:
		return 0, nil // not a log: SQLite begins a new one
	}
	size := int(binary.BigEndian.Uint32(head[8:]))
	if size < 512 || size > 65536 {
		return 0, nil
	}
	salt := string(head[16:24])
	s0, s1 := logSum(order, 0, 0, head[:24])
	frame := make([]byte, frameHeader+size)
	broken, commits := false, 0
	for {
		if _, err := io.ReadFull(f, frame); err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		} else if err != nil {
			return 0, err
		}
		same := string(frame[8:16]) == salt
		if !broken {
			s0, s1 = logSum(order, s0, s1, frame[:8])
			s0, s1 = logSum(order, s0, s1, frame[frameHeader:])
			broken = !same || s0 != binary.BigEndian.Uint32(frame[16:]) || s1 != binary.BigEndian.Uint32(frame[20:])
		}
		// Frames of an earlier round of the log have other salts.
		if broken && same && binary.BigEndian.Uint32(frame[4:]) != 0 {
			commits++
		}
	}
	if commits < 2 {
		return 0, nil
	}
	return commits, nil
}

// logSum is the checksum of SQLite's log (https://sqlite.org/fileformat2.html#checksum_algorithm).
func logSum(order binary.ByteOrder, s0, s1 uint32, data []byte) (uint32, uint32) {
	for n := 0; n+8 <= len(data); n += 8 {
		s0 += order.Uint32(data[n:]) + s1
		s1 += order.Uint32(data[n+4:]) + s0
	}
	return s0, s1
}

// keepLog copies a damaged log aside before SQLite cuts it off.
func keepLog(path string, now time.Time) (*LostLog, error) {
	n, err := lostCommits(path + "-wal")
	if err != nil || n == 0 {
		return nil, err
	}
	kept := path + "-wal.damaged"
	in, err := os.Open(path + "-wal")
	if err != nil {
		return nil, err
	}
	defer in.Close()
	out, err := os.OpenFile(kept, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		return nil, fmt.Errorf("cannot keep the damaged log: %w", err)
	}
	return &LostLog{Found: now.UTC(), Transactions: n, Kept: kept}, nil
}

// noteLog records that changes are lost, and begins an epoch: agents deliver again what they keep.
func (db *DB) noteLog(ctx context.Context, lost LostLog, now time.Time) error {
	if err := db.SetMeta(ctx, MetaLostLog, lost); err != nil {
		return err
	}
	return db.NewEpoch(ctx, "log", now)
}
