package campaign

import (
	"context"
	"io"

	"certlab/internal/cert"
	"certlab/internal/control/kernelnews"
	"certlab/internal/sqlite"
)

// Kernels lists the kernels that the kernel team wants tested, as last read.
func (e *Engine) Kernels(ctx context.Context) (cert.KernelNewsList, error) {
	all, from, err := e.DB.KernelNews(ctx)
	out := cert.KernelNewsList{Kernels: all, Source: from.Source, Read: from.Read, Problem: from.Problem}
	if e.News != nil {
		if read := e.News.Read(); read != nil && (out.Read == nil || read.After(*out.Read)) {
			out.Read = read // it has not changed since
		}
		if p := e.News.Problem(); p != "" {
			out.Problem = p
		}
	}
	return out, err
}

// ReadKernels takes in the kernel team's status, as its JSON, in place of what was read before.
func (e *Engine) ReadKernels(ctx context.Context, r io.Reader, by string) (cert.KernelNewsList, error) {
	s, err := kernelnews.Read(r, e.Now())
	if err != nil {
		return cert.KernelNewsList{}, err
	}
	if err := e.TakeKernels(ctx, s, "given by "+by); err != nil {
		return cert.KernelNewsList{}, err
	}
	return e.Kernels(ctx)
}

// TakeKernels stores a status, from an address or a person. What it does not name any more is not listed any more.
func (e *Engine) TakeKernels(ctx context.Context, s kernelnews.Status, source string) error {
	now := e.Now()
	return e.DB.PutKernelNews(ctx, s.Kernels, sqlite.KernelSource{Source: source, Read: &now, Problem: s.Problem()})
}
