package main

import (
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/reply"
	"github.com/resosync/resosync/producer"
)

// admin serves the commands of this machine, whether an agent runs or a command serves itself.
func (a *agent) admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /admin/status", a.serveStatus)
	mux.HandleFunc("POST /admin/import", a.writing(a.serveImport))
	mux.HandleFunc("POST /admin/sync/{feed}", a.writing(a.serveSync))
	mux.HandleFunc("GET /admin/tokens", a.listTokens)
	mux.HandleFunc("POST /admin/tokens", a.issueToken)
	mux.HandleFunc("DELETE /admin/tokens/{id}", a.revokeToken)
	mux.HandleFunc("POST /admin/clients/{name}/secret", a.newSecret)
	mux.HandleFunc("POST /admin/clients/{name}/revoke", a.revokeClient)
	a.ops(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := a.gate.Admit(r, bearer.ScopeAdmin); err != nil {
			producer.Refuse(w, r, err, a.logger)
			return
		}
		route(mux, w, r)
	})
}

// route serves a request by mux, without its redirects, and tells whoever uses the wrong path or method in
// the agent's own way.
func route(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	if at := r.URL.EscapedPath(); strings.HasSuffix(at, "/") {
		r.URL.Path, r.URL.RawPath = strings.TrimSuffix(r.URL.Path, "/"), strings.TrimSuffix(r.URL.RawPath, "/")
	}
	var allow []string
	if at := r.URL.EscapedPath(); path.Clean(at) == at {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			probe := *r
			probe.Method = method
			if _, pattern := mux.Handler(&probe); pattern != "" {
				allow = append(allow, method)
			}
		}
	}
	if allow == nil {
		reply.Refuse(w, &reply.Error{Status: http.StatusNotFound, Detail: "nothing is served at this path: is the command of another version than the agent?"})
		return
	}
	if slices.Contains(allow, r.Method) {
		mux.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Allow", strings.Join(append(allow, http.MethodOptions), ", "))
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	reply.Refuse(w, &reply.Error{Status: http.StatusMethodNotAllowed, Detail: "not here: the methods are " + w.Header().Get("Allow")})
}

// refuse answers one who was admitted with what an error means.
func refuse(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, bearer.ErrNoToken), errors.Is(err, bearer.ErrNoClient):
		reply.Refuse(w, &reply.Error{Status: http.StatusNotFound, Detail: err.Error()})
	case errors.Is(err, entityevent.ErrInvalid):
		reply.Refuse(w, &reply.Error{Status: http.StatusUnprocessableEntity, Detail: err.Error()})
	case errors.Is(err, entityevent.ErrUnavailable):
		reply.Refuse(w, &reply.Error{Status: http.StatusServiceUnavailable, Detail: err.Error(), Wait: time.Minute})
	default:
		reply.Refuse(w, &reply.Error{Status: http.StatusInternalServerError, Detail: err.Error()})
	}
}

// syncLine is one line of the answer to a sync: how far it is, until the one that says how it ended.
type syncLine struct {
	consumer.Progress
	Done  bool   `json:"done,omitempty"`
	Error string `json:"error,omitempty"`
}

func (a *agent) serveSync(w http.ResponseWriter, r *http.Request) {
	feed := a.feedOf(w, r)
	if feed == nil {
		return
	}
	say := lines(w)
	var last consumer.Progress
	err := feed.Sync(r.Context(), consumer.SyncOptions{Full: isSet(r.URL.Query(), "full")}, func(p consumer.Progress) {
		last = p
		say(syncLine{Progress: p})
	})
	end := syncLine{Progress: last, Done: true}
	if err != nil {
		end.Error = err.Error()
	}
	say(end)
}

// tokenRequest asks for a token: for a client, or for pushes to a feed.
type tokenRequest struct {
	Client  string   `json:"client,omitempty"`
	Feed    string   `json:"feed,omitempty"`
	Scopes  []string `json:"scopes,omitempty"`
	Expires int64    `json:"expires,omitempty"` // in so many seconds; 0: never
}

func (a *agent) issueToken(w http.ResponseWriter, r *http.Request) {
	var q tokenRequest
	if !readBody(w, r, &q) {
		return
	}
	t, err := a.tokenFor(q)
	if err == nil {
		var signed string
		if signed, t, err = a.authority.Issue(r.Context(), t); err == nil {
			reply.Write(w, http.StatusCreated, reply.JSON, map[string]any{"token": signed, "issued": t})
			return
		}
	}
	refuse(w, err)
}

