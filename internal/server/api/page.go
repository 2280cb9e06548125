package api

import (
	"net"
	"strconv"
	"strings"

	"certlab/internal/server/route"
	"certlab/internal/sqlite"
)

const defaultLimit = 100

// PageParams are the parameters of every list.
var PageParams = []route.Param{
	{Name: "limit", Kind: route.Integer, Max: sqlite.MaxLimit, Help: "how many rows at most; 100 if not given"},
	{Name: "cursor", Help: "next of the page before"},
}

func page(r *route.Request) sqlite.Page {
	return sqlite.Page{Limit: r.Int("limit", defaultLimit), Cursor: r.Query.Get("cursor")}
}

func hostPort(host string, port int) string {
	if port == 0 || port == 443 {
		if strings.Contains(host, ":") {
			return "[" + host + "]"
		}
		return host
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}
