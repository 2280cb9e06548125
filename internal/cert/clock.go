package cert

import "time"

// maxSkew is how far a machine's clock may be from the controller's before anything is made of it: less may be the way of a request.
const maxSkew = time.Minute

// Skewed reports whether a clock that is off by skew is wrong.
func Skewed(skew time.Duration) bool { return skew.Abs() > maxSkew }

// Corrected returns the report in the controller's time, for a machine whose clock is ahead by skew. Times that are in the future all the
// same are the present. The controller's own times, of when it received what, are never the machine's.
func (r Report) Corrected(skew time.Duration, now time.Time) Report {
	r.Created, r.Started = correct(r.Created, skew, now), correct(r.Started, skew, now)
	interruptions := make([]Interruption, len(r.Interruptions))
	for n, i := range r.Interruptions {
		i.At = correct(i.At, skew, now)
		interruptions[n] = i
	}
	r.Interruptions = interruptions
	return r
}

// Corrected is Report's, and for the end too.
func (f Finish) Corrected(skew time.Duration, now time.Time) Finish {
	f.Report, f.Finished = f.Report.Corrected(skew, now), correct(f.Finished, skew, now)
	return f
}

func correct(t time.Time, skew time.Duration, now time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	if Skewed(skew) {
		t = t.Add(-skew)
	}
	if t.After(now) {
		return now
	}
	return t.UTC()
}