// tokenFor is what a request asks for, checked against the configuration.
func (a *agent) tokenFor(q tokenRequest) (bearer.Token, error) {
	t := bearer.Token{Audience: bearer.API, Client: q.Client, Scopes: q.Scopes}
	if q.Expires > 0 {
		t.Expires = time.Now().Add(time.Duration(q.Expires) * time.Second)
	}
	if q.Feed != "" {
		t.Audience, t.Client, t.Scopes = bearer.Push(q.Feed), q.Feed, nil
		if a.feed(q.Feed) == nil {
			return t, fmt.Errorf("%w: there is no feed %q in the configuration; add it to consumer.feeds first", entityevent.ErrInvalid, q.Feed)
		}
		return t, nil
	}
	may, known := a.gate.clients[q.Client]
	if !known {
		return t, errNoClient(q.Client)
	}
	if len(t.Scopes) == 0 {
		t.Scopes = may.scopes
	}
	for _, scope := range t.Scopes {
		if !slices.Contains(may.scopes, scope) {
			return t, fmt.Errorf("%w: the configuration does not give client %q the scope %q; add it to the client's scopes first", entityevent.ErrInvalid, q.Client, scope)
		}
	}
	return t, nil
}

func errNoClient(name string) error {
	return fmt.Errorf("%w: there is no client %q in the configuration; add it to producer.clients first", entityevent.ErrInvalid, name)
}

func (a *agent) listTokens(w http.ResponseWriter, r *http.Request) {
	tokens, err := a.authority.List(r.Context())
	if err != nil {
		refuse(w, err)
		return
	}
	if tokens == nil {
		tokens = []bearer.Token{}
	}
	reply.Write(w, http.StatusOK, reply.JSON, tokens)
}

// revokeToken ends a token, and the sessions and channels of its client: nobody knows which of them were got with it.
func (a *agent) revokeToken(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	err := a.authority.Revoke(r.Context(), id)
	var all []bearer.Token
	if err == nil {
		all, err = a.authority.List(r.Context())
	}
	if err != nil {
		refuse(w, err)
		return
	}
	for _, t := range all {
		if t.ID == id && t.Audience == bearer.API {
			a.box.End(t.Client)
			a.sessions.End(t.Client)
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// newSecret makes a client's secret for OAuth2, and ends the one before.
func (a *agent) newSecret(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if _, known := a.gate.clients[name]; !known {
		refuse(w, errNoClient(name))
		return
	}
	secret, err := a.authority.NewSecret(r.Context(), name)
	if err != nil {
		refuse(w, err)
		return
	}
	reply.Write(w, http.StatusCreated, reply.JSON, clientSecret{name, secret})
}

// clientSecret is the answer to a new secret.
type clientSecret struct {
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
}

// revokedClient is the answer to the revocation of a client.
type revokedClient struct {
	Client    string   `json:"client"`
	Tokens    int      `json:"tokens"`              // issued ones that ended, beside those that the secret got
	Pushes    []string `json:"pushes,omitempty"`    // subscriptions by which it is still pushed to: they need no token of ours
	Suspended []string `json:"suspended,omitempty"` // those that it registered
}

const revokedReason = "the client was revoked"

// revokeClient ends what a client has, in the configuration or not.
func (a *agent) revokeClient(w http.ResponseWriter, r *http.Request) {
	done := revokedClient{Client: r.PathValue("name")}
	for _, s := range a.subscriptions {
		if s.Client == done.Client {
			done.Pushes = append(done.Pushes, s.Name)
		}
	}
	var unknown, err error
	done.Tokens, unknown = a.authority.RevokeClient(r.Context(), done.Client)
	if err = unknown; unknown == nil || errors.Is(unknown, bearer.ErrNoClient) {
		done.Suspended, err = a.registered.SuspendClient(r.Context(), done.Client, revokedReason) // after its tokens, lest it registers more
	}
	a.box.End(done.Client)
	a.sessions.End(done.Client)
	if err == nil && done.Pushes == nil && done.Suspended == nil {
		err = unknown
	}
	if err != nil {
		refuse(w, err)
		return
	}
	reply.Write(w, http.StatusOK, reply.JSON, done)
}
