package cert

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Bounds of a dossier.
const (
	maxDossierLine  = 200   // bytes of rack, position, contact
	maxDossierNotes = 10000 // bytes
	maxDossierItems = 1000  // abilities, entries, variables
	maxShared       = 50
)

var (
	cidPattern      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	abilityPattern  = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)
	manifestPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*::[A-Za-z0-9_][A-Za-z0-9_./-]*$`)
	sharedPattern   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	secureIDPattern = regexp.MustCompile(`^[A-Za-z0-9]{15}([A-Za-z0-9]{0,49})$`)
)

// HasManifest reports whether the dossier has any of Checkbox's manifest entries. Without one, jobs that ask for an entry are not run.
func (d Dossier) HasManifest() bool { return len(d.Manifest) > 0 }

// Tidy returns the dossier without space around its texts, and with its lists and maps there, if empty.
func (d Dossier) Tidy() Dossier {
	for _, text := range []*string{&d.CID, &d.Rack, &d.Position, &d.Contact, &d.Notes} {
		*text = strings.TrimSpace(*text)
	}
	d.Abilities, d.Manifest, d.Environment = there(d.Abilities), there(d.Manifest), there(d.Environment)
	for id, value := range d.Manifest { // spreadsheets write TRUE
		if low := strings.ToLower(value); low != value && (low == "true" || low == "false") {
			d.Manifest = maps.Clone(d.Manifest)
			d.Manifest[id] = low
		}
	}
	d.Shared = append([]string{}, slices.Sorted(slices.Values(d.Shared))...)
	return d
}

// Tidy is Dossier's.
func (z ZoneDossier) Tidy() ZoneDossier {
	z.Environment = there(z.Environment)
	z.Shared = append([]string{}, slices.Sorted(slices.Values(z.Shared))...)
	return z
}

func there[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return m
}

// Validate reports what is wrong with a dossier, as Invalid, in the words of its CSV columns.
func (d Dossier) Validate() error {
	if d.CID != "" && !cidPattern.MatchString(d.CID) {
		return Errorf(Invalid, "cid is %q: it must have letters, digits, . _ or - only, such as 202411-36001", cut(d.CID))
	}
	for name, text := range map[string]string{"rack": d.Rack, "position": d.Position, "contact": d.Contact} {
		if len(text) > maxDossierLine || !printable(text, false) {
			return Errorf(Invalid, "%s must be one line of at most %d bytes", name, maxDossierLine)
		}
	}
	if len(d.Notes) > maxDossierNotes || !printable(d.Notes, true) {
		return Errorf(Invalid, "notes must be text of at most %d bytes", maxDossierNotes)
	}
	if len(d.Abilities) > maxDossierItems || len(d.Manifest) > maxDossierItems {
		return Errorf(Invalid, "there are %d abilities and %d manifest entries: at most %d of each are kept", len(d.Abilities), len(d.Manifest), maxDossierItems)
	}
	for _, name := range slices.Sorted(maps.Keys(d.Abilities)) {
		if !abilityPattern.MatchString(name) {
			return Errorf(Invalid, "%q is no name of an ability: it must have small letters, digits and - only, such as rtc-wake", cut(name))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(d.Manifest)) {
		if len(id) > maxSpecText || !manifestPattern.MatchString(id) {
			return Errorf(Invalid, "%q is no manifest entry: it is named by its full id, such as com.canonical.certification::has_camera", cut(id))
		}
		if value := d.Manifest[id]; value == "" || len(value) > maxSpecText || !printable(value, false) {
			return Errorf(Invalid, "the manifest entry %s is %q: it must be true, false, a number or one line of text", id, cut(value))
		}
	}
	return validateSite(d.Environment, d.Shared)
}

// Validate reports what is wrong with a zone's dossier, as Invalid.
func (z ZoneDossier) Validate() error { return validateSite(z.Environment, z.Shared) }

// validateSite checks what machines and zones have in common.
func validateSite(environment map[string]string, shared []string) error {
	if err := (Spec{Plan: "a::b", Environment: environment}).Validate(); err != nil {
		return err
	}
	if len(shared) > maxShared {
		return Errorf(Invalid, "there are %d shared things: at most %d are kept", len(shared), maxShared)
	}
	for n, name := range shared {
		if !sharedPattern.MatchString(name) {
			return Errorf(Invalid, "%q is no name of a shared thing: it must have letters, digits, . _ or - only, such as iperf-a", cut(name))
		}
		if slices.Contains(shared[:n], name) {
			return Errorf(Invalid, "the shared thing %s is named twice", name)
		}
	}
	return nil
}

// ValidateSecureID reports what is wrong with a secure id, without repeating it.
func ValidateSecureID(secret string) error {
	if secret != "" && !secureIDPattern.MatchString(secret) {
		return Errorf(Invalid, "secure_id must have 15 to 64 letters and digits, as the certification site shows it")
	}
	return nil
}

func printable(text string, lines bool) bool {
	return !strings.ContainsFunc(text, func(r rune) bool {
		return !unicode.IsPrint(r) && (!lines || r != '\n' && r != '\t')
	})
}

// Fields returns what is in the dossier by the names of the CSV's columns. What is not set is not in it.
func (d Dossier) Fields() map[string]string {
	out := map[string]string{"cid": d.CID, "rack": d.Rack, "position": d.Position, "contact": d.Contact, "notes": d.Notes}
	for name, can := range d.Abilities {
		out[abilityColumn+name] = strconv.FormatBool(can)
	}
	for id, value := range d.Manifest {
		out[manifestColumn+id] = value
	}
	addSite(out, d.Environment, d.Shared)
	return out
}

// Fields is Dossier's.
func (z ZoneDossier) Fields() map[string]string {
	out := map[string]string{}
	addSite(out, z.Environment, z.Shared)
	return out
}

func addSite(out map[string]string, environment map[string]string, shared []string) {
	for name, value := range environment {
		out[environmentColumn+name] = value
	}
	out["shared"] = strings.Join(slices.Sorted(slices.Values(shared)), " ")
	maps.DeleteFunc(out, func(_, value string) bool { return value == "" })
}

// Changes lists the fields that differ, in the order of their names.
func Changes(before, after map[string]string) []DossierChange {
	names := maps.Clone(before)
	maps.Copy(names, after)
	var out []DossierChange
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if before[name] != after[name] {
			out = append(out, DossierChange{Field: name, Before: before[name], After: after[name]})
		}
	}
	return out
}

// SiteEnvironment is what a run finds in its environment because of where it runs: the machine's own goes before its zone's.
func SiteEnvironment(d Dossier, z ZoneDossier) map[string]string {
	if len(d.Environment)+len(z.Environment) == 0 {
		return nil
	}
	out := map[string]string{}
	maps.Copy(out, z.Environment)
	maps.Copy(out, d.Environment)
	return out
}

// SharedBy are the things that a run on the machine has for itself while it is going on, in the order of their names.
func SharedBy(d Dossier, z ZoneDossier) []string {
	all := slices.Sorted(slices.Values(append(slices.Clone(d.Shared), z.Shared...)))
	return slices.Compact(all)
}
