package sqlite

import (
	"slices"
	"sync"

	"certlab/internal/cert"
)

// A memo keeps what a query of the whole state has answered, for as long as nothing is stored: who looks at the machines looks far more often
// than anything of them changes.
type memo[T any] struct {
	mu     sync.Mutex
	known  bool
	stored int64 // DB.Changes before it was read
	value  T
}

// of returns what read returns, or has returned since the last change. A failure is not kept.
func (m *memo[T]) of(db *DB, read func() (T, error)) (T, error) {
	stored := db.Changes()
	m.mu.Lock()
	if m.known && m.stored >= stored {
		defer m.mu.Unlock()
		return m.value, nil
	}
	m.mu.Unlock()
	value, err := read()
	if err != nil {
		return value, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.known || m.stored < stored {
		m.known, m.stored, m.value = true, stored, value
	}
	return value, nil
}

// remembered is memo.of for a list, of which each caller gets one of its own.
func remembered[T any](m *memo[[]T], db *DB, read func() ([]T, error)) ([]T, error) {
	all, err := m.of(db, read)
	return slices.Clone(all), err
}

// memos are what the engine asks for in each of its turns.
type memos struct {
	rows         memo[[]FleetRow]
	reservations memo[[]cert.Reservation] // open
	deployments  memo[[]cert.Deployment]  // open
	dossiers     memo[map[string]cert.Dossier]
	stranded     memo[[]cert.PowerCycle]
	pauses       memo[[]cert.Pause]
}
