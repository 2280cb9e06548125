package hooks

import (
	"context"
	"encoding/json"
)

// Config reads the application's options into *target, a struct whose fields have tags such as `config:"port"` and are of type string,
// int, int64, float64, bool or SecretID, or pointers to those. An option without a default that nobody has set gives the zero
// value or nil. An option without a field, a field without an option, and a value of another type are errors that name the
// option: charm and charmcraft.yaml do not fit. Whether a value makes sense is for the charm to say, with Blocked.
func (u *Unit) Config(ctx context.Context, target any) error {
	if u.config == nil {
		config := make(map[string]json.RawMessage)
		// --all adds the options that have no value, as null.
		if err := u.read(ctx, &config, "config-get", "--all", "--format", "json"); err != nil {
			return err
		}
		u.config = config
	}
	u.decoded("", target)
	return decodeFields(u.config, target, "config", "option", true)
}
