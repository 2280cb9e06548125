// Package checkbox knows how to work with Checkbox: where it comes from, what each of its versions can do, how it is told what to
// run, what its session directory and its console say while it runs, and how an interrupted session goes on.
//
// It starts no test run itself: it says which command, with which files and environment, would, and reads what came of it.
//
// What is stated here about Checkbox was measured on 1.18.1, 1.19.0, 2.9.1, 3.3.0, 5.0.0, 7.3.0 and a development version of
// August 2026, or read in canonical/checkbox.
package checkbox
