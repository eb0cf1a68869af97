package producer

import (
	"net/http"
	"net/url"
	"slices"

	"github.com/resosync/resosync/entityevent/metadata"
)

// service answers with the service document.
func (x *exchange) service() error {
	names, err := x.Schema.Resources(x.r.Context())
	if err != nil {
		return err
	}
	_ = x.Schema.look(func(m *metadata.Schema) error {
		names = slices.DeleteFunc(names, func(name string) bool { return !m.Shows(name) })
		return nil
	})
	s := x.stream(http.StatusOK)
	defer s.release()
	s.text("{")
	if !x.format.bare() {
		s.member("@odata.context")
		s.quoted(x.Root + "/$metadata")
	}
	s.member("value")
	s.text("[")
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
	s := x.stream(http.StatusOK)
	defer s.release()
	s.contentType = "application/xml; charset=utf-8"
	s.buf = append(s.buf, text...)
	s.end()
	return nil
}
