// Package toolclient is what a hook tool says to its unit's agent, and how: JSON over a unix socket, one request and one answer
// at a time. It links nothing else, because every hook tool is the start of a process.
//
// The agent alone knows what a tool means; the client hands over arguments, and what the tool asks for that only the client can
// see: standard input, and files of the machine.
package toolclient

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// MaxMessage bounds one message on the socket, MaxInput what a tool may read from standard input or a file: a little above the
// largest that Juju stores, which is 16 MiB of relation settings.
const (
	MaxMessage = 64 << 20
	MaxInput   = 20 << 20
)

// A Request is one hook tool call, or, with Exec set, a command to run in a hook context of the unit's own.
type Request struct {
	Context  string            `json:"context,omitempty"` // JUJU_CONTEXT_ID
	Tool     string            `json:"tool,omitempty"`
	Args     []string          `json:"args,omitempty"`
	Dir      string            `json:"dir,omitempty"` // the caller's working directory; relative file names in arguments start there
	StdinSet bool              `json:"stdin_set,omitempty"`
	Stdin    []byte            `json:"stdin,omitempty"`
	Files    map[string][]byte `json:"files,omitempty"`   // by absolute path
	Missing  map[string]string `json:"missing,omitempty"` // why a file that was asked for cannot be read
	Exec     *Exec             `json:"exec,omitempty"`
}

// An Exec is what juju-exec asks for.
type Exec struct {
	Unit   string `json:"unit"`
	Script string `json:"script"` // for bash
}

// A Response answers a Request. When it needs more, nothing has happened yet and the request is to be repeated with it.
type Response struct {
	Stdout    []byte   `json:"stdout,omitempty"`
	Stderr    []byte   `json:"stderr,omitempty"`
	Code      int      `json:"code"`
	Output    string   `json:"output,omitempty"` // absolute path of a file that is to get Stdout instead, from -o
	NeedStdin bool     `json:"need_stdin,omitempty"`
	NeedFiles []string `json:"need_files,omitempty"`
}

// Write sends a message: its length in four bytes, big end first, then JSON.
func Write(w io.Writer, message any) error {
	data, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(data) > MaxMessage {
		return fmt.Errorf("message of %d bytes is larger than %d", len(data), MaxMessage)
	}
	framed := binary.BigEndian.AppendUint32(make([]byte, 0, len(data)+4), uint32(len(data)))
	_, err = w.Write(append(framed, data...))
	return err
}

// Read receives a message that Write sent.
func Read(r io.Reader, message any) error {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > MaxMessage {
		return fmt.Errorf("message of %d bytes is larger than %d", n, MaxMessage)
	}
	data, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err != nil {
		return err
	}
	if len(data) < int(n) {
		return io.ErrUnexpectedEOF
	}
	return json.Unmarshal(data, message)
}

// A Call says where to ask and what the tool may read.
type Call struct {
	Socket  string
	Request Request
	Stdin   io.Reader
	// Timeout bounds the wait for each answer; 0: none, for commands that run as long as they like.
	Timeout time.Duration
}

// Do asks, gives what is asked for, and returns the final answer.
func Do(call Call) (Response, error) {
	conn, err := net.Dial("unix", call.Socket)
	if err != nil {
		return Response{}, fmt.Errorf("cannot reach the unit agent: %w", err)
	}
	defer conn.Close()
	in, req := bufio.NewReader(conn), call.Request
	for {
		if call.Timeout > 0 {
			if err := conn.SetDeadline(time.Now().Add(call.Timeout)); err != nil {
				return Response{}, err
			}
		}
		if err := Write(conn, req); err != nil {
			return Response{}, fmt.Errorf("cannot ask the unit agent: %w", err)
		}
		var resp Response
		if err := Read(in, &resp); err != nil {
			return Response{}, fmt.Errorf("cannot read the unit agent's answer: %w", err)
		}
		if !resp.NeedStdin && len(resp.NeedFiles) == 0 {
			return resp, nil
		}
		if err := supply(&req, resp, call.Stdin); err != nil {
			return Response{}, err
		}
	}
}

// supply adds to a request what the answer asks for. What was given already and is asked for again is an error of the agent's.
func supply(req *Request, resp Response, stdin io.Reader) error {
	if resp.NeedStdin {
		if req.StdinSet || stdin == nil {
			return errors.New("hook tool requires stdin, none supplied")
		}
		data, err := readBounded(stdin)
		if err != nil {
			return fmt.Errorf("cannot read standard input: %w", err)
		}
		req.Stdin, req.StdinSet = data, true
	}
	for _, path := range resp.NeedFiles {
		if _, given := req.Files[path]; given {
			return fmt.Errorf("the unit agent asks twice for %s", path)
		}
		data, err := readFile(path)
		if err != nil {
			if req.Missing == nil {
				req.Missing = map[string]string{}
			}
			req.Missing[path] = err.Error()
			continue
		}
		if req.Files == nil {
			req.Files = map[string][]byte{}
		}
		req.Files[path] = data
	}
	return nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readBounded(f)
}

func readBounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxInput+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxInput {
		return nil, fmt.Errorf("more than %d bytes", MaxInput)
	}
	return data, nil
}
