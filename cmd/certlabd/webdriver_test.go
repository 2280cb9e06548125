package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// webDriver is a real browser, Debian's chromium, driven over chromedriver's HTTP protocol (https://www.w3.org/TR/webdriver2/).
type webDriver struct {
	t       *testing.T
	session string // URL
	shots   string // directory for screenshots; empty: none are made
}

// newWebDriver starts a browser. It skips the test where there is none, and fails it there in CI, which has to have one.
func newWebDriver(t *testing.T) *webDriver {
	missing := t.Skipf
	if os.Getenv("CI") == "true" {
		missing = t.Fatalf
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		missing("the pages are not tested in a browser: apt install chromium chromium-driver (%v)", err)
	}
	driver, err := exec.LookPath("chromedriver")
	if err != nil {
		missing("the pages are not tested in a browser: apt install chromium-driver (%v)", err)
	}
	dir := t.TempDir()
	cmd := exec.Command(driver, "--port=0")
	cmd.Env = append(os.Environ(), "HOME="+dir, "TMPDIR="+dir, "XDG_CONFIG_HOME="+dir, "XDG_CACHE_HOME="+dir, "TZ=UTC")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = cmd.Stdout
	require.NoError(t, cmd.Start())
	ports, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		announce := regexp.MustCompile(`started successfully on port (\d+)`)
		var text []byte
		told := false
		for buffer := make([]byte, 4096); ; {
			n, err := out.Read(buffer)
			if !told {
				text = append(text, buffer[:n]...)
				if m := announce.FindSubmatch(text); m != nil {
					ports <- string(m[1])
					told = true
				}
			}
			if err != nil {
				return
			}
		}
	}()
	d := &webDriver{t: t, shots: os.Getenv("CERTLAB_SCREENSHOTS")}
	t.Cleanup(func() {
		if d.session != "" {
			d.call("DELETE", "", nil, nil) // ends the browser
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		select {
		case <-ended: // the browser, which has the other end too, is gone
		case <-time.After(patience):
			t.Error("the browser does not end")
		}
		_ = cmd.Wait()
	})
	select {
	case p := <-ports:
		d.session = "http://127.0.0.1:" + p + "/session"
	case <-time.After(patience):
		require.FailNow(t, "chromedriver does not start")
	}
	start := map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"acceptInsecureCerts": true,
		"timeouts":            map[string]any{"implicit": 5000, "pageLoad": patience.Milliseconds()},
		"goog:loggingPrefs":   map[string]any{"browser": "ALL", "performance": "ALL"},
		"goog:chromeOptions": map[string]any{"binary": chromium, "args": []string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
			"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--disable-breakpad", "--remote-debugging-pipe",
			"--user-data-dir=" + filepath.Join(dir, "profile")}},
	}}}
	var session struct{ SessionID string }
	sessions := d.session
	d.session = ""
	status, text := d.request("POST", sessions, start)
	require.Equal(t, http.StatusOK, status, "%s", text)
	require.NoError(t, json.Unmarshal(value(text), &session))
	d.session = sessions + "/" + session.SessionID
	return d
}

func value(text []byte) json.RawMessage {
	var out struct{ Value json.RawMessage }
	_ = json.Unmarshal(text, &out)
	return out.Value
}

func (d *webDriver) request(method, url string, in any) (int, []byte) {
	d.t.Helper()
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		require.NoError(d.t, err)
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, url, body) // a session is ended when the test's context is over
	require.NoError(d.t, err)
	resp, err := (&http.Client{Timeout: 2 * patience}).Do(req)
	require.NoError(d.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(d.t, err)
	return resp.StatusCode, text
}

// call sends one command of the session and decodes its value into out, which may be nil.
func (d *webDriver) call(method, path string, in, out any) {
	d.t.Helper()
	if in == nil && method == "POST" {
		in = struct{}{}
	}
	status, text := d.request(method, d.session+path, in)
	require.Equal(d.t, http.StatusOK, status, "%s %s: %s", method, path, text)
	if out != nil {
		require.NoError(d.t, json.Unmarshal(value(text), out), "%s", text)
	}
}

func (d *webDriver) open(url string) {
	d.t.Helper()
	d.call("POST", "/url", map[string]string{"url": url}, nil)
}

