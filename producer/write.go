package producer

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// write answers POST, PUT, PATCH and DELETE (RCP-10). The change is durable before it is answered, and
// its event can be read.
func (x *exchange) write() error {
	key, edmType, err := x.resource()
	if err != nil {
		return err
	}
	c := entityevent.Change{Ref: entityevent.Ref{Resource: x.path.Resource}}
	if x.path.Key != nil {
		c.Key = *x.path.Key
	}
	switch x.r.Method {
	case http.MethodPost:
		c.Op, c.Only = entityevent.Put, entityevent.New
	case http.MethodPut:
		c.Op = entityevent.Put
	case http.MethodPatch:
		c.Op, c.Only = entityevent.Merge, entityevent.Present
	case http.MethodDelete:
		c.Op, c.Only = entityevent.Remove, entityevent.Present
	}
	if err := x.checkQuery(); err != nil {
		return err
	}
	if c.Op != entityevent.Remove {
		body, err := x.body()
		if err != nil {
			return err
		}
		if err := x.fill(&c, body, key, edmType); err != nil {
			return err
		}
	}
	if err := x.condition(&c); err != nil {
		return err
	}
	for tries := 1; ; tries++ {
		change, pinned, err := x.merged(c)
		if err != nil {
			return err
		}
		outcomes, err := x.Store.Apply(x.r.Context(), entityevent.Commit{Feed: x.feed(), Changes: []entityevent.Change{change}})
		if err != nil {
			return err
		}
		switch err := outcomes[0].Err; {
		case err == nil:
			return x.written(c.Key, edmType, outcomes[0])
		case !pinned || !errors.Is(err, entityevent.ErrConflict):
			return x.refusal(c, err)
		case tries == 1: // those who met take turns
			x.merges.Lock()
			defer x.merges.Unlock()
		case tries == maxMerges:
			return errors.New("a merge met other writers again and again")
		}
	}
}

// checkQuery refuses what asks for something in the URL of a write.
func (x *exchange) checkQuery() (err error) {
	if x.options, err = odata.ParseOptions(x.r.URL.RawQuery); err != nil {
		return err
	}
	for name := range x.r.URL.Query() {
		if strings.HasPrefix(name, "$") && !strings.EqualFold(name, "$format") {
			return badRequest(name, name+" is for reading")
		}
	}
	return x.checkFormat()
}

// fill puts the body into the change, and key and body into agreement.
func (x *exchange) fill(c *entityevent.Change, body []byte, key, edmType string) error {
	if err := x.Schema.validate(c.Resource, c.Op, body); err != nil {
		return err
	}
	if x.Schema.fieldType(c.Resource, "value") == "" && bytes.IndexAny(entityevent.Member(body, "value"), "[{") == 0 {
		return wrong("value", "The body is one record: import takes many")
	}
	c.Body = body
	inBody, err := bodyKey(body, key)
	switch {
	case err != nil:
		return wrong(key, err.Error())
	case inBody == "" && x.path.Key == nil:
		if !quoted(edmType) && edmType != "Edm.Guid" {
			return wrong(key, "The record needs its key "+key)
		}
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		c.Key = id.String()
		c.Body = withMember(body, key, c.Key, edmType)
	case inBody == "" && c.Op == entityevent.Put:
		c.Body = withMember(body, key, c.Key, edmType)
		if err := x.Schema.validate(c.Resource, entityevent.Merge, c.Body); err != nil { // by the key in the URL
			return err
		}
	case x.path.Key == nil:
		c.Key = inBody
	case inBody != "" && inBody != c.Key:
		return wrong(key, fmt.Sprintf("%s in the body is not the key in the URL", key))
	}
	if err := c.Ref.Validate(); err != nil {
		return wrong(key, err.Error())
	}
	return nil
}

// bodyKey returns the key that a record holds, "" if it has no such member.
func bodyKey(body []byte, field string) (string, error) {
	text := entityevent.Member(body, field)
	if text == nil {
		return "", nil
	}
	key := entityevent.StringMember(body, field)
	if key == "" || text[0] != '"' && bytes.ContainsAny(text, ".eE") {
		return "", errors.New(field + " is a string that is not empty, or a whole number")
	}
	return key, nil
}

// withMember returns body with a first member more. The value is a number only if it is written as JSON
// writes one: 007 is no number, and another key than 7.
func withMember(body []byte, name, value, edmType string) json.RawMessage {
	out := append(appendString([]byte{'{'}, name), ':')
	if n, err := strconv.ParseInt(value, 10, 64); err == nil && strconv.FormatInt(n, 10) == value && !quoted(edmType) {
		out = append(out, value...)
	} else {
		out = appendString(out, value)
	}
	rest := bytes.TrimSpace(body[1:])
	if rest[0] != '}' {
		out = append(out, ',')
	}
	return append(out, rest...)
}

