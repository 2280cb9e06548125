package sqlite

// CampaignFilter selects campaigns. Empty fields select all.
type CampaignFilter struct {
	State   string // or "open": those that are not final
	Kind    string
	Subject string // see Subject.Key
	Version string // of the subject
	Name    string
}
