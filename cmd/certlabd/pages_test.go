package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// audit returns what is wrong with a page for people who see it on this screen, read it aloud, or use it with a keyboard.
const audit = `
const problems = [], root = document.documentElement;
const name = e => e.outerHTML.slice(0, 120);
if (root.scrollWidth > root.clientWidth) problems.push('the page scrolls sideways: ' + root.scrollWidth + ' > ' + root.clientWidth);
for (const e of document.querySelectorAll('body *')) {
	if (e.closest('thead') && root.clientWidth < 800) continue; // only read aloud there
	const box = e.getBoundingClientRect();
	if (box.width > 1 && (box.right > root.clientWidth + 1 || box.left < -1)) problems.push('sticks out: ' + name(e));
	if (e.scrollWidth > e.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(e).overflowX)) problems.push('scrolls sideways: ' + name(e));
}
if (!root.lang) problems.push('no language');
if (!document.title.trim()) problems.push('no title');
let level = 0;
for (const h of document.querySelectorAll('h1, h2, h3, h4')) {
	const n = +h.tagName[1];
	if (n > level + 1) problems.push('a heading skips a level: ' + name(h));
	if (!h.innerText.trim()) problems.push('an empty heading');
	level = n;
}
if (document.querySelectorAll('h1').length != 1 || document.querySelectorAll('main').length != 1) problems.push('not one h1 and one main');
for (const th of document.querySelectorAll('th')) if (!th.scope) problems.push('no scope: ' + name(th));
for (const tr of document.querySelectorAll('tbody tr')) if (!tr.querySelector('th')) problems.push('a row without a header: ' + name(tr));
for (const i of document.querySelectorAll('input:not([type=hidden])')) if (!i.labels.length) problems.push('no label: ' + name(i));
for (const e of document.querySelectorAll('a, button')) if (!e.innerText.trim()) problems.push('says nothing: ' + name(e));
for (const e of document.querySelectorAll('nav, progress')) if (!e.getAttribute('aria-label')) problems.push('no label: ' + name(e));
for (const t of document.querySelectorAll('time')) if (isNaN(Date.parse(t.dateTime)) || !/UTC$/.test(t.innerText)) problems.push('not a time with its zone: ' + name(t));
for (const e of document.querySelectorAll('script, style, img, iframe, object, b, i, x')) problems.push('markup that is not ours: ' + name(e));
const light = css => {
	const [r, g, b] = css.match(/[\d.]+/g).slice(0, 3).map(c => (c /= 255) <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
	return .2126 * r + .7152 * g + .0722 * b;
};
for (const e of document.querySelectorAll('body *')) {
	if (![...e.childNodes].some(n => n.nodeType == 3 && n.data.trim())) continue;
	let under = e;
	while (under && /^rgba\(.*, 0\)$|transparent/.test(getComputedStyle(under).backgroundColor)) under = under.parentElement;
	if (!under) { problems.push('no background: ' + name(e)); continue; }
	const [a, b] = [light(getComputedStyle(e).color), light(getComputedStyle(under).backgroundColor)].sort((a, b) => b - a);
	const contrast = (a + .05) / (b + .05);
	if (contrast < 4.5) problems.push('contrast ' + contrast.toFixed(1) + ': ' + name(e));
}
return problems;
`

// audited checks the page that the browser is at, on a desk and in a hand, by day and by night.
func (d *webDriver) audited(name string) {
	d.t.Helper()
	for _, screen := range []struct {
		width  int
		scheme string
	}{{1280, "light"}, {390, "dark"}} {
		d.look(screen.width, screen.scheme)
		var problems []string
		d.eval(audit, &problems)
		require.Empty(d.t, problems, "%s, %d wide, %s", name, screen.width, screen.scheme)
		d.shoot(fmt.Sprintf("%s-%d", name, screen.width))
	}
	require.Empty(d.t, d.console(), name)
}

// hostileArchive is a submission whose every text wants to be markup.
func hostileArchive(t *testing.T) []byte {
	const attack = `<script>document.title="owned"</script><img src=x onerror="document.title='owned'"><b>`
	job := func(id, outcome, log string) map[string]any {
		return map[string]any{"id": id, "full_id": "com.example.lab::" + id, "name": attack, "certification_status": "blocker", "category": attack,
			"status": outcome, "outcome": outcome, "comments": attack + strings.Repeat("long", 100), "io_log": log, "type": "test", "plugin": "shell", "duration": 12.5}
	}
	text, err := json.Marshal(map[string]any{"title": attack, "testplan_id": "com.example.lab::hostile" + attack, "origin": map[string]any{"name": "Checkbox", "version": "7.3.0"},
		"results":          []any{job("a/"+attack, "fail", attack+"\x1b[31m\n"+strings.Repeat("x", 500)+"\nthe last line\n"), job("quiet", "pass", ""), job("other", "crash", "one\ntwo\n")},
		"resource-results": []any{}, "attachment-results": []any{}, "rejected-jobs": []any{}, "category_map": map[string]any{}, "system_information": map[string]any{}})
	require.NoError(t, err)
	var out bytes.Buffer
	z, err := xz.NewWriter(&out)
	require.NoError(t, err)
	w := tar.NewWriter(z)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "submission.json", Mode: 0o644, Size: int64(len(text))}))
	_, err = w.Write(text)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	return out.Bytes()
}

