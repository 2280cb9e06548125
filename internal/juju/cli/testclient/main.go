// Command testclient is `juju` for the shell lines of the transcripts that package cli replays: it hands its arguments to the test that
// listens on $JUJU_TEST_SOCKET, and prints the answer. A program of its own starts much faster than the test's.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
)

func main() { os.Exit(run()) }

func run() int {
	conn, err := net.Dial("unix", os.Getenv("JUJU_TEST_SOCKET"))
	if err != nil {
		return fail(err)
	}
	defer conn.Close()
	dir, err := os.Getwd()
	if err != nil {
		return fail(err)
	}
	request := struct {
		Args []string
		Dir  string
	}{os.Args[1:], dir}
	var answer struct {
		Stdout, Stderr []byte
		Code           int
	}
	if err := json.NewEncoder(conn).Encode(request); err != nil {
		return fail(err)
	}
	if err := json.NewDecoder(conn).Decode(&answer); err != nil {
		return fail(err)
	}
	os.Stdout.Write(answer.Stdout)
	os.Stderr.Write(answer.Stderr)
	return answer.Code
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 99
}
