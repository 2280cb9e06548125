package locallab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"certlab/internal/durable"
)

// How the stand-in for cloud-init asks for metadata.
const (
	cloudVersion  = "2012-03-01"     // of the metadata, as cloud-init's source for MAAS asks for it
	cloudPatience = 2 * time.Minute  // until it gives up, as cloud-init does; the deployment then fails by MAAS's clock
	cloudRetry    = time.Second      //
	cloudRequest  = 30 * time.Second // for one request
	maxUserData   = 16 << 20         // bytes
)

// cloudMain is a machine's cloud-init, for what Certlab needs of it: it says which instance this is, and, once for each instance, gets the
// user-data, installs the keys, and runs the user-data if it is a script. It begins when the services have been started.
func cloudMain() int {
	c, err := readCloud(insideCloud)
	if err == nil {
		err = newCloudInit(c, "/").run()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "cloud-init: %v\n", err)
		return 1
	}
	return 0
}

// A cloudInit does what cloud-init does on one boot of a machine.
type cloudInit struct {
	Cloud
	root   string // of the file system; a test has another than the machine
	client *http.Client
	now    func() time.Time
	wait   func(time.Duration)
	out    io.Writer // console
}

func newCloudInit(c Cloud, root string) *cloudInit {
	return &cloudInit{Cloud: c, root: root, client: &http.Client{Timeout: cloudRequest}, now: time.Now, wait: time.Sleep, out: os.Stderr}
}

func (c *cloudInit) path(names ...string) string {
	return filepath.Join(append([]string{c.root}, names...)...)
}

func (c *cloudInit) run() error {
	instance := c.path(cloudDir, "instances", c.InstanceID)
	for _, dir := range []string{c.path(cloudRunDir), c.path(cloudDir, "data"), filepath.Join(instance, "sem"), filepath.Join(instance, "scripts")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := c.describe(); err != nil {
		return err
	}
	link := c.path(cloudDir, "instance")
	if old, err := os.Readlink(link); err != nil || filepath.Base(old) != c.InstanceID {
		if err := replaceLink(filepath.Join(cloudDir, "instances", c.InstanceID), link); err != nil {
			return err
		}
	}
	c.addUser(filepath.Join(instance, "sem", "config_users_groups"))
	userData := filepath.Join(instance, "user-data.txt")
	if _, err := os.Stat(userData); errors.Is(err, os.ErrNotExist) {
		if err := c.fetch(userData); err != nil {
			return err
		}
	}
	return c.runScript(instance, userData)
}

// describe writes what programs on the machine look at.
func (c *cloudInit) describe() error {
	v1 := map[string]any{
		"cloud_name": "maas", "cloud-name": "maas", "platform": "maas", "subplatform": "seed-dir", "datasource": "MAAS",
		"instance_id": c.InstanceID, "instance-id": c.InstanceID, "local_hostname": c.Hostname, "local-hostname": c.Hostname,
		"availability_zone": c.Zone, "availability-zone": c.Zone, "region": nil,
	}
	data, err := json.MarshalIndent(map[string]any{
		"base64_encoded_keys": []string{}, "sensitive_keys": []string{}, "v1": v1, "ds": map[string]any{"meta_data": map[string]any{"instance-id": c.InstanceID}},
	}, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.path(cloudRunDir, "instance-data.json"), append(data, '\n'), 0o644); err != nil {
		return err
	}
	for path, content := range map[string]string{
		c.path(cloudRunDir, ".instance-id"):     c.InstanceID,
		c.path(cloudDir, "data", "instance-id"): c.InstanceID,
	} {
		if err := durable.WriteFile(path, []byte(content+"\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// cloudUser is the user that Ubuntu's images have.
const cloudUser = "ubuntu"

// addUser makes the image's user, once for each instance. Without one, the user-data has nobody to give a person's keys to.
func (c *cloudInit) addUser(mark string) {
	if _, err := os.Stat(mark); err == nil || c.root != "/" {
		return
	}
	if _, err := findUser(cloudUser); err != nil {
		if out, err := exec.Command("useradd", "--create-home", "--shell", "/bin/bash", cloudUser).CombinedOutput(); err != nil {
			fmt.Fprintf(c.out, "cloud-init: cannot add user %s: %v %s\n", cloudUser, err, strings.TrimSpace(string(out)))
		}
	}
	_ = os.WriteFile(mark, nil, 0o644) // at worst it is tried again
}

// fetch gets user-data and keys, and keeps them. The region learns from it that the machine has come up.
func (c *cloudInit) fetch(userData string) error {
	deadline := c.now().Add(cloudPatience)
	keys, err := c.get("meta-data/public-keys", deadline)
	if err != nil {
		return err
	}
	if err := c.installKeys(keys); err != nil {
		return err
	}
	data, err := c.get("user-data", deadline)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "cloud-init: instance %s has its user-data, %d bytes\n", c.InstanceID, len(data))
	return durable.WriteFile(userData, data, 0o600)
}

// get asks until there is an answer. What there is not is empty.
func (c *cloudInit) get(name string, deadline time.Time) ([]byte, error) {
	address := strings.TrimSuffix(c.Metadata, "/") + "/" + cloudVersion + "/" + name
	for {
		data, err := c.ask(address)
		if err == nil {
			return data, nil
		}
		fmt.Fprintf(c.out, "cloud-init: %v\n", err)
		if c.now().After(deadline) {
			return nil, fmt.Errorf("giving up on %s", address)
		}
		c.wait(cloudRetry)
	}
}

func (c *cloudInit) ask(address string) ([]byte, error) {
	req, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	values := []string{
		`oauth_version="1.0"`, `oauth_signature_method="PLAINTEXT"`, `oauth_consumer_key="` + url.QueryEscape(c.ConsumerKey) + `"`,
		`oauth_token="` + url.QueryEscape(c.TokenKey) + `"`, `oauth_signature="%26` + url.QueryEscape(c.TokenSecret) + `"`,
		`oauth_nonce="` + newUUID() + `"`, `oauth_timestamp="` + strconv.FormatInt(c.now().Unix(), 10) + `"`,
	}
	req.Header.Set("Authorization", "OAuth "+strings.Join(values, ", "))
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxUserData+1))
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusNotFound:
		return nil, nil
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s answers %s", address, resp.Status)
	case len(data) > maxUserData:
		return nil, fmt.Errorf("%s is larger than %d bytes", address, maxUserData)
	}
	return data, nil
}

// installKeys lets the cloud's keys in as root: images of the local lab have no other user.
func (c *cloudInit) installKeys(keys []byte) error {
	text := strings.TrimSpace(string(keys))
	if text == "" {
		return nil
	}
	dir := c.path("/root/.ssh")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, "authorized_keys"), []byte(text+"\n"), 0o600)
}

