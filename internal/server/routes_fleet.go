package server

import (
	"net/http"

	"certlab/internal/cert"
	"certlab/internal/server/api"
	"certlab/internal/server/route"
	"certlab/internal/server/web"
)

// fleetTable are the routes for machines: what they are and do, who has them, and what the lab knows of them.
func (s *Server) fleetTable() []route.Route {
	a, p := s.API, s.Web
	const get, post, put, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	type doc = route.Doc
	at := func(method, path string, access route.Access, handle route.Handler, d doc) route.Route {
		return route.Route{Method: method, Path: path, Access: access, Handle: handle, Doc: d}
	}
	return []route.Route{
		// Machines.
		at(get, "/api/v1/fleet", viewer, a.GetFleet, doc{Summary: "The lab's machines and their provider at a glance", Response: cert.FleetSummary{}}),
		at(get, "/api/v1/machines", viewer, a.ListMachines, doc{Summary: "List machines with their states, the first known first", Query: api.MachineParams, Response: cert.MachineList{}}),
		at(get, "/api/v1/machines/{machine}", viewer, a.GetMachine, doc{Summary: "A machine, by id, system_id or hostname", Response: cert.MachineDetail{}}),
		at(get, "/api/v1/machines/{machine}/events", viewer, a.ListMachineEvents, doc{Summary: "What happened to a machine, the newest first", Query: api.EventParams, Response: cert.MachineEventList{}}),
		at(get, "/api/v1/machines/{machine}/console", viewer, a.GetConsole, doc{Summary: "What a machine's console has shown, where it is kept", Type: plainText}),
		at(post, "/api/v1/machines/{machine}/quarantine", engineer, a.QuarantineMachine, doc{Summary: "Keep a machine from being handed out", Body: cert.QuarantineMachine{}, Response: cert.MachineDetail{}}),
		at(post, "/api/v1/machines/{machine}/return", engineer, a.ReturnMachine, doc{Summary: "Return a quarantined machine to service: after a passed check, or by force with a reason", Body: cert.ReturnMachine{}, Response: cert.MachineDetail{}}),
		at(post, "/api/v1/machines/{machine}/power", engineer, a.PowerMachine, doc{Summary: "Switch a machine of this lab, or ask whether it is on; one that another person has reserved needs the role admin", Body: cert.PowerMachine{}, Response: cert.PoweredMachine{}}),

		// Reservations.
		at(get, "/api/v1/reservations", viewer, a.ListReservations, doc{Summary: "List reservations, the newest first, without estimates", Query: api.ReservationParams, Response: cert.ReservationList{}}),
		at(post, "/api/v1/reservations", engineer, a.Reserve, doc{Summary: "Reserve a machine, or with a spec run a plan on one that is deployed for it; a priority above 0 needs the role admin", Query: api.WaitParams, Body: cert.NewReservation{}, Status: 201, Response: cert.Reservation{}}),
		at(get, "/api/v1/reservations/{reservation}", viewer, a.GetReservation, doc{Summary: "A reservation, by its id or by the machine that it has", Query: api.WaitParams, Response: cert.Reservation{}}),
		at(post, "/api/v1/reservations/{reservation}/extend", engineer, a.ExtendReservation, doc{Summary: "Extend a reservation; another person's needs the role admin", Body: cert.ExtendReservation{}, Response: cert.Reservation{}}),
		at(post, "/api/v1/reservations/{reservation}/release", engineer, a.ReleaseReservation, doc{Summary: "Give a machine back; another person's needs the role admin", Body: cert.ReleaseReservation{}, Response: cert.Reservation{}}),
		at(post, "/api/v1/reservations/{reservation}/cancel", engineer, a.CancelReservation, doc{Summary: "End the wait for a machine, or a reservation's run; another person's needs the role admin", Body: cert.ReleaseReservation{}, Response: cert.Reservation{}}),

		// The lab at work.
		at(get, "/api/v1/events", viewer, a.ListEvents, doc{Summary: "What happened to machines, the newest first", Query: api.EventParams, Response: cert.MachineEventList{}}),
		at(get, "/api/v1/pauses", viewer, a.ListPauses, doc{Summary: "What takes no new work", Response: cert.PauseList{}}),
		at(post, "/api/v1/pauses", admin, a.Pause, doc{Summary: "Keep new work away from the lab, a pool, a zone or a rack; running work ends by itself", Body: cert.NewPause{}, Status: 201, Response: cert.Pause{}}),
		at(del, "/api/v1/pauses", admin, a.Resume, doc{Summary: "Take new work again", Query: api.PauseParams, Status: 204}),
		at(get, "/api/v1/incidents", viewer, a.ListIncidents, doc{Summary: "List incidents, the newest first", Query: api.IncidentParams, Response: cert.IncidentList{}}),
		at(get, "/api/v1/notices", viewer, a.ListNotices, doc{Summary: "What the site's webhook was told, or could not be, the newest first", Query: api.PageParams, Response: cert.NoticeList{}}),
		at(get, "/api/v1/usage", viewer, a.GetUsage, doc{Summary: "What the lab's time went into, in hours of machines", Query: api.UsageParams, Response: cert.Usage{}}),

		// Dossiers.
		at(get, "/api/v1/machines/{machine}/dossier", viewer, a.GetDossier, doc{Summary: "What the lab knows of a machine and no API tells", Response: cert.Dossier{}}),
		at(put, "/api/v1/machines/{machine}/dossier", engineer, a.PutDossier, doc{Summary: "Replace a machine's dossier; 409 if it is not of that version any more", Body: cert.Dossier{}, Response: cert.Dossier{}}),
		at(put, "/api/v1/machines/{machine}/dossier/secure-id", engineer, a.PutSecureID, doc{Summary: "Set or remove a machine's secure id for the certification site; nothing answers with it", Body: cert.NewSecureID{}, Response: cert.Dossier{}}),
		at(get, "/api/v1/machines/{machine}/dossier/history", viewer, a.DossierHistory, doc{Summary: "Changes of a machine's dossier, the newest first", Query: api.PageParams, Response: cert.DossierHistory{}}),
		at(get, "/api/v1/zones/{zone}/dossier", viewer, a.GetZoneDossier, doc{Summary: "What holds for all machines of a zone", Response: cert.ZoneDossier{}}),
		at(put, "/api/v1/zones/{zone}/dossier", engineer, a.PutZoneDossier, doc{Summary: "Replace a zone's dossier; 409 if it is not of that version any more", Body: cert.ZoneDossier{}, Response: cert.ZoneDossier{}}),
		at(get, "/api/v1/zones/{zone}/dossier/history", viewer, a.ZoneDossierHistory, doc{Summary: "Changes of a zone's dossier, the newest first", Query: api.PageParams, Response: cert.DossierHistory{}}),
		at(get, "/api/v1/dossiers.csv", viewer, a.ExportDossiers, doc{Summary: "All machines' dossiers as CSV, without secure ids", Type: csvFile}),
		at(post, "/api/v1/dossiers", engineer, a.ImportDossiers, doc{Summary: "Change dossiers by a CSV, all lines or none, and say what has changed", Query: api.ImportParams, BodyType: csvFile, Response: cert.DossierImport{}}),

		// Pages.
		at(get, "/reservations", viewer, p.Reservations, doc{Summary: "Reservations", Query: web.ReservationParams, Type: htmlPage, Page: true}),
		at(get, "/reservations/{reservation}", viewer, p.Reservation, doc{Summary: "A reservation and what happened for it", Type: htmlPage, Page: true}),
	}
}
