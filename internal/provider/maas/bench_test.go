package maas

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// BenchmarkList10000 reads a list as a region of 10,000 machines gives it, of a real machine's document.
func BenchmarkList10000(b *testing.B) {
	one := realMachines(b)[0]
	body := append([]byte("["), bytes.Repeat(append(append([]byte{}, one...), ','), 9_999)...)
	body = append(append(body, one...), ']')
	p := provider(b, roundTrip(func(r *http.Request) (*http.Response, error) {
		if strings.Contains(r.URL.RawQuery, "whoami") {
			return answer(200, `{"username": "certlab"}`), nil
		}
		a := answer(200, "")
		a.Body = io.NopCloser(bytes.NewReader(body))
		return a, nil
	}))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if all, err := p.List(b.Context()); err != nil || len(all) != 10_000 {
			b.Fatal(len(all), err)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
