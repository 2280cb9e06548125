package review

import (
	"bytes"
	"encoding/json"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// entryOf reads an entry of the log of decisions. What is stored has to be what this program would have written: a field that was added, or put in
// another way, is a change too, though the hash of what is read of it would be right.
func entryOf(e sqlite.DecisionEntry) (cert.Decision, error) {
	var d cert.Decision
	bad := cert.Errorf(cert.Conflict, "the log of decisions is broken: number %d was changed after it was written (restore it from a backup)", e.Seq)
	if err := json.Unmarshal([]byte(e.Data), &d); err != nil {
		return d, bad
	}
	again, err := json.Marshal(d)
	if err != nil || !bytes.Equal(again, []byte(e.Data)) || d.Seq != e.Seq || d.Hash != e.Hash {
		return d, bad
	}
	return d, nil
}
