package producer

import (
	"net/http"
	"net/url"
	"strconv"
)

// service answers with the service document.
func (x *exchange) service() error {
	names, err := x.Schema.Resources(x.r.Context())
	if err != nil {
		return err
	}
	s := x.stream(http.StatusOK)
	defer s.release()
	s.text(`{"@odata.context":`)
	s.quoted(x.Root + "/$metadata")
	s.text(`,"value":[`)
	for i, name := range names {
		if i > 0 {
			s.text(",")
		}
		s.text(`{"name":`)
		s.quoted(name)
		s.text(`,"kind":"EntitySet","url":`)
		s.quoted(url.PathEscape(name))
		s.text("}")
	}
	s.text("]}")
	s.end()
	return nil
}

// metadata answers with the EDMX.
func (x *exchange) metadata() error {
	text, err := x.Schema.EDMX(x.r.Context())
	if err != nil {
		return err
	}
	h := x.w.Header()
	h.Set("Content-Type", "application/xml; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	if _, err := x.w.Write(text); err != nil {
		x.abort(x.r, err)
	}
	return nil
}
