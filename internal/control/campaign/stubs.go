package campaign

import (
	"context"
	"io"

	"certlab/internal/cert"
)

var errNotYet = cert.Errorf(cert.Unavailable, "cannot do that yet")

func (e *Engine) Kernels(ctx context.Context) (cert.KernelNewsList, error) {
	if e.News == nil {
		return cert.KernelNewsList{Kernels: []cert.KernelNews{}}, nil
	}
	return e.News.Kernels(ctx)
}

func (e *Engine) ReadKernels(ctx context.Context, r io.Reader, by string) (cert.KernelNewsList, error) {
	if e.News == nil {
		return cert.KernelNewsList{}, errNotYet
	}
	return e.News.ReadKernels(ctx, r, by)
}
