package judge

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"certlab/internal/cert"
)

// Seal makes a decision the next entry of the log after prev, or the first one if that is nil.
func Seal(prev *cert.Decision, d cert.Decision) cert.Decision {
	d.Seq, d.Prev = 1, ""
	if prev != nil {
		d.Seq, d.Prev = prev.Seq+1, prev.Hash
	}
	d.At = d.At.UTC().Round(0)
	if d.Until != nil {
		until := d.Until.UTC().Round(0)
		d.Until = &until
	}
	d.Hash = HashDecision(d)
	return d
}

// HashDecision is the hash that an entry has to have: over its JSON with an empty hash, the hash of the entry before among it.
func HashDecision(d cert.Decision) string {
	d.Hash = ""
	return digest(d)
}

// VerifyChain checks that entries follow prev, or are the first if that is nil, without gaps and unaltered.
func VerifyChain(prev *cert.Decision, next []cert.Decision) error {
	for n := range next {
		d := &next[n]
		seq, hash := int64(1), ""
		if prev != nil {
			seq, hash = prev.Seq+1, prev.Hash
		}
		switch {
		case d.Seq != seq:
			return cert.Errorf(cert.Conflict, "the log of decisions is broken: number %d follows where number %d has to be (restore it from a backup, and find out who changed it)", d.Seq, seq)
		case d.Prev != hash:
			return cert.Errorf(cert.Conflict, "the log of decisions is broken: number %d does not follow from the one before (one of the two was changed; restore it from a backup)", d.Seq)
		case d.Hash != HashDecision(*d):
			return cert.Errorf(cert.Conflict, "the log of decisions is broken: number %d was changed after it was written (restore it from a backup)", d.Seq)
		}
		prev = d
	}
	return nil
}

// DigestVerdict is the digest that a verdict has to have: over its JSON with an empty digest.
func DigestVerdict(v cert.Verdict) string {
	v.Digest = ""
	return digest(v)
}

func digest(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("cannot marshal %T: %v", v, err)) // the types hold nothing that cannot be
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
