package review

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// maxPolicy bounds a policy's text, in bytes.
const maxPolicy = 256 << 10

var policyName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// ours returns the default policy of a kind, as if it were stored: under the kind's name, as version 0, until a site has one of that name.
func ours(kind string) cert.StoredPolicy {
	return cert.StoredPolicy{PolicyRef: cert.PolicyRef{Name: kind}, Policy: cert.DefaultPolicy(cert.CampaignKind(kind)), Default: true, By: "certlab"}
}

// Policies returns the newest version of each policy: the site's, and our default of each kind for which the site has none.
func (r *Review) Policies(ctx context.Context) (cert.PolicyList, error) {
	all, err := r.DB.Policies(ctx)
	if err != nil {
		return cert.PolicyList{}, err
	}
	for _, kind := range cert.CampaignKinds {
		if !slices.ContainsFunc(all, func(p cert.StoredPolicy) bool { return p.Name == kind }) {
			all = append(all, ours(kind))
		}
	}
	slices.SortFunc(all, func(a, b cert.StoredPolicy) int { return strings.Compare(a.Name, b.Name) })
	return cert.PolicyList{Policies: all}, nil
}

// Policy returns a policy by its name, or by name@version. Version 0 of a kind's name is our default.
func (r *Review) Policy(ctx context.Context, ref string) (cert.StoredPolicy, error) {
	name, version, versioned := strings.Cut(ref, "@")
	number := 0
	if versioned {
		var err error
		if number, err = strconv.Atoi(version); err != nil || number < 0 {
			return cert.StoredPolicy{}, cert.Errorf(cert.Invalid, "cannot find policy %q: a version is a number, such as %s@1", ref, name)
		}
		if number == 0 && slices.Contains(cert.CampaignKinds, name) {
			return ours(name), nil
		}
		if number == 0 {
			return cert.StoredPolicy{}, cert.Errorf(cert.NotFound, "there is no policy %q", ref)
		}
	}
	p, err := r.DB.Policy(ctx, name, number)
	if cert.CodeOf(err) == cert.NotFound && !versioned && slices.Contains(cert.CampaignKinds, name) {
		return ours(name), nil
	}
	return p, err
}

// SavePolicy takes a policy in, as a new version. The same text again is the version that there is.
func (r *Review) SavePolicy(ctx context.Context, name string, text []byte, by string) (cert.StoredPolicy, error) {
	if !policyName.MatchString(name) {
		return cert.StoredPolicy{}, cert.Errorf(cert.Invalid, "cannot name a policy %q: use up to 64 small letters, digits, dots, hyphens and underscores, such as sru-strict", name)
	}
	if len(text) > maxPolicy {
		return cert.StoredPolicy{}, cert.Errorf(cert.Invalid, "cannot take policy %s: it has %d bytes, at most %d are allowed", name, len(text), maxPolicy)
	}
	p, err := cert.ParsePolicy(text)
	if err != nil {
		return cert.StoredPolicy{}, err
	}
	if slices.Contains(cert.CampaignKinds, name) && string(p.Kind) != name {
		return cert.StoredPolicy{}, cert.Errorf(cert.Invalid, "cannot store a policy of kind %s as %s: that is the name of what campaigns of kind %s follow (choose another name)", p.Kind, name, name)
	}
	stored := cert.StoredPolicy{PolicyRef: cert.PolicyRef{Name: name}, Policy: p, Text: string(text), At: r.Now(), By: by}
	err = r.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error {
		last, err := tx.LastPolicy(name)
		switch {
		case err == nil && last.Text == stored.Text:
			stored = last
			return nil
		case err != nil && cert.CodeOf(err) != cert.NotFound:
			return err
		}
		stored, err = tx.AddPolicy(stored)
		return err
	})
	return stored, err
}