// runScript runs user-data that is a script, once for each instance. The mark is set first, as cloud-init sets it: a script that a power cut
// has interrupted does not run again.
func (c *cloudInit) runScript(instance, userData string) error {
	mark := filepath.Join(instance, "sem", "config_scripts_user")
	if _, err := os.Stat(mark); err == nil {
		return nil
	}
	data, err := os.ReadFile(userData)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(mark, []byte(c.now().UTC().Format(time.RFC3339)+"\n"), 0o644); err != nil {
		return err
	}
	if !strings.HasPrefix(string(data), "#!") {
		return c.finish(instance, nil)
	}
	script := filepath.Join(instance, "scripts", "part-001")
	if err := os.WriteFile(script, data, 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(c.path(cloudOutputLog), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	defer log.Close()
	// Neither HOME nor a login's variables, as under cloud-final.service.
	cmd := &exec.Cmd{Path: script, Args: []string{script}, Dir: "/", Env: []string{"PATH=" + defaultPath, "LANG=C.UTF-8"}, Stdout: log, Stderr: log}
	problem := cmd.Run()
	if problem != nil {
		fmt.Fprintf(log, "Failed to run module scripts-user: %v\n", problem)
		fmt.Fprintf(c.out, "cloud-init: the user-data's script has failed: %v (see %s)\n", problem, cloudOutputLog)
	}
	return c.finish(instance, problem)
}

// finish leaves cloud-init's last word.
func (c *cloudInit) finish(instance string, problem error) error {
	problems := []string{}
	if problem != nil {
		problems = append(problems, problem.Error())
	}
	data, err := json.Marshal(map[string]any{"v1": map[string]any{"datasource": "DataSourceMAAS", "errors": problems}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.path(cloudRunDir, "result.json"), append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(instance, "boot-finished"), []byte(c.now().UTC().Format(time.RFC1123Z)+"\n"), 0o644)
}
