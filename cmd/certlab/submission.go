package main

// submissionCmd groups the commands on submissions.
type submissionCmd struct{}
