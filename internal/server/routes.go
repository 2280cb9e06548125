package server

import (
	"net/http"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/server/api"
	"certlab/internal/server/route"
	"certlab/internal/server/web"
)

const (
	viewer   = route.Access(cert.Viewer)
	engineer = route.Access(cert.Engineer)
	admin    = route.Access(cert.Admin)
)

// Media types of answers that are not JSON.
const (
	anyBytes  = "application/octet-stream"
	plainText = "text/plain"
	htmlPage  = "text/html"
	tarFile   = "application/x-tar"
	csvFile   = "text/csv"
	jsonText  = "application/json"
	yamlText  = "application/yaml"
)

// table returns all routes: method, path, who may, what answers, and what it takes and gives.
func (s *Server) table() []route.Route {
	a, p := s.API, s.Web
	const get, head, post, put, patch, del = http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete
	type doc = route.Doc
	wait := []route.Param{{Name: "wait", Kind: route.Integer, Max: 3600, Help: "seconds to wait for something to do; at most 55 are waited"}}
	at := func(method, path string, access route.Access, handle route.Handler, d doc) route.Route {
		return route.Route{Method: method, Path: path, Access: access, Handle: handle, Doc: d}
	}
	slot := func(s route.Slot, rt route.Route) route.Route {
		rt.Slot = s
		return rt
	}
	table := []route.Route{
		// Agents: mutual TLS, and only their own machine's runs.
		at(get, "/agent/v1/poll", route.Agent, a.Poll, doc{Summary: "What the agent should do next", Query: wait, Response: order.Poll{}}),
		at(put, "/agent/v1/runs/{run}", route.Agent, a.ReportRun, doc{Summary: "Report a run's phase and progress", Body: order.Report{}, Response: order.ReportAck{}}),
		at(head, "/agent/v1/runs/{run}/attempts/{attempt}/files/{sha256}", route.Agent, a.UploadOffset, doc{Summary: "How much of a file is durable"}),
		slot(route.Receive, at(patch, "/agent/v1/runs/{run}/attempts/{attempt}/files/{sha256}", route.Agent, a.Upload, doc{Summary: "Continue the upload of a file; 204 until it is whole", BodyType: anyBytes, Response: order.FileAck{}})),
		at(post, "/agent/v1/runs/{run}/attempts/{attempt}/files/{sha256}/gone", route.Agent, a.FileGone, doc{Summary: "The agent cannot send a file again that a poll asked for", Body: order.FileGone{}, Status: 204}),
		at(post, "/agent/v1/held", route.Agent, a.Held, doc{Summary: "What the agent still knows, once for each epoch of the data", Body: order.Held{}, Response: order.HeldAck{}}),
		at(post, "/agent/v1/runs/{run}/finish", route.Agent, a.FinishRun, doc{Summary: "End a run", Body: order.Finish{}, Response: order.ReportAck{}}),

		at(put, "/agent/v1/status", route.Agent, a.AgentStatus, doc{Summary: "What the agent says of itself and its machine, whenever that changes", Body: order.Status{}, Status: 204}),

		// Machines that were deployed for this lab, until they have an agent.
		at(get, "/enrol/v1/agent/{architecture}", route.Open, a.AgentBundle, doc{Summary: "The agent for a deployed machine, with its SHA-256 in the header Certlab-SHA256", Why: "The deployment's token in the Authorization header is the credential.", Type: "application/gzip"}),
		at(post, "/enrol/v1/enrol", route.Open, a.Enrol, doc{Summary: "Make a deployed machine's agent known; the same key may repeat it", Why: "The deployment's token in the body is the credential: it is good for one agent, on that machine.", Body: order.Enrolment{}, Response: order.Enrolled{}}),

		// People.
		at(get, "/api/v1/site", viewer, a.Site, doc{Summary: "What this lab is and how it is", Response: cert.Site{}}),
		at(get, "/api/v1/cas", route.Open, a.ListCAs, doc{Summary: "Certificates to trust", Why: "They are public, and who does not trust the controller yet compares their fingerprint before anything else is said.", Response: cert.CAList{}}),
		at(get, "/api/v1/openapi.json", viewer, s.openAPI, doc{Summary: "This description"}),
		at(post, "/api/v1/machines", engineer, a.AddMachine, doc{Summary: "Add a machine whose submissions are made by hand", Body: cert.NewMachine{}, Status: 201, Response: cert.Machine{}}),
		at(head, "/api/v1/machines/{machine}/uploads/{sha256}", engineer, a.HandUploadOffset, doc{Summary: "How much of an archive that was made by hand is durable"}),
		slot(route.Receive, at(patch, "/api/v1/machines/{machine}/uploads/{sha256}", engineer, a.HandUpload, doc{Summary: "Continue the upload of an archive that was made by hand; 204 until it is whole, 200 if it was added before", BodyType: anyBytes, Status: 201, Response: cert.Submission{}})),
		at(get, "/api/v1/runs", viewer, a.ListRuns, doc{Summary: "List runs, the newest first, without their files", Query: api.RunParams, Response: cert.RunList{}}),
		at(post, "/api/v1/runs", engineer, a.CreateRun, doc{Summary: "Order a run on a machine; 200 if this id has been ordered before", Body: cert.NewRun{}, Status: 201, Response: cert.Run{}}),
		at(get, "/api/v1/runs/{run}", viewer, a.GetRun, doc{Summary: "A run", Response: cert.Run{}}),
		at(post, "/api/v1/runs/{run}/cancel", engineer, a.CancelRun, doc{Summary: "End a run", Response: cert.Run{}}),
		at(get, "/api/v1/runs/{run}/attempts/{attempt}/files/{sha256}", viewer, a.GetRunFile, doc{Summary: "A file that an attempt delivered, such as its console", Type: anyBytes}),
		at(get, "/api/v1/submissions", viewer, a.ListSubmissions, doc{Summary: "List submissions, the newest first, without their system information", Query: api.SubmissionParams, Response: cert.SubmissionList{}}),
		slot(route.Receive, at(post, "/api/v1/submissions", engineer, a.AddSubmission, doc{Summary: "Add an archive that was made by hand; 200 if it was added before", Query: api.UploadParams, BodyType: anyBytes, Status: 201, Response: cert.Submission{}})),
		at(get, "/api/v1/submissions/{submission}", viewer, a.GetSubmission, doc{Summary: "A submission", Response: cert.Submission{}}),
		at(get, "/api/v1/submissions/{submission}/archive", viewer, a.GetArchive, doc{Summary: "The archive, byte for byte", Type: anyBytes}),
		at(get, "/api/v1/submissions/{submission}/results/{index}", viewer, a.GetResult, doc{Summary: "A result", Response: cert.Result{}}),
		slot(route.Unpack, at(get, "/api/v1/submissions/{submission}/results/{index}/log", viewer, a.GetLog, doc{Summary: "A job's whole output", Type: plainText})),
		at(get, "/api/v1/submissions/{submission}/attachments", viewer, a.ListAttachments, doc{Summary: "List a submission's attachments", Query: api.PageParams, Response: cert.AttachmentList{}}),
		slot(route.Unpack, at(get, "/api/v1/submissions/{submission}/attachments/{index}", viewer, a.GetAttachment, doc{Summary: "An attachment's bytes", Type: anyBytes})),
		at(post, "/api/v1/submissions/{submission}/reindex", admin, a.ReindexOne, doc{Summary: "Read a submission again", Status: 202, Response: cert.Reindexed{}}),
		at(get, "/api/v1/results", viewer, a.ListResults, doc{Summary: "List results: those of the newest submission first", Query: api.ResultParams, Response: cert.ResultList{}}),
		at(get, "/api/v1/tokens", admin, a.ListTokens, doc{Summary: "List tokens, the newest first", Query: api.PageParams, Response: cert.TokenList{}}),
		at(post, "/api/v1/tokens", admin, a.CreateToken, doc{Summary: "Create a token; the answer has a code that is good once", Body: cert.NewToken{}, Status: 201, Response: cert.CreatedToken{}}),
		at(post, "/api/v1/tokens/redeem", route.Open, a.RedeemToken, doc{Summary: "Turn a code into its token", Why: "The code in the body is the credential; it is good once.", Body: cert.RedeemCode{}, Response: cert.RedeemedToken{}}),
		at(del, "/api/v1/tokens/{token}", admin, a.RevokeToken, doc{Summary: "Revoke a token, by id or name", Response: cert.Token{}}),
		at(post, "/api/v1/admin/reindex", admin, a.ReindexAll, doc{Summary: "Read all submissions again", Status: 202, Response: cert.Reindexed{}}),
		at(post, "/api/v1/admin/backup", admin, a.Backup, doc{Summary: "Back everything up, the lab's private keys among it; with a path (over the socket) the answer is JSON", Body: cert.BackupRequest{}, Type: tarFile, Response: cert.Backup{}}),
		at(post, "/api/v1/admin/restore", route.Local, a.Restore, doc{Summary: "Put a backup in place; the service ends and goes on with it", Body: cert.RestoreRequest{}, Response: cert.Restored{}}),
		at(post, "/api/v1/admin/repair", route.Local, a.Repair, doc{Summary: "Repair the data; where a new database had to be made, the service ends and goes on with it", Body: cert.RepairRequest{}, Response: cert.Repaired{}}),
		at(post, "/api/v1/admin/rotate-ca", admin, a.RotateCA, doc{Summary: "Make a new certificate authority", Response: cert.RotatedCA{}}),

		// Watching.
		at(get, "/health/live", route.Open, a.Live, doc{Summary: "The service runs", Why: "Health: it says nothing but that.", Response: cert.Live{}}),
		at(get, "/health/ready", route.Open, a.Ready, doc{Summary: "The service does what it should; 503 if not", Why: "Health: who is not known learns yes or no and nothing else.", Response: order.ControllerHealth{}}),
		at(get, "/metrics", viewer, s.metrics, doc{Summary: "Figures for Prometheus", Type: plainText}),

		// Pages.
		at(get, "/{$}", viewer, p.Home, doc{Summary: "The lab", Type: htmlPage, Page: true}),
		at(get, "/login", route.Open, p.LoginPage, doc{Summary: "Log in", Why: "The login page.", Query: web.LoginParams, Type: htmlPage, Page: true}),
		at(post, "/login", route.Open, p.Login, doc{Summary: "Log in with a token or a code", Why: "The login page's form; the secret in it is the credential.", BodyType: "application/x-www-form-urlencoded", Status: 303, Type: htmlPage, Page: true}),
		at(post, "/logout", viewer, p.Logout, doc{Summary: "Log out", BodyType: "application/x-www-form-urlencoded", Status: 303, Type: htmlPage, Page: true}),
		at(get, "/machines", viewer, p.Machines, doc{Summary: "Machines", Query: web.MachineParams, Type: htmlPage, Page: true}),
		at(get, "/machines/{machine}", viewer, p.Machine, doc{Summary: "A machine and its runs", Query: web.PageParams, Type: htmlPage, Page: true}),
		at(get, "/runs", viewer, p.Runs, doc{Summary: "Runs", Query: web.RunParams, Type: htmlPage, Page: true}),
		at(get, "/runs/{run}", viewer, p.Run, doc{Summary: "A run", Type: htmlPage, Page: true}),
		at(get, "/submissions", viewer, p.Submissions, doc{Summary: "Submissions", Query: web.PageParams, Type: htmlPage, Page: true}),
		at(get, "/submissions/{submission}", viewer, p.Submission, doc{Summary: "A submission and its results", Query: web.ResultParams, Type: htmlPage, Page: true}),
		slot(route.Unpack, at(get, "/submissions/{submission}/results/{index}", viewer, p.Result, doc{Summary: "A result and its log", Type: htmlPage, Page: true})),
		at(get, "/style.css", route.Open, p.Style, doc{Summary: "How pages look", Why: "Part of the login page; the same file in every lab.", Type: "text/css", Page: true}),
		at(get, "/favicon.ico", route.Open, p.Icon, doc{Summary: "The icon of pages", Why: "Part of the login page; the same file in every lab.", Type: "image/svg+xml", Page: true}),
	}
	return append(append(table, s.fleetTable()...), s.campaignTable()...)
}

func (s *Server) metrics(w http.ResponseWriter, r *route.Request) error {
	s.Metrics.ServeHTTP(w, r.Request)
	return nil
}
