package locallab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// maxMessage bounds one message between the lab and a machine's first process, in bytes. It has room for the 128 KiB that the kernel
// allows in a single argument, and stays below the default size of a socket's buffer.
const maxMessage = 192 << 10

// maxFiles bounds the open files that travel with one message.
const maxFiles = 4

// A request is what the lab asks of a machine's first process.
type request struct {
	ID     uint64   `json:"id"`
	Op     string   `json:"op"` // exec, signal, listen, mount, unmount, links, put, remove, shutdown
	Argv   []string `json:"argv,omitempty"`
	Env    []string `json:"env,omitempty"`
	Dir    string   `json:"dir,omitempty"`
	User   string   `json:"user,omitempty"`
	Pty    bool     `json:"pty,omitempty"`
	Target uint64   `json:"target,omitempty"` // the exec request that a signal is for
	Signal int      `json:"signal,omitempty"`
	Source string   `json:"source,omitempty"`
	Path   string   `json:"path,omitempty"`
	Data   string   `json:"data,omitempty"`
	Kind   string   `json:"kind,omitempty"` // of a shutdown: reboot, poweroff
}

// A reply is what comes back: one "started" and one "exited" for an exec, one "done" for the rest, or an error.
type reply struct {
	ID     uint64 `json:"id"`
	Event  string `json:"event"`
	PID    int    `json:"pid,omitempty"`
	Code   int    `json:"code,omitempty"`
	Signal int    `json:"signal,omitempty"`
	Error  string `json:"error,omitempty"`
}

// A wire carries messages and open files over a socket that keeps message boundaries.
type wire struct {
	conn *net.UnixConn
	send sync.Mutex
}

func newWire(file *os.File) (*wire, error) {
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, errors.New("not a unix socket")
	}
	return &wire{conn: unixConn}, nil
}

func (w *wire) write(message any, files ...*os.File) error {
	data, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(data) > maxMessage {
		return fmt.Errorf("arguments and environment take %d bytes, more than the %d that a machine accepts", len(data), maxMessage)
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, file := range files {
			fds[i] = int(file.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	w.send.Lock()
	defer w.send.Unlock()
	_, _, err = w.conn.WriteMsgUnix(data, rights, nil)
	runtime.KeepAlive(files)
	return err
}

// read returns the next message's files; the caller closes them. It returns io.EOF when the other side is gone.
func (w *wire) read(message any) ([]*os.File, error) {
	data := make([]byte, maxMessage)
	oob := make([]byte, unix.CmsgSpace(maxFiles*4))
	n, oobn, flags, _, err := w.conn.ReadMsgUnix(data, oob)
	if err != nil {
		return nil, err
	}
	files, err := parseFiles(oob[:oobn])
	if err != nil {
		return nil, err
	}
	if n == 0 {
		closeAll(files)
		return nil, io.EOF
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		closeAll(files)
		return nil, errors.New("message is too large")
	}
	if err := json.Unmarshal(data[:n], message); err != nil {
		closeAll(files)
		return nil, err
	}
	return files, nil
}

func (w *wire) close() { w.conn.Close() }

func parseFiles(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, file := range files {
		file.Close()
	}
}

// socketPair returns two connected sockets that keep message boundaries; the second is for the child.
func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	// The default buffer of some kernels is too small for one message; more is asked for, and asked for nicely.
	for _, fd := range fds {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 2*maxMessage)
		_ = unix.SetNonblock(fd, true)
	}
	return os.NewFile(uintptr(fds[0]), "lab"), os.NewFile(uintptr(fds[1]), "machine"), nil
}
