// Command dummy stands for a charm's service in tests. `dummy run --dir DIR` holds a lock there, appends a line to DIR/reloads for each SIGHUP
// and ends on SIGTERM. `dummy identity --dir DIR` writes a public.json as certlab-agent does.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	err := errors.New("usage: dummy run|identity --dir DIR")
	if len(os.Args) == 4 && os.Args[2] == "--dir" {
		switch os.Args[1] {
		case "run":
			err = run(os.Args[3])
		case "identity":
			err = identity(os.Args[3])
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(dir string) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM)
	if text, err := os.ReadFile(filepath.Join(dir, "refuse")); err == nil {
		return errors.New(string(text))
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return errors.New("another one is running")
	}
	log, err := os.OpenFile(filepath.Join(dir, "reloads"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	for s := range signals {
		if s == syscall.SIGTERM {
			break
		}
		fmt.Fprintln(log, "reload")
	}
	return nil
}

func identity(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	var desired struct {
		Unit      string `json:"unit"`
		ModelUUID string `json:"model_uuid"`
	}
	data, err := os.ReadFile(filepath.Join(dir, "desired.json"))
	if err == nil {
		err = json.Unmarshal(data, &desired)
	}
	if err != nil {
		return err
	}
	data, err = json.Marshal(map[string]any{
		"public_key": base64.StdEncoding.EncodeToString(der),
		"identity": map[string]any{
			"hostname": "node1", "architecture": "amd64", "unit": desired.Unit, "model_uuid": desired.ModelUUID,
		},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "public.json"), data, 0o600)
}
