package cert

import "time"

// A Dossier is what the lab knows of a machine and no API tells.
type Dossier struct {
	Machine     string            `json:"machine"`       // id
	Hostname    string            `json:"hostname"`      //
	CID         string            `json:"cid"`           // certification id, such as 202411-36001
	SecureIDSet bool              `json:"secure_id_set"` // the secure id itself is a secret: it is written and used, and not shown
	Rack        string            `json:"rack"`
	Position    string            `json:"position"`  // in the rack, such as U12
	Abilities   map[string]bool   `json:"abilities"` // display, bmc, rtc-wake, suspend, …; missing: not known
	Manifest    map[string]string `json:"manifest"`  // Checkbox's entries: full id → true, false, a number or text
	Environment map[string]string `json:"environment"`
	Shared      []string          `json:"shared"` // things that one run at a time may use, by name, such as iperf-a
	Contact     string            `json:"contact"`
	Notes       string            `json:"notes"`
	Version     int64             `json:"version"` // grows with each change; a change names the one that it began with
	Updated     *time.Time        `json:"updated"`
	UpdatedBy   string            `json:"updated_by"`
}

// A ZoneDossier is what holds for all machines of a zone.
type ZoneDossier struct {
	Zone        string            `json:"zone"`
	Environment map[string]string `json:"environment"`
	Shared      []string          `json:"shared"`
	Version     int64             `json:"version"`
	Updated     *time.Time        `json:"updated"`
	UpdatedBy   string            `json:"updated_by"`
}

// DossierChange is one field that an import or an edit has changed. A secret's values are not told.
type DossierChange struct {
	Machine  string `json:"machine"`
	Hostname string `json:"hostname"`
	Field    string `json:"field"`
	Before   string `json:"before"`
	After    string `json:"after"`
}

// DossierImport answers POST /api/v1/dossiers.
type DossierImport struct {
	Lines   int             `json:"lines"`   // about a machine
	Changed int             `json:"changed"` // machines whose dossier is now, or would be, another
	DryRun  bool            `json:"dry_run"` // nothing was stored
	Changes []DossierChange `json:"changes"` // machine by machine, in the order of the lines
}

// LoggedChange is a change in a dossier's history.
type LoggedChange struct {
	Seq int64     `json:"seq"`
	At  time.Time `json:"at"`
	Who string    `json:"who"` // token name
	DossierChange
	Zone string `json:"zone,omitempty"` // of a zone's dossier; Machine is empty then
}

// DossierHistory answers GET /api/v1/machines/{machine}/dossier/history and the same of a zone, the newest first.
type DossierHistory struct {
	Changes []LoggedChange `json:"changes"`
	Next    string         `json:"next"`
}

// NewSecureID is the body of PUT /api/v1/machines/{machine}/dossier/secure-id. Empty: it has none any more.
type NewSecureID struct {
	SecureID string `json:"secure_id"`
}