// condition reads If-Match and If-None-Match. A POST has none: it is about the collection, which has no tag.
//
// The store compares one hash, or whether there is a record. What takes more is decided by the record as it
// is now, and the store checks that it still is.
func (x *exchange) condition(c *entityevent.Change) error {
	match, none := x.list("If-Match"), x.list("If-None-Match")
	switch {
	case x.r.Method == http.MethodPost, match == "" && none == "":
		return nil
	case match == "" && none == "*" && c.Op == entityevent.Put:
		c.Only = entityevent.New
		return nil
	case match == "*" && none == "":
		c.Only = entityevent.Present
		return nil
	case none == "" && len(tags(match)) == 1:
		hash, err := hex.DecodeString(tags(match)[0])
		if err != nil || copy(c.IfHash[:], hash) != len(c.IfHash) || len(hash) != len(c.IfHash) || c.IfHash.IsZero() {
			return stale("If-Match") // no record ever had this tag
		}
		return nil
	}
	for record, err := range x.Store.Read(x.r.Context(), x.view, entityevent.Query{Resource: c.Resource, Keys: []string{c.Key}}) {
		switch {
		case err != nil:
			return err
		case match != "" && !matches(match, record.Hash):
			return stale("If-Match")
		case none != "" && matches(none, record.Hash):
			return stale("If-None-Match")
		}
		c.IfHash = record.Hash
		return nil
	}
	switch {
	case c.Op != entityevent.Put:
		return x.absent(c.Key)
	case match != "":
		return stale("If-Match")
	}
	c.Only = entityevent.New
	return nil
}

// list returns a header that is a list, which may stand in several lines.
func (x *exchange) list(header string) string {
	return strings.TrimSpace(strings.Join(x.r.Header.Values(header), ","))
}

// stale refuses what one of the two headers does not allow.
func stale(header string) error {
	return &odata.Error{Status: http.StatusPreconditionFailed, Target: header, Message: "The record is not what the request takes it for: read it again"}
}

// refusal is what a refused change is answered with.
func (x *exchange) refusal(c entityevent.Change, err error) error {
	switch {
	case errors.Is(err, entityevent.ErrExists) && x.r.Method == http.MethodPost:
		return &odata.Error{Status: http.StatusConflict, Message: "There is a " + c.Resource + " with the key " + strconv.Quote(c.Key) + " already"}
	case errors.Is(err, entityevent.ErrExists):
		return stale("If-None-Match")
	case errors.Is(err, entityevent.ErrAbsent) && x.r.Method == http.MethodPut:
		return stale("If-Match")
	case errors.Is(err, entityevent.ErrAbsent):
		return x.absent(c.Key)
	case errors.Is(err, entityevent.ErrConflict):
		return stale("If-Match")
	}
	return err
}

// written answers a change that was made.
func (x *exchange) written(key, edmType string, o entityevent.Outcome) error {
	h := x.w.Header()
	if x.r.Method == http.MethodDelete {
		x.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	created := o.Before.IsZero()
	h.Set("Location", x.url(key, edmType))
	h.Set("EntityId", headerText(key))
	h.Set("OData-EntityId", x.url(key, edmType))
	h.Set("ETag", etag(o.Hash))
	if x.prefer.ret == "" { // RCP-10 wants to see in any case which it is
		x.prefer.ret = "minimal"
		if x.r.Method == http.MethodPost || created {
			x.prefer.ret = "representation"
		}
	}
	applied(h, "return", x.prefer.ret)
	if x.prefer.ret == "minimal" {
		x.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	record, err := x.find(x.r.Context(), key)
	if err == nil && x.format.strings { // which numbers are written so say the types
		err = x.Schema.catchUp(x.r.Context())
	}
	if err != nil {
		// The change is made, whatever became of the record or the store since.
		x.w.WriteHeader(http.StatusNoContent)
		return nil //nolint:nilerr // an error answer would say that nothing was written
	}
	x.writeRecord(status, record, edmType)
	return nil
}

// headerText writes a key as a header's value: as it is if it is printable ASCII, else percent-encoded.
func headerText(key string) string {
	for i := 0; i < len(key); i++ {
		if key[i] < ' ' || key[i] > '~' {
			return odata.EscapeQuery(key)
		}
	}
	return key
}
