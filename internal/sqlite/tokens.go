package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"certlab/internal/cert"
)

// tokenColumns have no table's name before them: RETURNING takes none.
const tokenColumns = "id, name, role, created, created_by, code_expires, redeemed, expires, last_used, revoked, seq"

type tokenRow struct {
	cert.Token
	seq int64
}

func scanToken(s scanner) (t tokenRow, err error) {
	err = s.Scan(&t.ID, &t.Name, &t.Role, timeColumn{&t.Created}, &t.CreatedBy, timeColumn{&t.CodeExpires}, timePtrColumn{&t.Redeemed},
		timePtrColumn{&t.Expires}, timePtrColumn{&t.LastUsed}, timePtrColumn{&t.Revoked}, &t.seq)
	return t, err
}

// AddToken stores a token that can be had for the code with that hash. It fails as Conflict if a token that is in force has its name.
// One of that name whose code has expired unredeemed, or that has itself expired, is revoked.
func (db *DB) AddToken(ctx context.Context, t cert.Token, codeHash string) error {
	return db.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE tokens SET revoked = ?1 WHERE name = ?2 AND revoked IS NULL
			AND ((redeemed IS NULL AND code_expires <= ?1) OR expires <= ?1)`, micros(t.Created), t.Name); err != nil {
			return fmt.Errorf("cannot store the token: %w", err)
		}
		var n int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM tokens WHERE name = ? AND revoked IS NULL", t.Name).Scan(&n); err != nil {
			return fmt.Errorf("cannot read tokens: %w", err)
		}
		if n > 0 {
			return cert.Errorf(cert.Conflict, "cannot create token %q: there is one of that name (revoke it, or choose another name)", t.Name)
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO tokens (id, name, role, code_hash, code_expires, created, created_by, expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			t.ID, t.Name, t.Role, codeHash, micros(t.CodeExpires), micros(t.Created), t.CreatedBy, microsPtr(t.Expires)); err != nil {
			return fmt.Errorf("cannot store the token: %w", err)
		}
		return nil
	})
}

// Redeem turns a code into a token, once: the secret with hash is good from now on. It fails as Unauthorized when the code is unknown,
// used, revoked or too old, and does not say which.
func (db *DB) Redeem(ctx context.Context, codeHash, hash string, now time.Time) (cert.Token, error) {
	var t tokenRow
	err := db.write(ctx, func(tx *sql.Tx) (err error) {
		t, err = one(ctx, tx, scanToken, cert.Errorf(cert.Unauthorized, "cannot use this code: it is unknown, used already, revoked, or too old (ask an admin for a new one)"),
			"UPDATE tokens SET hash = ?1, redeemed = ?2 WHERE code_hash = ?3 AND hash IS NULL AND revoked IS NULL AND code_expires > ?2 RETURNING "+tokenColumns,
			hash, micros(now), codeHash)
		return err
	})
	return t.Token, err
}

// Tokens lists tokens, the newest first.
func (db *DB) Tokens(ctx context.Context, p Page) ([]cert.Token, string, error) {
	var w where
	var before int64
	if more, err := p.parse("t", &before); err != nil {
		return nil, "", err
	} else if more {
		w.add("seq < ?", before)
	}
	rows, err := list(ctx, db.r, scanToken, "SELECT "+tokenColumns+" FROM tokens"+w.String()+" ORDER BY seq DESC LIMIT ?", append(w.args, p.Limit+1)...)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > p.Limit {
		rows = rows[:p.Limit]
		next = cursor("t", rows[p.Limit-1].seq)
	}
	out := make([]cert.Token, len(rows))
	for n, r := range rows {
		out[n] = r.Token
	}
	return out, next, nil
}

// unauthorized is the one answer to every secret that is not good.
func unauthorized() error {
	return cert.Errorf(cert.Unauthorized, "the token is unknown, revoked or expired (get a new one: certlab login)")
}

// TokenByHash returns the token whose secret has that hash, if it is usable. It fails as Unauthorized.
func (db *DB) TokenByHash(ctx context.Context, hash string, now time.Time) (cert.Token, error) {
	return db.usable(ctx, now, "SELECT "+tokenColumns+" FROM tokens WHERE hash = ?", hash)
}

// TokenBySession returns the token behind a browser's session, if both are usable. It fails as Unauthorized.
func (db *DB) TokenBySession(ctx context.Context, hash string, now time.Time) (cert.Token, error) {
	return db.usable(ctx, now, "SELECT "+tokenColumns+" FROM tokens WHERE id = (SELECT token FROM sessions s WHERE s.hash = ? AND s.expires > ?)", hash, micros(now))
}

func (db *DB) usable(ctx context.Context, now time.Time, text string, args ...any) (cert.Token, error) {
	t, err := one(ctx, db.r, scanToken, unauthorized(), text, args...)
	if err != nil {
		return cert.Token{}, err
	}
	if !t.Usable(now) {
		return cert.Token{}, unauthorized()
	}
	return t.Token, nil
}

// Used records tokens' last use.
func (db *DB) TokensUsed(ctx context.Context, at map[string]time.Time) error {
	return db.write(ctx, func(tx *sql.Tx) error {
		for id, t := range at {
			if _, err := tx.ExecContext(ctx, "UPDATE tokens SET last_used = ? WHERE id = ?", micros(t), id); err != nil {
				return fmt.Errorf("cannot store a token's last use: %w", err)
			}
		}
		return nil
	})
}

// RevokeToken ends the token with that id, or the one in force with that name, and the browser sessions that rest on it. A token that
// is revoked already stays so. It fails as NotFound.
func (db *DB) RevokeToken(ctx context.Context, name string, now time.Time) (cert.Token, error) {
	var t tokenRow
	err := db.write(ctx, func(tx *sql.Tx) (err error) {
		t, err = one(ctx, tx, scanToken, notFound("token", name), "UPDATE tokens SET revoked = coalesce(revoked, ?1) WHERE id = ?2 OR (name = ?2 AND revoked IS NULL) RETURNING "+
			tokenColumns, micros(now), name)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM sessions WHERE token = ?", t.ID); err != nil {
			return fmt.Errorf("cannot end sessions: %w", err)
		}
		return nil
	})
	return t.Token, err
}

// AddSession stores a browser's session.
func (db *DB) AddSession(ctx context.Context, hash, token string, created, expires time.Time) error {
	return db.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM sessions WHERE expires <= ?", micros(created)); err != nil {
			return fmt.Errorf("cannot remove old sessions: %w", err)
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO sessions (hash, token, created, expires) VALUES (?, ?, ?, ?)", hash, token, micros(created), micros(expires)); err != nil {
			return fmt.Errorf("cannot store the session: %w", err)
		}
		return nil
	})
}

// RemoveSession ends a browser's session.
func (db *DB) RemoveSession(ctx context.Context, hash string) error {
	return db.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM sessions WHERE hash = ?", hash); err != nil {
			return fmt.Errorf("cannot end the session: %w", err)
		}
		return nil
	})
}
