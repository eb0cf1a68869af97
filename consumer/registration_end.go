package consumer

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/seal"
)

// former is the feed as it was when it registered: enough to cancel it.
func former(name string, was registered, s Store, to *Registration) *Feed {
	f := &Feed{Name: name, URL: was.Root, Resources: []string{"none"}, Store: s, Register: to}
	// What cannot be opened any more is refused by the producer.
	text, _ := seal.New(to.Authority.Key).Open(was.Access, (&registrar{Feed: f}).place("access"))
	var a access
	if json.Unmarshal([]byte(text), &a) == nil {
		f.Token, f.TokenURL, f.ClientID, f.ClientSecret = a.Token, a.TokenURL, a.ClientID, a.ClientSecret
	}
	return f
}

// withdraw cancels what was registered. A producer that does not let us is left to find out that the token is revoked.
func (r *registrar) withdraw(ctx context.Context) (time.Duration, error) {
	if r.now.over() {
		return 0, errDeregistered
	}
	if r.now.Sent != nil && r.now.Self == "" {
		_, err := r.deliver(ctx) // else nobody knows what is to be cancelled
		return 0, err
	}
	if r.now.Self != "" {
		if err := r.cancel(ctx); err != nil {
			return 0, err
		}
	}
	// Only the next registration needs to know what was.
	r.now = registered{Root: r.now.Root, Gone: r.now.Gone}
	if _, err := r.sweep(ctx); err != nil {
		return 0, err
	}
	end := r.remove
	if len(r.now.Gone) > 0 {
		end = r.write
	}
	if err := end(ctx); err != nil {
		return 0, err
	}
	return 0, errDeregistered
}

// endAgain cancels what is gone once more, at the start, when the producer has another log and when it lost a
// subscription: a backup that it was restored from may hold it. It is no failure if that does not work.
func (r *registrar) endAgain(ctx context.Context, p entityevent.Position) {
	if r.ended == p.Log {
		return
	}
	for _, url := range r.now.Gone {
		_, err := r.ask(ctx, http.MethodDelete, url, nil, nil)
		if err != nil && !isProper(err, http.StatusNotFound) && !settled(err) {
			r.Logger.Debug("what was cancelled before is not cancelled again; the next look tries it", "err", err)
			return
		}
	}
	r.ended = p.Log
}

// cancel ends the subscription.
func (r *registrar) cancel(ctx context.Context) error {
	_, err := r.ask(ctx, http.MethodDelete, r.now.Self, nil, nil)
	switch {
	case err == nil, isProper(err, http.StatusNotFound):
		r.Logger.Info("cancelled the subscription at the producer", "subscription", r.now.UUID)
	case settled(err), r.Callback == "" && refused(err, http.StatusUnauthorized):
		r.Logger.Warn("the producer does not let the subscription be cancelled: it will suspend it, for its token is revoked", "subscription", r.now.UUID, "err", err)
	default:
		r.pending(err)
		return err
	}
	r.forget()
	return r.write(ctx)
}

// leave gives up a registration at another service than the feed's present one. It asks once: who is not reached
// there finds the token revoked.
func (r *registrar) leave(ctx context.Context) error {
	if r.now.Self != "" {
		there := former(r.Name, r.now, r.Store, &Registration{Authority: r.Authority})
		there.HTTP, there.Logger = r.HTTP, r.Logger
		if err := there.Check(); err != nil {
			return err
		}
		at := &registrar{Feed: there, Registration: there.Register, seal: r.seal, doc: r.doc, now: r.now}
		if _, err := at.ask(ctx, http.MethodDelete, r.now.Self, nil, nil); err != nil && ctx.Err() == nil {
			r.Logger.Warn("the subscription at the former producer was not cancelled: it will suspend it, for its token is revoked", "subscription", r.now.UUID, "err", err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return r.remove(ctx)
}
