package watch

// LastWords is what a console says most about why a kernel does not come up.
var LastWords = lastWords
