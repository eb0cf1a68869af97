package main

import (
	"context"
	"log/slog"
)

// requestLog adds the id of the request to whatever is logged with its context.
type requestLog struct{ slog.Handler }

func (h requestLog) Handle(ctx context.Context, r slog.Record) error {
	if v := visitOf(ctx); v != nil {
		r.AddAttrs(slog.String("request_id", v.id))
	}
	return h.Handler.Handle(ctx, r)
}

func (h requestLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return requestLog{h.Handler.WithAttrs(attrs)}
}

func (h requestLog) WithGroup(name string) slog.Handler { return requestLog{h.Handler.WithGroup(name)} }
