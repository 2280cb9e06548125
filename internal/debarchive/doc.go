// Package debarchive makes small apt archives: packages, their indexes, and a Release that is signed with a key of its own. It is for
// the local lab and for tests, which need a real apt to install real packages that nobody has published. Only what apt and dpkg look at
// is there; a kernel of such an archive is a few lines of text under the names that a kernel's files have.
package debarchive
