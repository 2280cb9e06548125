package maas

import (
	"context"
	"io"

	"certlab/internal/cert"
	gomaas "github.com/canonical/gomaasclient/client"
	"gopkg.in/mgo.v2/bson"
)

// Hardware reads what commissioning has found and no list tells: the output of lshw.
func (p *Provider) Hardware(ctx context.Context, id string) (cert.Hardware, error) {
	ctx, cancel := p.within(ctx, p.limits.Long)
	defer cancel()
	doing := "read the hardware of " + p.name(id)
	if !identifier.MatchString(id) {
		return cert.Hardware{}, cert.ProviderErrorf(cert.ProviderInvalid, "cannot %s: that is no system id of MAAS", doing)
	}
	var document []byte
	err := p.do(ctx, call{
		op: "details", doing: doing, long: true, limit: maxFile,
		into: func(r io.Reader) (err error) { document, err = details(r); return err },
		ask: func(api gomaas.APIClient) error {
			_, err := api.GetSubObject("machines").GetSubObject(id).CallGet("details", nil)
			return err
		},
	})
	if err != nil {
		return cert.Hardware{}, err
	}
	h := cert.Hardware{}
	if len(document) > 0 {
		if h, err = parseLshw(document); err != nil {
			return cert.Hardware{}, cert.ProviderErrorf(cert.ProviderBroken, "cannot %s: what lshw has printed cannot be read: %s (commission it again)", doing, plain(err.Error()))
		}
	}
	h.Read = p.config.Now()
	return h, nil
}

// details returns lshw's part of MAAS's BSON document; nothing if the machine was never commissioned.
func details(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	var found struct {
		LSHW []byte `bson:"lshw"`
	}
	if err := bson.Unmarshal(data, &found); err != nil {
		return nil, &answerError{"it is no BSON: " + err.Error()}
	}
	return found.LSHW, nil
}
