package maas

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"certlab/internal/cert"
	"certlab/internal/fuzztest"
	"github.com/stretchr/testify/require"
	"gopkg.in/mgo.v2/bson"
)

func lshwSample(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/lshw.xml")
	require.NoError(t, err)
	return data
}

func TestHardware(t *testing.T) {
	t.Parallel()
	document, err := bson.Marshal(bson.M{"lshw": lshwSample(t), "lldp": []byte("<lldp/>")})
	require.NoError(t, err)
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	s := always(200, string(document), "Content-Type", "application/bson")
	p := provider(t, s, func(c *Config) { c.Now = func() time.Time { return at } })
	h, err := p.Hardware(t.Context(), "abc123")
	require.NoError(t, err)
	require.Equal(t, cert.Hardware{
		Vendor: "Example Computers & Sons", Product: "Model 9 (SKU=NotProvided)", Version: "A01", Serial: "SN12345",
		ProductUUID:    "4c4c4544-0042-3510-8043-b4c04f4d3232",
		FirmwareVendor: "Example Firmware", FirmwareVersion: "2.19.1", FirmwareDate: "06/04/2026",
		CPU: "Example(R) CPU 8380 @ 2.30GHz", GPUs: []string{"GPU Maker Accelerator X [10DE:2204]", "Board graphics"},
		NICs: []string{"NIC Maker 10G Adapter"}, Read: at,
	}, h)
	require.Equal(t, []string{"GET machines/abc123/?op=details"}, s.questions())
}

func TestHardwareThatWasNeverCommissioned(t *testing.T) {
	t.Parallel()
	for _, content := range []bson.M{{}, {"lshw": []byte(nil)}, {"lshw": []byte{}}} {
		document, err := bson.Marshal(content)
		require.NoError(t, err)
		h, err := provider(t, always(200, string(document))).Hardware(t.Context(), "abc123")
		require.NoError(t, err)
		require.Empty(t, h.Vendor)
	}
}

func TestFaultHardwareThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ lshw, want string }{
		{"junk", "it lists no hardware"},
		{"<list></list>", "it lists no hardware"},
		{"<list><node>", "XML syntax error on line 1: unexpected EOF"},
		{strings.Repeat("<node>", maxDepth+1), "it is nested deeper than 64"},
		{"<list>" + strings.Repeat("<node/>", maxNodes+1) + "</list>", "it has more than 50000 nodes"},
	} {
		document, err := bson.Marshal(bson.M{"lshw": []byte(test.lshw)})
		require.NoError(t, err)
		_, err = provider(t, always(200, string(document))).Hardware(t.Context(), "abc123")
		require.EqualError(t, err, `cannot read the hardware of "abc123": what lshw has printed cannot be read: `+test.want+" (commission it again)")
	}
	_, err := provider(t, always(200, "\xff\xff\xff\x7f junk")).Hardware(t.Context(), "abc123")
	require.Equal(t, cert.ProviderBroken, cert.ProviderFaultOf(err))
	require.Contains(t, err.Error(), "it is no BSON")
}

func TestHardwareInLatin1(t *testing.T) {
	t.Parallel()
	h, err := parseLshw([]byte("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><list><node class=\"system\"><vendor>M\xfcller</vendor></node></list>"))
	require.NoError(t, err)
	require.Equal(t, "Müller", h.Vendor)
}

