package cert

import "crypto/sha256"

// MaxRepeats bounds how often this lab does again by itself what an incident has spoilt.
const MaxRepeats = 2

// RepeatID returns the id of what repeats something: always the same one, so that nothing is repeated twice, whenever whoever does it is killed.
// It sorts by the time of the first.
func RepeatID(id string) string {
	const kept = 11 // the prefix and the time
	sum := sha256.Sum256([]byte("repeat " + id))
	out := []byte(id)
	for n := kept; n < len(out); n++ {
		out[n] = idAlphabet[sum[n]&31]
	}
	return string(out)
}

// Spoilt returns the incident for which a run is to be done again: it overlaps the run's last attempt, and the run is over and has not gone well.
// Empty: it is not to be repeated. What a person has cancelled never is.
func (run *Run) Spoilt() string {
	last := run.attempt()
	if last == nil || last.Suspect == "" || run.Origin != FromOrder || run.CancelRequested || run.State != Completed && run.State != Failed {
		return ""
	}
	if bad := run.Counts["fail"] + run.Counts["crash"] + run.Counts[OutcomeLost]; run.State == Completed && bad == 0 && len(last.MachineLost) == 0 {
		return ""
	}
	return last.Suspect
}
