package producer

import (
	"bytes"
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
	known, err := x.known(names)
	if err != nil {
		return err
	}
	_ = x.Schema.look(func(m *metadata.Schema) error {
		names = slices.DeleteFunc(names, func(name string) bool { return !m.Shows(name) || !known[name] })
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

// metadata answers with the EDMX, as far as the client may know it.
func (x *exchange) metadata() error {
	text, err := x.edmx()
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

func (x *exchange) edmx() ([]byte, error) {
	if !x.client.limited() {
		return x.Schema.EDMX(x.r.Context())
	}
	names, err := x.Schema.Resources(x.r.Context())
	if err != nil {
		return nil, err
	}
	known, err := x.known(names)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = x.Schema.look(func(m *metadata.Schema) error {
		return m.WritePart(&b, part{&binder{exchange: x, model: m}, known})
	})
	return b.Bytes(), err
}