// arrive waits until the browser shows the page at path.
func (d *webDriver) arrive(path string) {
	d.t.Helper()
	var at [2]string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if d.eval("return [location.pathname + location.search, document.readyState]", &at); at == [2]string{path, "complete"} {
			return
		}
	}
	require.FailNow(d.t, "the browser does not get to "+path, "it is at %s (%s)", at[0], at[1])
}

// find waits for an element. by is "css selector" or "link text".
func (d *webDriver) find(by, what string) string {
	d.t.Helper()
	var element map[string]string
	d.call("POST", "/element", map[string]string{"using": by, "value": what}, &element)
	return "/element/" + element["element-6066-11e4-a52e-4f735466cecf"]
}

func (d *webDriver) click(css string) {
	d.t.Helper()
	d.call("POST", d.find("css selector", css)+"/click", nil, nil)
}

func (d *webDriver) follow(link string) {
	d.t.Helper()
	d.call("POST", d.find("link text", link)+"/click", nil, nil)
}

func (d *webDriver) write(css, text string) {
	d.t.Helper()
	d.call("POST", d.find("css selector", css)+"/value", map[string]string{"text": text}, nil)
}

// text waits for an element and returns what a person sees of it.
func (d *webDriver) text(css string) string {
	d.t.Helper()
	var text *string
	for deadline := time.Now().Add(patience); text == nil && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		d.eval("const e = document.querySelector(arguments[0]); return e && e.innerText", &text, css)
	}
	require.NotNil(d.t, text, "the page has no %s", css)
	return *text
}

// eval returns what a script returns, as JSON decoded into out. It tries again when the page goes away under the script.
func (d *webDriver) eval(script string, out any, args ...string) {
	d.t.Helper()
	in := map[string]any{"script": script, "args": append([]string{}, args...)}
	status, text := d.request("POST", d.session+"/execute/sync", in)
	for deadline := time.Now().Add(patience); status != http.StatusOK && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		status, text = d.request("POST", d.session+"/execute/sync", in)
	}
	require.Equal(d.t, http.StatusOK, status, "%s", text)
	require.NoError(d.t, json.Unmarshal(value(text), out), "%s", text)
}

// devtools sends a command of https://chromedevtools.github.io/devtools-protocol/.
func (d *webDriver) devtools(command string, params any) {
	d.t.Helper()
	d.call("POST", "/goog/cdp/execute", map[string]any{"cmd": command, "params": params}, nil)
}

// look makes the browser's screen so wide, and its user prefer light or dark.
func (d *webDriver) look(width int, scheme string) {
	d.t.Helper()
	d.devtools("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600})
	d.devtools("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}})
}

// shoot keeps a picture of the page, for people, when CERTLAB_SCREENSHOTS names a directory.
func (d *webDriver) shoot(name string) {
	d.t.Helper()
	if d.shots == "" {
		return
	}
	var height int
	d.eval("return document.documentElement.scrollHeight", &height)
	var width int
	d.eval("return window.innerWidth", &width)
	d.devtools("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": min(max(height, 400), 3000), "deviceScaleFactor": 1, "mobile": width < 600})
	var picture string
	d.call("GET", "/screenshot", nil, &picture)
	png, err := base64.StdEncoding.DecodeString(picture)
	require.NoError(d.t, err)
	require.NoError(d.t, os.WriteFile(filepath.Join(d.shots, name+".png"), png, 0o644))
}

// console returns what the browser has complained about since the last call: scripts, policies, loads that failed.
func (d *webDriver) console() []string {
	d.t.Helper()
	var entries []struct{ Level, Message string }
	d.call("POST", "/se/log", map[string]string{"type": "browser"}, &entries)
	out := []string{}
	for _, e := range entries {
		out = append(out, e.Level+" "+e.Message)
	}
	return out
}

// requests returns the addresses that the browser has asked for since the last call.
func (d *webDriver) requests() []string {
	d.t.Helper()
	var entries []struct{ Message string }
	d.call("POST", "/se/log", map[string]string{"type": "performance"}, &entries)
	var out []string
	for _, e := range entries {
		var event struct {
			Message struct {
				Method string
				Params struct{ Request struct{ URL string } }
			}
		}
		require.NoError(d.t, json.Unmarshal([]byte(e.Message), &event))
		if address := event.Message.Params.Request.URL; event.Message.Method == "Network.requestWillBeSent" && strings.HasPrefix(address, "http") {
			out = append(out, address)
		}
	}
	return out
}
