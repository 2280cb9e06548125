package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"certlab/internal/cert"
)

const (
	uploadPart  = 8 << 20         // bytes that one request carries
	partTime    = 5 * time.Minute // for one of them
	uploadTries = 5               // in a row that bring nothing
)

// AddSubmission adds an archive that was made by hand for a machine. The file is read twice: for its hash, then to send it. What an earlier
// call, or one that was cut off, has brought is not sent again. It can be repeated: the same bytes for the same machine are one submission.
func (c *Client) AddSubmission(ctx context.Context, machine, name string, file io.ReadSeeker) (out cert.Submission, err error) {
	sum := sha256.New()
	size, err := io.Copy(sum, file)
	if err != nil {
		return out, fmt.Errorf("cannot read %s: %w", name, err)
	}
	if size == 0 {
		return out, fmt.Errorf("cannot add %s: it is empty", name)
	}
	path := "/api/v1/machines/" + url.PathEscape(machine) + "/uploads/" + hex.EncodeToString(sum.Sum(nil))
	offset, most, failures := int64(-1), int64(-1), 0 // most: bytes that the controller has had
	for {
		next := offset
		if offset < 0 {
			next, err = c.offset(ctx, path)
			var answer *Error // one to HEAD says nothing more
			switch {
			case !errors.As(err, &answer):
			case answer.Status == http.StatusNotFound:
				return out, &Error{Status: answer.Status, Code: answer.Code, Message: fmt.Sprintf("there is no machine %q (certlab machine list shows them; one without an agent: certlab machine add)", machine)}
			case answer.Status == http.StatusForbidden:
				return out, &Error{Status: answer.Status, Code: answer.Code, Message: "this token may not add submissions: that needs the role engineer (certlab site shows yours)"}
			}
		} else {
			next, err = c.uploadPart(ctx, path, name, file, offset, size, &out)
		}
		switch {
		case err == nil && out.ID != "":
			return out, nil
		case err == nil && next > offset:
			offset = next
			if next > most {
				most, failures = next, 0
			}
			continue
		case err == nil:
			err = fmt.Errorf("the controller does not get beyond byte %d", offset)
		case ctx.Err() != nil || !again(err):
			return out, err
		}
		if failures++; failures == uploadTries {
			return out, fmt.Errorf("cannot add %s: %w (what has arrived is kept: repeat the command to go on)", name, err)
		}
		offset = -1 // ask again where to go on
		if !pause(ctx, c.Backoff<<failures) {
			return out, ctx.Err()
		}
	}
}

// again reports whether a request that failed so may succeed when it is repeated.
func again(err error) bool {
	var answer *Error
	var trust *TrustError
	var local *fileError
	switch {
	case errors.As(err, &trust), errors.As(err, &local):
		return false
	case errors.As(err, &answer):
		return answer.Code == cert.Conflict || answer.Code == cert.TooMany || answer.Code == cert.Unavailable || answer.Code == cert.Invalid && answer.CutOff
	}
	return true // the connection broke
}

// fileError is an error of the file that is sent, and not of the connection.
type fileError struct{ err error }

func (e *fileError) Error() string { return e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

func (c *Client) offset(ctx context.Context, path string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, headTime)
	defer cancel()
	resp, err := c.request(ctx, http.MethodHead, path, nil, nil, nil, -1)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	n, err := strconv.ParseInt(resp.Header.Get("Upload-Offset"), 10, 64)
	if err != nil || n < 0 {
		return 0, errNoOffset()
	}
	return n, nil
}

func errNoOffset() error {
	return &fileError{errors.New("cannot upload: the controller's answer has no Upload-Offset (is it older than this program?)")}
}

// uploadPart sends one part and returns where the next begins, or fills out when that was the last.
func (c *Client) uploadPart(ctx context.Context, path, name string, file io.ReadSeeker, offset, size int64, out *cert.Submission) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, partTime)
	defer cancel()
	offset = min(offset, size)
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return 0, &fileError{fmt.Errorf("cannot read %s: %w", name, err)}
	}
	length := min(uploadPart, size-offset)
	header := http.Header{"Content-Type": {"application/offset+octet-stream"}, "Upload-Offset": {strconv.FormatInt(offset, 10)},
		"Upload-Length": {strconv.FormatInt(size, 10)}, "Certlab-File-Name": {name}}
	resp, err := c.request(ctx, http.MethodPatch, path, nil, header, io.NopCloser(io.LimitReader(file, length)), length)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return size, decode(resp.Body, out)
	}
	next, err := strconv.ParseInt(resp.Header.Get("Upload-Offset"), 10, 64)
	if err != nil {
		return 0, errNoOffset()
	}
	return next, nil
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
