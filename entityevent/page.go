package entityevent

// ReadPage walks a page of records as an OData service sends it: an object with a value array. It calls
// each with every record's key, which is the member named key, a string or a number, or "" without one,
// and with the record's text, which stays part of raw. It returns the page's nextLink, "" on the last
// page. It reads the text once.
//
// A page that is cut, or is anything else than one such object, is ErrInvalid; each may by then have
// been called for records that stand before the fault.
func ReadPage(raw []byte, key string, each func(key string, record []byte) error) (next string, err error) {
	s := &scanner{src: raw}
	found := false
	err = s.object(func(name []byte) error {
		switch string(name) {
		case `"@odata.nextLink"`, `"@nextLink"`:
			text, err := s.scalar()
			next = string(text)
			return err
		case `"value"`:
			if found {
				return s.errorf("value stands twice")
			}
			found = true
			return s.list('[', ']', func() error { return s.keyed(key, each) })
		}
		_, err := s.skip(2)
		return err
	})
	if err == nil {
		err = s.end()
	}
	if err == nil && !found {
		err = s.errorf("want a value array")
	}
	return next, err
}

// keyed walks one record and calls each with its key and its text.
func (s *scanner) keyed(key string, each func(key string, record []byte) error) error {
	s.space()
	start := s.pos
	var found string
	err := s.object(func(name []byte) error {
		if string(unquote(name)) != key {
			_, err := s.skip(3)
			return err
		}
		if c := s.space(); c == '{' || c == '[' || c == 't' || c == 'f' {
			return s.errorf("the key %s is neither a string nor a number", key)
		}
		text, err := s.scalar()
		found = string(text)
		return err
	})
	if err != nil {
		return err
	}
	return each(found, s.src[start:s.pos])
}
