package cert

// Closed reports whether the run takes no more files: it is over, and its agent has said which it has. A run that the controller gave up
// ("lost") without its agent is not.
func (run *Run) Closed() bool {
	return run.State.Final() && !run.cancelledUnseen() && !run.Presumed()
}
