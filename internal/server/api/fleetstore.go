package api

import (
	"context"
	"time"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// FleetStore is what the API needs of the database about machines that come from a provider, and about dossiers.
type FleetStore interface {
	Reservations(context.Context, sqlite.ReservationFilter, sqlite.Page) ([]cert.Reservation, string, error)
	MachineEvents(context.Context, sqlite.EventFilter, sqlite.Page) ([]cert.MachineEvent, string, error)
	Pauses(context.Context) ([]cert.Pause, error)
	Incidents(ctx context.Context, open bool, p sqlite.Page) ([]cert.Incident, string, error)
	Notices(context.Context, sqlite.Page) ([]cert.SentNotice, string, error)
	Usage(ctx context.Context, from, to, now time.Time) (cert.Usage, error)

	Dossier(ctx context.Context, machine string) (cert.Dossier, error)
	Dossiers(context.Context) ([]cert.Dossier, error)
	PutDossier(ctx context.Context, d cert.Dossier, who string, now time.Time) (cert.Dossier, error)
	PutSecureID(ctx context.Context, machine, secret, who string, now time.Time) (cert.Dossier, error)
	ImportDossiers(ctx context.Context, rows []cert.DossierRow, who string, now time.Time, dry bool) (cert.DossierImport, error)
	ZoneDossier(ctx context.Context, zone string) (cert.ZoneDossier, error)
	PutZoneDossier(ctx context.Context, z cert.ZoneDossier, who string, now time.Time) (cert.ZoneDossier, error)
	DossierChanges(ctx context.Context, machine, zone string, p sqlite.Page) ([]cert.LoggedChange, string, error)
}
