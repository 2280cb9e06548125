package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

func TestCampaignPagesInABrowser(t *testing.T) {
	t.Parallel()
	d := newWebDriver(t)
	a := newAgent(t, 0)
	l := newLab(t, a)
	sub := indexed(t, l.person(cert.Viewer), a.deliver(runID(), hostileArchive(t)).Submission)
	c := l.storeCampaign("noble-linux-6.8.0-51.52", sub.Machine, sub.Run, sub.ID, 60)
	var made cert.CreatedToken
	l.call(l.socket(), "POST", "http://local/api/v1/tokens", cert.NewToken{Name: "bob", Role: "viewer"}, &made)
	d.open(l.url() + "/campaigns")
	d.write("#secret", made.Code)
	d.click("main button")
	d.arrive("/campaigns")
	require.Contains(t, d.text("tbody tr"), "rejected")
	d.audited("campaigns")

	d.follow(c.Name)
	d.arrive("/campaigns/" + c.ID)
	text := d.text("main")
	for _, answer := range []string{"Rejected", "linux 6.8.0-51.52", "noble (24.04)", "a respin", "https://bugs.launchpad.net/bugs/1", "6.8.0-50.51", "1 done", "have run this subject at each boot",
		"com.example.lab::job-", "no known issue", "Verdict", "rejected by ada", "137 of 139", "6.8.0-51-generic", "<script>document.title"} {
		require.Contains(t, text, answer)
	}
	d.audited("campaign")
	var rows int
	d.eval("return document.querySelectorAll('tbody tr').length", &rows)
	require.Less(t, rows, 130, "a page shows what fits on it")

	d.click("dd a[href$='/findings']")
	d.arrive("/campaigns/" + c.ID + "/findings")
	d.eval("return document.querySelectorAll('tbody tr').length", &rows)
	require.Equal(t, 50, rows)
	d.audited("findings")
	d.follow("Next page")
	var path string
	require.Eventually(t, func() bool {
		d.eval("return location.search", &path)
		return strings.Contains(path, "cursor=")
	}, patience, patience/2000)
	d.eval("return document.querySelectorAll('tbody tr').length", &rows)
	require.Equal(t, 10, rows)

	d.open(l.url() + "/findings/" + c.finding)
	text = d.text("main")
	for _, answer := range []string{"It fails now <script>", "regression, new, blocker", "On the baseline, on this machine", "On other machines", "What else changed on this machine", "What to do"} {
		require.Contains(t, text, answer)
	}
	d.audited("finding")
	d.open(l.url() + "/campaigns/" + c.ID + "/machines")
	require.Contains(t, d.text("tbody"), "137 of 139")
	d.audited("campaign-machines")
	d.click("tbody td a[href^='/runs/']")
	d.arrive("/runs/" + sub.Run)
	require.Contains(t, d.text("main"), "What it has gone through")
	d.audited("run-timeline")
	var title string
	d.eval("return document.title", &title)
	require.NotContains(t, title, "owned")
	for _, address := range d.requests() {
		require.True(t, strings.HasPrefix(address, l.url()+"/"), "a page made the browser ask for %s", address)
	}
}
