package order

// Held is what an agent still knows: POST /agent/v1/held, whenever a Poll names an epoch that is not the one that the agent has
// answered last. A controller that was restored from an older backup learns so what it has lost since.
type Held struct {
	Epoch string    `json:"epoch"` // as in the Poll
	Runs  []HeldRun `json:"runs"`
}

// HeldRun is a run that the agent knows: going on, waiting to be delivered, or delivered and not forgotten yet.
type HeldRun struct {
	Run       string `json:"run"`
	Attempt   int    `json:"attempt"`
	Delivered bool   `json:"delivered"`       // a controller has acknowledged all of it
	Files     []File `json:"files,omitempty"` // those whose bytes are still on the machine
	Whole     bool   `json:"whole,omitempty"` // they are all there were: a run may end without a file
}

// HeldAck answers Held. The agent notes, so that it survives, that the runs in Again are not delivered, and then the epoch as answered.
type HeldAck struct {
	Again []string `json:"again,omitempty"` // runs to deliver again from the start: report, files, finish
}
