package odata

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
)

// Error is a refusal as OData writes it. Its texts are shown to the other side.
type Error struct {
	Status  int    // HTTP status
	Code    string // for programs; empty: the status
	Message string // for people: one sentence
	Target  string // the field, option or header that it is about
	Details []Detail
}

// Detail is one of several reasons of an Error.
type Detail struct {
	Code    string `json:"code"`
	Target  string `json:"target"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

func refuse(status int, target, message string) *Error {
	return &Error{Status: status, Target: target, Message: message}
}

// WriteError answers a request with err: an *Error as it is, any other as a 500 without its text. It
// must be called before anything else of the response was written.
func WriteError(w http.ResponseWriter, err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Status: http.StatusInternalServerError, Message: "The request failed on this side. Try again."}
	}
	type inner struct {
		Code    string   `json:"code"`
		Message string   `json:"message"`
		Target  string   `json:"target"`
		Details []Detail `json:"details"`
	}
	in := inner{e.Code, e.Message, e.Target, e.Details}
	if in.Code == "" {
		in.Code = strconv.Itoa(e.Status)
	}
	if in.Details == nil {
		in.Details = []Detail{}
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Del("ETag")
	h.Del("Content-Length")
	w.WriteHeader(e.Status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(map[string]inner{"error": in}) // the reader is gone: there is nobody to tell
}