func TestPagesInABrowser(t *testing.T) {
	t.Parallel()
	d := newWebDriver(t)
	a, idle := newAgent(t, 0), newAgent(t, 1)
	a.identity.Kernel, a.identity.Base = `6.8.0-41-generic <script>alert("kernel")</script>`, "ubuntu@24.04"
	l := newLab(t, a, idle)
	viewer := l.person(cert.Viewer)
	hostile := indexed(t, viewer, a.deliver(runID(), hostileArchive(t)).Submission)
	require.Equal(t, cert.IndexDone, hostile.IndexState, hostile.IndexError)
	unreadable := indexed(t, viewer, a.deliver(runID(), []byte("not an archive")).Submission)
	lost := running(runID(), 1)
	lost.Spec = order.Spec{Plan: "com.example.lab::stress", Title: "<i>stress</i>", Match: []string{".*suspend.*"}}
	lost.CheckboxVersion, lost.BootID = "7.3.0", "0a6b2e0c-9c7e-4a39-8a37-5f4a2b8f5c11"
	lost.Interruptions = []order.Interruption{{Job: "com.example.lab::reboot", Cause: "reboot", Expected: true, At: time.Now(), Note: "went on after the job"},
		{Job: "com.example.lab::suspend/<script>", Cause: "reboot", At: time.Now(), Note: "the job is marked as crashed"}}
	_, status := a.report(lost)
	require.Equal(t, http.StatusOK, status)
	f := finished(lost)
	f.State, f.Failure = order.Failed, &order.Failure{Type: order.FailInterrupted, Message: "the machine rebooted 4 times </dd><script> during one attempt: look at its console"}
	_, status = a.finish(f)
	require.Equal(t, http.StatusOK, status)
	busy := running(runID(), 1)
	_, status = a.report(busy)
	require.Equal(t, http.StatusOK, status)

	seen := d.audited

	// Log in: with what is wrong, then with a code.
	d.open(l.url() + "/runs?state=failed")
	d.arrive("/login?next=%2Fruns%3Fstate%3Dfailed")
	seen("login")
	d.write("#secret", "clc_wrong\n")
	require.Contains(t, d.text("[role=alert]"), "neither a token")
	require.Len(t, d.console(), 1, "the refusal's status")
	seen("login-refused")
	var made cert.CreatedToken
	l.call(l.socket(), "POST", "http://local/api/v1/tokens", cert.NewToken{Name: "bob", Role: "viewer"}, &made)
	d.write("#secret", made.Code)
	d.click("main button")
	d.arrive("/runs?state=failed")
	require.Equal(t, "bob (viewer)", d.text("header form span"))
	require.Equal(t, "failed", d.text("main nav [aria-current]"))
	require.Contains(t, d.text("tbody tr"), "failed: interrupted")
	require.Contains(t, d.text("tbody tr"), "interrupted once", "and once as the job wanted")
	seen("runs-failed")

	// The keyboard's focus shows.
	d.call("POST", "/actions", map[string]any{"actions": []any{map[string]any{"type": "key", "id": "keys", "actions": []any{
		map[string]string{"type": "keyDown", "value": "\uE004"}, map[string]string{"type": "keyUp", "value": "\uE004"}}}}}, nil)
	var outline string
	d.eval("return document.activeElement.tagName + ' ' + getComputedStyle(document.activeElement).outlineStyle", &outline)
	require.Equal(t, "A solid", outline)

	// A run that failed says why.
	d.click("tbody th a")
	d.arrive("/runs/" + lost.Run)
	require.Contains(t, d.text("[role=alert]"), "Interrupted: the machine rebooted 4 times </dd><script> during one attempt")
	require.Contains(t, d.text("table"), "the job is marked as crashed")
	require.Contains(t, d.text("table"), "com.example.lab::suspend/<script>")
	seen("run-failed")
	var selected string
	d.click("dd.id")
	d.eval("return String(getSelection())", &selected)
	require.Equal(t, lost.Run, selected, "a click selects an id, to be copied")

	// Machines.
	d.follow("Machines")
	d.arrive("/machines")
	require.Contains(t, d.text("tbody"), `<script>alert("kernel")</script>`)
	seen("machines")
	d.follow("node0")
	d.arrive("/machines/" + hostile.Machine)
	require.Equal(t, "node0", d.text("h1"))
	seen("machine")

	// Reservations, with what people write.
	const attack = `<script>document.title="owned"</script>`
	until := now().Add(time.Hour)
	v := cert.Reservation{ID: cert.NewID(cert.ReservationID, time.Now()), Kind: cert.ReserveManual, State: cert.ReservationReady, Holder: "ada", Reason: attack + strings.Repeat("long", 60),
		Machine: hostile.Machine, Hostname: "node0", Want: cert.Want{Query: "tags=" + strings.Repeat("gpu", 60)}, Created: now(), Until: &until}
	gone := v
	gone.ID, gone.State, gone.Ending, gone.Failure = cert.NewID(cert.ReservationID, time.Now()), cert.ReservationEnded, cert.EndedFailed, &cert.Failure{Type: cert.FailBoot, Message: attack}
	require.NoError(t, l.service.db.ChangeFleet(t.Context(), func(tx *sqlite.FleetTx) error {
		for _, r := range []cert.Reservation{v, gone} {
			if err := tx.AddReservation(r); err != nil {
				return err
			}
		}
		return tx.Event(cert.MachineEvent{Machine: v.Machine, At: now(), Kind: "ready", Who: "certlab", Text: attack, Reservation: v.ID})
	}))
	d.follow("Reservations")
	d.arrive("/reservations")
	require.Contains(t, d.text("tbody"), attack)
	require.NotContains(t, d.text("tbody"), gone.ID)
	seen("reservations")
	d.follow(v.ID)
	d.arrive("/reservations/" + v.ID)
	require.Contains(t, d.text("table"), attack)
	seen("reservation")
	d.open(l.url() + "/reservations/" + gone.ID)
	require.Contains(t, d.text("[role=alert]"), "Boot: "+attack)
	seen("reservation-failed")
	d.open(l.url() + "/machines/" + hostile.Machine)
	require.Contains(t, d.text("main"), attack, "what happened to it")
	seen("machine-reserved")
	d.open(l.url() + "/machines?query=arch%3Driscv64")
	require.Contains(t, d.text("main"), "arch=riscv64 excludes all 2")
	seen("machines-none")
	d.open(l.url() + "/machines?query=tagz%3Dgpu")
	require.Contains(t, d.text("[role=alert]"), "did you mean tags?")
	seen("machines-wrong-query")

	// A submission's results by outcome, and a log.
	d.follow("Submissions")
	d.arrive("/submissions")
	seen("submissions")
	d.follow(hostile.ID)
	d.arrive("/submissions/" + hostile.ID)
	require.Contains(t, d.text("h1"), "com.example.lab::hostile<script>")
	seen("submission")
	d.follow("1 fail")
	d.arrive("/submissions/" + hostile.ID + "?outcome=fail")
	require.NotContains(t, d.text("tbody"), "crash")
	require.Contains(t, d.text("tbody th"), `com.example.lab::a/<script>document.title="owned"</script>`)
	require.Contains(t, d.text("tbody td.long"), "<b>")
	seen("submission-fail")
	d.click("tbody th a")
	d.arrive("/submissions/" + hostile.ID + "/results/0")
	require.Contains(t, d.text("pre"), "the last line")
	require.Contains(t, d.text("pre"), "<script>")
	seen("result")
	d.follow("The log as text")
	d.arrive("/api/v1/submissions/" + hostile.ID + "/results/0/log")
	require.Contains(t, d.text("body"), "the last line")
	require.Empty(t, d.console())
	d.open(l.url() + "/submissions/" + unreadable.ID)
	require.Contains(t, d.text("[role=alert]"), "cannot be read")
	seen("submission-unreadable")

	// A run that goes on is followed without a hand on the mouse.
	d.click("header strong a")
	d.arrive("/")
	seen("home")
	d.follow("Runs")
	d.arrive("/runs")
	require.Contains(t, d.text("tbody tr"), "running 1 of 6")
	seen("runs")
	d.follow(busy.Run)
	d.arrive("/runs/" + busy.Run)
	require.Contains(t, d.text(".notice"), "1 of 6 jobs, testing: com.example.lab::env")
	seen("run-running")
	g := finished(busy)
	g.Progress.Phase, g.Progress.JobsDone, g.Progress.CurrentJob = order.Delivering, 6, ""
	g.State, g.Failure = order.Cancelled, nil
	_, status = a.finish(g)
	require.Equal(t, http.StatusOK, status)
	require.Eventually(t, func() bool { return strings.Contains(d.text("main"), "cancelled") }, patience, 200*time.Millisecond)
	var refreshed int
	d.eval("return document.querySelectorAll('meta[http-equiv]').length", &refreshed)
	require.Zero(t, refreshed, "what is over does not change")
	seen("run-cancelled")

	// What is not there.
	d.open(l.url() + "/runs/r1")
	require.Len(t, d.console(), 1, "the status")
	seen("not-found")

	d.open(l.url() + "/machines")
	d.click("header button")
	d.arrive("/login")
	d.open(l.url() + "/machines")
	d.arrive("/login?next=%2Fmachines")
	require.Empty(t, d.console())
	for _, address := range d.requests() {
		require.True(t, strings.HasPrefix(address, l.url()+"/"), "a page made the browser ask for %s", address)
	}
}
