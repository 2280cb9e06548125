package sqlite

import (
	"sync"

	"certlab/internal/cert"
)

// documents keeps what was last decoded of each machine's documents: they are read far more often than they change, and decoding them is
// most of what reading a machine costs.
type documents struct {
	mu  sync.Mutex
	all map[string]decoded // by machine
}

type decoded struct {
	providedText, hardwareText string
	provided                   *cert.Provided
	hardware                   *cert.Hardware
}

// fill gives a row its documents, of which the texts were read. Rows share them.
func (c *documents) fill(r *FleetRow, provided, hardware string) error {
	c.mu.Lock()
	have, known := c.all[r.Machine.ID]
	c.mu.Unlock()
	if known && have.providedText == provided && have.hardwareText == hardware {
		r.Provided, r.Hardware = have.provided, have.hardware
		return nil
	}
	fresh := decoded{providedText: provided, hardwareText: hardware}
	if err := (jsonColumn{&fresh.provided}).Scan(provided); err != nil {
		return err
	}
	if err := (jsonColumn{&fresh.hardware}).Scan(hardware); err != nil {
		return err
	}
	r.Provided, r.Hardware = fresh.provided, fresh.hardware
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = make(map[string]decoded)
	}
	c.all[r.Machine.ID] = fresh
	return nil
}
