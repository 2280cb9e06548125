package juju

// A Context is one run of a hook, an action or an exec script: what its hook tools may see, and what they have written and not
// yet made visible.
type Context struct{}
