package producer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/klauspost/compress/gzip"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
	"github.com/resosync/resosync/entityevent/reply"
)

// body reads the request's body: one JSON object.
func (x *exchange) body() ([]byte, error) {
	unsupported := &odata.Error{Status: http.StatusUnsupportedMediaType, Target: "Content-Type", Message: "The body is application/json in UTF-8"}
	if !reply.IsJSON(x.r.Header.Get("Content-Type")) {
		return nil, unsupported
	}
	limit := x.maxBody()
	if x.r.ContentLength > limit { // who waits for a 100 is not told to send it
		return nil, tooLarge(limit)
	}
	var in io.Reader = http.MaxBytesReader(x.w, x.r.Body, limit)
	switch encoding := strings.ToLower(strings.TrimSpace(x.r.Header.Get("Content-Encoding"))); encoding {
	case "", "identity":
	case "gzip", "x-gzip":
		unzipped, err := gzip.NewReader(in)
		if err != nil {
			return nil, unread(err, limit)
		}
		defer unzipped.Close()
		in = unzipped
	default:
		x.w.Header().Set("Accept-Encoding", "gzip, identity")
		unsupported.Target, unsupported.Message = "Content-Encoding", "The body is as it is, or compressed by gzip"
		return nil, unsupported
	}
	body, err := io.ReadAll(io.LimitReader(in, limit+1))
	switch {
	case err != nil:
		return nil, unread(err, limit)
	case int64(len(body)) > limit: // what is small on its way may be large here
		return nil, tooLarge(limit)
	}
	// Before it is changed: an error tells the place in the body that was sent.
	if _, err := entityevent.Canonicalize(body); err != nil {
		return nil, err
	}
	if half := halfCharacter(body); half != "" {
		return nil, badRequest("", "The body has "+half+", which is half of a character")
	}
	if _, parameters, _ := mime.ParseMediaType(x.r.Header.Get("Content-Type")); strings.EqualFold(parameters["ieee754compatible"], "true") {
		return x.numbers(body)
	}
	return bytes.TrimSpace(body), nil
}

// halfCharacter returns a surrogate that stands in JSON without its other half, "" if there is none: it is no text, and
// different ones would become the same.
func halfCharacter(body []byte) string {
	unit := func(at int) uint64 { // of an escape, 0 for none
		if at+6 > len(body) || body[at] != '\\' || body[at+1] != 'u' {
			return 0
		}
		n, _ := strconv.ParseUint(string(body[at+2:at+6]), 16, 16) // it is JSON
		return n
	}
	for at := 0; ; at += 2 { // over the character after the backslash, which may be another
		next := bytes.IndexByte(body[min(at, len(body)):], '\\')
		if next < 0 {
			return ""
		}
		at += next
		switch n := unit(at); {
		case !utf16.IsSurrogate(rune(n)):
		case n < 0xDC00 && unit(at+6)&0xFC00 == 0xDC00:
			at += 6
		default:
			return string(body[at : at+6])
		}
	}
}

func (x *exchange) maxBody() int64 {
	if x.MaxBody <= 0 {
		return defaultBody
	}
	return x.MaxBody
}

// unread is why a body could not be read.
func unread(err error, limit int64) error {
	if errors.As(err, new(*http.MaxBytesError)) {
		return tooLarge(limit)
	}
	return badRequest("", "The body could not be read to its end")
}

func tooLarge(limit int64) error {
	return &odata.Error{Status: http.StatusRequestEntityTooLarge, Message: fmt.Sprintf("The body is larger than %d bytes", limit)}
}

// numbers writes the numbers of a body that has those of 64 bits and decimals as strings
// (IEEE754Compatible) as numbers.
func (x *exchange) numbers(body []byte) ([]byte, error) {
	if err := x.Schema.catchUp(x.r.Context()); err != nil {
		return nil, err
	}
	out := []byte{'{'}
	err := entityevent.EachMember(body, func(name string, value []byte) error {
		switch x.Schema.fieldType(x.path.Resource, name) {
		case "Edm.Int64", "Edm.Decimal":
			value = asNumber(value)
		case "Collection(Edm.Int64)", "Collection(Edm.Decimal)":
			var elements []json.RawMessage
			if value[0] != '[' || json.Unmarshal(value, &elements) != nil {
				break
			}
			all := make([][]byte, len(elements))
			for i, e := range elements {
				all[i] = asNumber(e)
			}
			value = append(append([]byte{'['}, bytes.Join(all, []byte{','})...), ']')
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(appendString(out, name), ':'), value...)
		return nil
	})
	return append(out, '}'), err
}

// asNumber returns the number that stands in a string, and anything else as it is.
func asNumber(value []byte) []byte {
	if inner := bytes.Trim(value, `"`); len(inner) == len(value)-2 && json.Valid(inner) && (inner[0] == '-' || inner[0] >= '0' && inner[0] <= '9') {
		return inner
	}
	return value
}
