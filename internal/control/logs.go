package control

import (
	"context"
	"errors"
	"io"

	"certlab/internal/cert"
	"certlab/internal/results"
)

// CopyLog writes the whole log of a job out of the submission with that hash. It fails as NotFound if the job has none.
func (l *Lab) CopyLog(ctx context.Context, w io.Writer, sha, job string) error {
	return l.extract(ctx, sha, func(r io.Reader) error { return results.CopyLog(w, r, results.Limits{}, job) })
}

// CopyMember writes a member of the archive with that hash. It fails as NotFound if there is none of that name.
func (l *Lab) CopyMember(ctx context.Context, w io.Writer, sha, member string) error {
	return l.extract(ctx, sha, func(r io.Reader) error { return results.CopyMember(w, r, results.Limits{}, member) })
}

func (l *Lab) extract(ctx context.Context, sha string, copy func(io.Reader) error) error {
	b, err := l.OpenFile(ctx, sha, anySize)
	if err != nil {
		return err
	}
	defer b.Close()
	err = copy(contextReader{ctx, b})
	var known *results.Error
	switch {
	case err == nil, !errors.As(err, &known), known.Kind == results.ReadFailed:
		return err
	case known.Kind == results.WriteFailed:
		return known.Err
	case known.Kind == results.NotFound:
		return cert.Errorf(cert.NotFound, "the submission does not have this: %s", known.Error())
	}
	if l.altered(ctx, sha) {
		return badBytes(sha, fileAltered)
	}
	return cert.Errorf(cert.Rejected, "%s", known.Error())
}
