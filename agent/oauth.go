package main

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/reply"
)

// maxTokenRequest bounds the body of a request for a token, in bytes.
const maxTokenRequest = 16 << 10

// oauth answers POST /oauth/token: the client credentials grant (RFC 6749, 4.4).
type oauth struct{ gate gate }

// grantError is an error of RFC 6749, 5.2.
type grantError struct {
	status            int
	code, description string
}

func (e *grantError) Error() string { return e.description }

func invalidRequest(description string) error {
	return &grantError{http.StatusBadRequest, "invalid_request", description}
}

// errClient is the one answer to whoever is not a client with a secret, or has another secret.
var errClient = &grantError{http.StatusUnauthorized, "invalid_client", "The client is not known, or the secret is not its own"}

func (o oauth) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const allow = "POST, OPTIONS"
	switch r.Method {
	case http.MethodPost:
	case http.MethodOptions:
		w.Header().Set("Allow", allow)
		w.WriteHeader(http.StatusNoContent)
		return
	default:
		w.Header().Set("Allow", allow)
		oauthError(w, http.StatusMethodNotAllowed, "invalid_request", "A token is asked for by POST")
		return
	}
	granted, err := o.grant(w, r)
	var refused *grantError
	switch {
	case err == nil:
		w.Header().Set("Pragma", "no-cache")
		reply.Write(w, http.StatusOK, reply.JSON, granted)
	case errors.As(err, &refused):
		oauthError(w, refused.status, refused.code, refused.description)
	default: // what the store says is not for strangers
		w.Header().Set("Retry-After", "5")
		oauthError(w, http.StatusServiceUnavailable, oauthCode(http.StatusServiceUnavailable), "The store does not answer. Try again")
	}
}

// grant is what a request is answered with.
type granted struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int    `json:"expires_in"` // seconds
	Scope       string `json:"scope"`
}

func (o oauth) grant(w http.ResponseWriter, r *http.Request) (granted, error) {
	form, err := readForm(w, r)
	if err != nil {
		return granted{}, err
	}
	client, secret, err := credentialsOf(r, form)
	if err != nil {
		return granted{}, err
	}
	switch grant := form.Get("grant_type"); grant {
	case "client_credentials":
	case "":
		return granted{}, invalidRequest("grant_type is missing: the one here is client_credentials")
	default:
		return granted{}, &grantError{http.StatusBadRequest, "unsupported_grant_type", "The one grant_type here is client_credentials"}
	}
	may := o.gate.clients[client].scopes
	scopes := narrow(may, form.Get("scope"))
	token, err := o.gate.authority.Grant(r.Context(), client, secret, scopes)
	switch {
	case errors.Is(err, bearer.ErrSecret), err == nil && may == nil: // no longer in the configuration
		return granted{}, errClient
	case err != nil:
		return granted{}, err
	case len(scopes) == 0:
		return granted{}, &grantError{http.StatusBadRequest, "invalid_scope", "The client has none of these scopes. It has: " + strings.Join(may, " ")}
	}
	if v := visitOf(r.Context()); v != nil {
		v.client = client
	}
	return granted{token, "Bearer", int(bearer.GrantLife.Seconds()), strings.Join(scopes, " ")}, nil
}

// readForm reads the parameters of the body (RFC 6749, 3.2): each once, and one without a value as if it were
// left out.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, invalidRequest("The body must be application/x-www-form-urlencoded")
	}
	for _, name := range []string{"client_id", "client_secret", "grant_type"} {
		if r.URL.Query().Has(name) {
			return nil, invalidRequest(name + " stands in the URL, where logs keep it: send it in the body")
		}
	}
	tooLong := &grantError{http.StatusRequestEntityTooLarge, "invalid_request", fmt.Sprintf("The body is longer than %d bytes", maxTokenRequest)}
	if r.ContentLength > maxTokenRequest { // who waits for a 100 is not told to send it
		return nil, tooLong
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxTokenRequest))
	if errors.As(err, new(*http.MaxBytesError)) {
		return nil, tooLong
	}
	if err != nil {
		return nil, invalidRequest("The body cannot be read to its end")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, invalidRequest("The body is no form")
	}
	for name, values := range form {
		if len(values) > 1 {
			return nil, invalidRequest(fmt.Sprintf("%.40q stands there more than once", name))
		}
	}
	return form, nil
}

// credentialsOf reads who asks: from the Authorization header or from the body, and not from both.
func credentialsOf(r *http.Request, form url.Values) (client, secret string, err error) {
	header := r.Header.Values("Authorization")
	if len(header) == 0 {
		if client, secret = form.Get("client_id"), form.Get("client_secret"); client == "" || secret == "" {
			return "", "", &grantError{http.StatusUnauthorized, "invalid_client", "client_id and client_secret are wanted: in the body, or as Basic authentication"}
		}
		return client, secret, nil
	}
	user, password, ok := r.BasicAuth()
	// Both were encoded like a form before they were put together (RFC 6749, 2.3.1).
	client, clientErr := url.QueryUnescape(user)
	secret, secretErr := url.QueryUnescape(password)
	switch {
	case len(header) > 1, form.Get("client_secret") != "":
		return "", "", invalidRequest("The client shows who it is in more than one way")
	case !ok, clientErr != nil, secretErr != nil, client == "", secret == "":
		return "", "", errClient
	case form.Get("client_id") != "" && form.Get("client_id") != client:
		return "", "", invalidRequest("client_id is another than in the Authorization header")
	}
	return client, secret, nil
}

// narrow is what of the scopes that a client may have it asked for; all, if it did not say.
func narrow(may []string, asked string) []string {
	wanted := strings.Fields(asked)
	if len(wanted) == 0 {
		return may
	}
	var scopes []string
	for _, scope := range may {
		if slices.Contains(wanted, scope) {
			scopes = append(scopes, scope)
		}
	}
	return scopes
}

// oauthCode is the error of RFC 6749 for what is refused before a token was looked for.
func oauthCode(status int) string {
	if status == http.StatusTooManyRequests || status >= 500 {
		return "temporarily_unavailable"
	}
	return "invalid_request"
}

func oauthError(w http.ResponseWriter, status int, code, description string) {
	h := w.Header()
	h.Set("Pragma", "no-cache")
	if status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Basic realm="resosync", charset="UTF-8"`)
	}
	reply.Write(w, status, reply.JSON, map[string]string{"error": code, "error_description": description})
}