// FuzzLshw: whatever lshw has printed, reading it ends, and what comes out is bounded text.
func FuzzLshw(f *testing.F) {
	seeds := fuzztest.Seeds("<list/>", "<node class='system'><vendor>a</vendor><node class='display'><product>x</product></node></node>", "<a><b></a>", "&#xffff;", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>")
	fuzztest.Run(f, 500, append(seeds, lshwSample(f)), func(t *testing.T, data []byte) {
		h, err := parseLshw(data)
		if err != nil {
			return
		}
		for _, text := range append(append([]string{h.Vendor, h.Product, h.Version, h.Serial, h.CPU, h.FirmwareVersion}, h.GPUs...), h.NICs...) {
			if len(text) > 3*maxField || strings.ContainsAny(text, "\n\x00") {
				t.Fatalf("%q", text)
			}
		}
	})
}

// The lists that a real region's boot-resources and settings are like.
const bootResources = `[
	{"id": 1, "type": "Synced", "name": "ubuntu/jammy", "architecture": "amd64/ga-22.04", "title": "22.04 LTS", "subarches": "generic,ga-22.04"},
	{"id": 2, "type": "Synced", "name": "ubuntu/noble", "architecture": "amd64/hwe-24.04", "title": "24.04 LTS"},
	{"id": 3, "type": "Synced", "name": "ubuntu/noble", "architecture": "amd64/ga-24.04", "title": "24.04 LTS"},
	{"id": 4, "type": "Synced", "name": "ubuntu/noble", "architecture": "arm64/ga-24.04", "title": "24.04 LTS"},
	{"id": 5, "type": "Synced", "name": "grub-efi-signed/uefi", "architecture": "amd64/generic"},
	{"id": 6, "type": "Uploaded", "name": "centos/9", "architecture": "amd64/generic", "title": "CentOS"},
	{"id": 7, "type": "Uploaded", "name": "golden", "architecture": "amd64/generic", "title": "Ours"}]`

func images7(config *http.Response) func(int, *http.Request) (*http.Response, error) {
	return func(_ int, r *http.Request) (*http.Response, error) {
		if strings.Contains(r.URL.Path, "/maas/") {
			return config, nil
		}
		return answer(200, bootResources), nil
	}
}

func TestReleases(t *testing.T) {
	t.Parallel()
	s := &script{answer: images7(answer(200, `"noble"`))}
	found, err := provider(t, s).Releases(t.Context(), "amd64")
	require.NoError(t, err)
	require.Equal(t, []cert.Image{
		{OS: "ubuntu", Release: "noble", Title: "24.04 LTS", Kernels: []string{"ga-24.04", "hwe-24.04"}, Default: true},
		{OS: "ubuntu", Release: "jammy", Title: "22.04 LTS", Kernels: []string{"ga-22.04"}},
		{OS: "centos", Release: "9", Title: "CentOS"},
		{OS: "custom", Release: "golden", Title: "Ours"},
	}, found)
	require.Equal(t, []string{"GET boot-resources/", "GET maas/?name=default_distro_series&op=get_config"}, s.questions())
}

// Where the default may not be read, the releases are listed without one, and About says so.
func TestFaultDefaultReleaseIsDenied(t *testing.T) {
	t.Parallel()
	s := &script{answer: images7(answer(403, ""))}
	p := provider(t, s)
	found, err := p.Releases(t.Context(), "arm64")
	require.NoError(t, err)
	require.Equal(t, []cert.Image{{OS: "ubuntu", Release: "noble", Title: "24.04 LTS", Kernels: []string{"ga-24.04"}}}, found)
	s.answer = func(int, *http.Request) (*http.Response, error) { return answer(200, `{"version": "3.4.1"}`), nil }
	about, err := p.About(t.Context())
	require.NoError(t, err)
	require.Contains(t, about.Missing, rights["config"].goesOn)
}

func TestFaultNoImage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := oneMachine(held, nil)
		reading := s.answer
		s.answer = func(n int, r *http.Request) (*http.Response, error) {
			switch {
			case r.Method == http.MethodPost:
				return answer(400, `{"distro_series": ["'oracular' is not a valid distro_series.  It should be one of: '', 'ubuntu/jammy', 'ubuntu/noble'."]}`), nil
			case strings.Contains(r.URL.Path, "resources") || strings.Contains(r.URL.Path, "/maas/"):
				return images7(answer(200, `"noble"`))(n, r)
			}
			return reading(n, r)
		}
		err := provider(t, s).Deploy(t.Context(), "abc123", cert.DeployOptions{Release: "oracular"})
		require.EqualError(t, err, `cannot deploy "node7": MAAS has no image for ubuntu/oracular on amd64 (import it, or choose one of: noble, jammy, centos/9, custom/golden)`)
		require.Equal(t, cert.ProviderInvalid, cert.ProviderFaultOf(err))

		s.answer = func(n int, r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPost {
				return answer(400, `{"network": ["Node must be configured to use a network"]}`), nil
			}
			return reading(n, r)
		}
		err = provider(t, s).Deploy(t.Context(), "abc123", cert.DeployOptions{})
		require.EqualError(t, err, `cannot deploy "node7": none of its interfaces uses a network (in MAAS, give one of them a subnet and an IP mode)`)
	})
}
