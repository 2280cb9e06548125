package main

import "certlab/internal/juju"

type jujuState = juju.State
