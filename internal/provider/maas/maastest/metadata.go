package maastest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sort"
	"strings"
)

// serveMetadata answers what cloud-init and the installer of a deployed machine ask: 2012-03-01/meta-data/…, user-data, signal, and status.
// They sign with the machine's own key, which has no consumer secret either.
func (r *Region) serveMetadata(w http.ResponseWriter, req *http.Request, body []byte) {
	defer r.tell()
	r.mu.Lock()
	defer r.mu.Unlock()
	fields, _ := oauth(req.Header.Get("Authorization"))
	var n *node
	for _, candidate := range r.state.Nodes {
		if k := candidate.MetadataKey; k != nil && k.Token == fields["oauth_token"] && k.Consumer == fields["oauth_consumer_key"] && "&"+k.Secret == fields["oauth_signature"] {
			n = candidate
		}
	}
	answer := func(status int, format string, args ...any) {
		w.Header().Set("Content-Type", textPlain)
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, format, args...)
	}
	if n == nil {
		answer(http.StatusUnauthorized, "Authorization Error: Invalid API key.")
		return
	}
	path := strings.Trim(strings.TrimPrefix(req.URL.Path, "/MAAS/metadata/"), "/")
	form, _ := formOf(req, body)
	_, rest, _ := strings.Cut(path, "/")
	n.revision++
	switch {
	case req.Method == http.MethodPost && strings.HasPrefix(path, "status/"):
		r.statusHook(n, body)
		answer(http.StatusNoContent, "")
	case req.Method == http.MethodPost && rest == "" && (req.URL.Query().Get("op") == "signal" || form.Get("op") == "signal"):
		status, message := r.signal(n, form)
		answer(status, "%s", message)
	case rest == "user-data":
		data := n.UserData
		if n.Status == Deploying {
			r.interrupt(n)
			r.deployed(n)
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		if data == nil {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = w.Write(data)
	case rest == "meta-data" || strings.HasPrefix(rest, "meta-data/"):
		data := r.bootOf(n).Metadata
		if key := strings.TrimPrefix(strings.TrimPrefix(rest, "meta-data"), "/"); key != "" {
			if v, ok := data[key]; ok {
				answer(http.StatusOK, "%s", v)
				return
			}
			answer(http.StatusNotFound, "Unknown metadata attribute: %s", key)
			return
		}
		keys := sortedKeys(data)
		sort.Strings(keys)
		answer(http.StatusOK, "%s", strings.Join(keys, "\n"))
	default:
		answer(http.StatusNotFound, "Unknown metadata: %s", path)
	}
}

// signal is how a machine says how it went: OK, FAILED.
func (r *Region) signal(n *node, form url.Values) (int, string) {
	if form.Get("status") != "FAILED" {
		return http.StatusOK, "OK"
	}
	if to, ok := failedStatus(n.Status); ok {
		r.fail(n, orElse(form.Get("error"), "the machine has signalled that it failed"))
		_ = to
		return http.StatusOK, "OK"
	}
	return http.StatusConflict, fmt.Sprintf("Invalid transition: %s -> %s.", n.Status, FailedCommissioning)
}

// statusHook takes in what curtin tells of its stages. Hearing of it puts off the timeout.
func (r *Region) statusHook(n *node, body []byte) {
	var e struct{ Name string }
	if json.Unmarshal(body, &e) != nil {
		return
	}
	for part, event := range map[string]string{"partitioning": "Configuring storage", "extract": "Installing OS", "curthooks": "Configuring OS"} {
		if strings.Contains(e.Name, part) {
			r.note(n, info(event), "", "")
		}
	}
	if n.Status == Deploying && strings.HasPrefix(e.Name, "cmd-install/stage-") {
		r.expire(n, r.nodeTimeout())
	}
}

type tokenDoc struct {
	TokenKey    string `json:"token_key"`
	TokenSecret string `json:"token_secret"`
	ConsumerKey string `json:"consumer_key"`
}

// getToken gives an administrator the key of the machine's own requests.
func (c *call) getToken() reply {
	k := c.node.MetadataKey
	if k == nil {
		return reply{status: 200, contentType: textJSON, body: []byte("null")}
	}
	return asJSON(tokenDoc{k.Token, k.Secret, k.Consumer})
}
