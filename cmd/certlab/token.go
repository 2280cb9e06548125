package main

import (
	"context"
	"fmt"
	"time"

	"certlab/internal/cert"
)

// tokenCmd groups the commands on tokens.
type tokenCmd struct {
	Create tokenCreateCmd `cmd:"" help:"Create a token for somebody: prints a code that is good once, for certlab login."`
	List   tokenListCmd   `cmd:"" help:"List tokens, the newest first."`
	Revoke tokenRevokeCmd `cmd:"" help:"End a token."`
}

type tokenCreateCmd struct {
	Name        string        `arg:"" help:"Whose it is, or what for."`
	Role        string        `required:"" enum:"viewer,engineer,signer,admin" help:"What its holder may do: ${enum}." placeholder:"ROLE"`
	Expires     time.Duration `help:"How long the token is good, such as 2160h; 0 for ever." placeholder:"TIME"`
	CodeExpires time.Duration `default:"1h" help:"How long the code is good." placeholder:"TIME"`
	formatFlag  `embed:""`
}

func (c *tokenCreateCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	t, err := api.CreateToken(ctx, cert.NewToken{Name: c.Name, Role: c.Role, ExpiresInSeconds: int64(c.Expires / time.Second),
		CodeExpiresInSeconds: int64(c.CodeExpires / time.Second)})
	if err != nil || c.json() {
		return c.write(std, t, err)
	}
	fmt.Fprintf(std.out, "certlab login %s --code %s --fingerprint %s\ngood once, until %s\n", t.URL, t.Code, t.CAFingerprint, timeText(&t.CodeExpires))
	return nil
}

type tokenListCmd struct {
	limitFlag  `embed:""`
	formatFlag `embed:""`
}

func (c *tokenListCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	tokens, err := api.Tokens(ctx, c.Limit)
	if err != nil || c.json() {
		return c.write(std, struct {
			Tokens []cert.Token `json:"tokens"`
		}{tokens}, err)
	}
	now := time.Now()
	var rows [][]string
	for _, t := range tokens {
		state := "good"
		switch {
		case t.Revoked != nil:
			state = "revoked"
		case t.Expires != nil && !now.Before(*t.Expires):
			state = "expired"
		case t.Redeemed == nil && !now.Before(t.CodeExpires):
			state = "code expired"
		case t.Redeemed == nil:
			state = "code not used"
		}
		rows = append(rows, []string{t.Name, string(t.Role), state, timeText(t.LastUsed), timeText(t.Expires), t.ID})
	}
	return table(std.out, []string{"NAME", "ROLE", "STATE", "LAST USED", "EXPIRES", "ID"}, rows)
}

type tokenRevokeCmd struct {
	Token      string `arg:"" help:"Name or id of the token."`
	formatFlag `embed:""`
}

func (c *tokenRevokeCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	t, err := api.RevokeToken(ctx, c.Token)
	if err != nil || c.json() {
		return c.write(std, t, err)
	}
	fmt.Fprintf(std.out, "token %s (%s) is revoked\n", clean(t.Name), t.ID)
	return nil
}
