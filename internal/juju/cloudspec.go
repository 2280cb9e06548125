package juju

// A CloudSpec is what credential-get prints: the model's cloud and the model's credential for it. Juju names the keys twice: JSON has those of
// its API (params.CloudSpec), and YAML, the default format, has the Go fields' names in lower case, all of them. Nothing of it is changed in
// place: whoever sets a model's makes a new one.
type CloudSpec struct {
	Type              string           `json:"type" yaml:"type"` // such as maas
	Name              string           `json:"name" yaml:"name"`
	Region            string           `json:"region,omitempty" yaml:"region"`
	Endpoint          string           `json:"endpoint,omitempty" yaml:"endpoint"` // as it was given to add-cloud, such as http://10.0.0.2:5240/MAAS
	IdentityEndpoint  string           `json:"identity-endpoint,omitempty" yaml:"identityendpoint"`
	StorageEndpoint   string           `json:"storage-endpoint,omitempty" yaml:"storageendpoint"`
	Credential        *CloudCredential `json:"credential,omitempty" yaml:"credential"`
	CACertificates    []string         `json:"cacertificates,omitempty" yaml:"cacertificates"` // PEM
	SkipTLSVerify     bool             `json:"skip-tls-verify,omitempty" yaml:"skiptlsverify"`
	IsControllerCloud bool             `json:"is-controller-cloud,omitempty" yaml:"iscontrollercloud"`
}

// CloudCredential is a credential's kind and what it consists of.
type CloudCredential struct {
	AuthType   string            `json:"auth-type" yaml:"authtype"` // such as oauth1
	Attributes map[string]string `json:"attrs,omitempty" yaml:"attributes"`
	Redacted   []string          `json:"redacted,omitempty" yaml:"redacted"`
}

// MAASCloud is the cloud of a model on a MAAS. key is consumer:token:secret.
func MAASCloud(name, endpoint, key string, cas ...string) *CloudSpec {
	return &CloudSpec{Type: "maas", Name: name, Endpoint: endpoint, CACertificates: cas, IsControllerCloud: true,
		Credential: &CloudCredential{AuthType: "oauth1", Attributes: map[string]string{"maas-oauth": key}}}
}
