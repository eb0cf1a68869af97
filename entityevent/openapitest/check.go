package openapitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	validation "github.com/pb33f/libopenapi-validator/errors"
	"github.com/pb33f/libopenapi-validator/parameters"
	v3 "github.com/pb33f/libopenapi/datamodel/high/v3"
	"github.com/pb33f/libopenapi/orderedmap"
)

const (
	maxBody = 1 << 20 // of a body that is looked at
	ends    = 20      // entries of a long collection that are looked at, first and last
)

// plain are the headers of HTTP itself, which a document need not name.
var plain = []string{
	"Accept-Ranges", "Access-Control-Allow-Credentials", "Access-Control-Allow-Headers", "Access-Control-Allow-Methods",
	"Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Access-Control-Max-Age", "Cache-Control", "Connection",
	"Content-Encoding", "Content-Length", "Content-Type", "Date", "Trailer", "Transfer-Encoding", "Vary", "X-Content-Type-Options",
}

// plainAsked are the headers of HTTP itself in a request of the server's own.
var plainAsked = []string{"Accept", "Accept-Encoding", "Authorization", "Content-Encoding", "Content-Length", "Content-Type", "User-Agent"}

// answer checks an answer.
func (d *Document) answer(m match, response *v3.Response, answer *http.Response, body []byte) []string {
	problems := d.headers(response, answer.Header)
	head := answer.Request != nil && answer.Request.Method == http.MethodHead
	switch {
	case orderedmap.Len(response.Content) == 0:
		if len(body) > 0 {
			problems = append(problems, fmt.Sprintf("a body, where the document has none: %.200s", body))
		}
		return problems
	case body == nil && !head, answer.StatusCode == http.StatusPartialContent:
		return problems // it was too long to be kept, or is a part, which has no form of its own
	case len(body) == 0 && answer.Header.Get("Content-Type") == lines:
		return problems
	case len(body) == 0 && !head:
		return append(problems, "no body")
	}
	checked := *answer
	checked.Body = http.NoBody
	if !head {
		checked.Body = io.NopCloser(bytes.NewReader(shorten(body)))
	}
	asked := &http.Request{Method: m.method, URL: answer.Request.URL, Header: answer.Request.Header}
	if head {
		asked.Method = http.MethodHead
	}
	item := m.narrowed(response, answer.Header.Get("Content-Type"))
	_, found := d.validator.GetResponseBodyValidator().ValidateResponseBodyWithPathItem(asked, &checked, item, m.template)
	return append(problems, texts(found)...)
}

// narrowed is the path with the one media type that fits the answer best: the validator knows none with
// parameters, as application/json;odata.metadata=none.
func (m match) narrowed(response *v3.Response, contentType string) *v3.PathItem {
	kind, given, err := mime.ParseMediaType(contentType)
	if err != nil {
		return m.item
	}
	var best *v3.MediaType
	most := 0
	for text, media := range response.Content.FromOldest() {
		if other, wanted, err := mime.ParseMediaType(text); err == nil && other == kind && len(wanted) > most && within(wanted, given) {
			best, most = media, len(wanted)
		}
	}
	if best == nil {
		return m.item
	}
	narrow := *response
	narrow.Content = orderedmap.New[string, *v3.MediaType]()
	narrow.Content.Set(kind, best)
	operation := *m.operation
	operation.Responses = &v3.Responses{Codes: orderedmap.New[string, *v3.Response]()}
	for status, r := range m.operation.Responses.Codes.FromOldest() {
		if r == response {
			operation.Responses.Codes.Set(status, &narrow)
		}
	}
	return &v3.PathItem{Get: &operation, Put: &operation, Post: &operation, Patch: &operation, Delete: &operation}
}

func within(wanted, given map[string]string) bool {
	for name, value := range wanted {
		if given[name] != value {
			return false
		}
	}
	return true
}

// headers checks the headers of an answer.
func (d *Document) headers(response *v3.Response, answer http.Header) []string {
	var problems []string
	answer = canonical(answer)
	described := d.described[response]
	for name := range answer {
		declared := func(other string) bool { return strings.EqualFold(name, other) }
		if !slices.ContainsFunc(plain, declared) && !slices.ContainsFunc(slices.Collect(described.KeysFromOldest()), declared) {
			problems = append(problems, "the header "+name+" is not in the document")
		}
	}
	slices.Sort(problems)
	for name, header := range described.FromOldest() {
		values := answer.Values(name)
		if header.Required && len(values) == 0 {
			problems = append(problems, "the header "+name+" is missing")
		}
		for _, text := range values {
			var value any = text
			schema := header.Schema.Schema()
			if n, err := strconv.ParseInt(text, 10, 64); err == nil && slices.Contains(schema.Type, "integer") {
				value = n
			}
			problems = append(problems, texts(parameters.ValidateSingleParameterSchema(schema, value, "header", "the header", name,
				"response", "header", d.options, "", ""))...)
		}
	}
	return problems
}

// canonical are the headers as they arrive, however a handler in this process spells them.
func canonical(h http.Header) http.Header {
	all := http.Header{}
	for name, values := range h {
		all[http.CanonicalHeaderKey(name)] = append(all[http.CanonicalHeaderKey(name)], values...)
	}
	return all
}

// request checks a request that was accepted.
func (d *Document) request(m match, r *http.Request, body []byte) []string {
	if !m.described {
		return nil
	}
	var problems []string
	for name := range r.URL.Query() {
		if strings.HasPrefix(name, "$") && !slices.ContainsFunc(slices.Concat(m.operation.Parameters, m.item.Parameters), func(p *v3.Parameter) bool {
			return p.In == "query" && strings.EqualFold(p.Name, name)
		}) {
			problems = append(problems, "the option "+name+" is not in the document")
		}
	}
	slices.Sort(problems)
	asked := r.Clone(r.Context())
	asked.Method = m.method
	_, found := d.validator.GetParameterValidator().ValidateHeaderParamsWithPathItem(asked, m.item, m.template)
	problems = append(problems, texts(found)...)
	if m.operation.RequestBody != nil && body != nil {
		asked.Body = io.NopCloser(bytes.NewReader(body))
		asked.Header.Del("Content-Encoding")
		if kind, _, err := mime.ParseMediaType(asked.Header.Get("Content-Type")); err == nil && strings.HasSuffix(kind, "+json") {
			asked.Header.Set("Content-Type", "application/*+json") // the validator knows no ranges
		}
		_, found = d.validator.GetRequestBodyValidator().ValidateRequestBodyWithPathItem(asked, m.item, m.template)
		problems = append(problems, texts(found)...)
	}
	return problems
}

// Webhook returns what is wrong with a request that the server sent to another: the post operation of the
// document's webhook with that name.
func (d *Document) Webhook(name string, r *http.Request, body []byte) []string {
	item := d.model.Webhooks.GetOrZero(name)
	if item == nil {
		return []string{"the document has no webhook " + name}
	}
	return d.sent(item, name, r, body)
}

// Callback returns what is wrong with a request that the server sent to an address which it was given: the post
// operation of the callback with that name, of the operation with that id.
func (d *Document) Callback(operationID, name string, r *http.Request, body []byte) []string {
	for _, item := range d.model.Paths.PathItems.FromOldest() {
		for _, operation := range item.GetOperations().FromOldest() {
			if operation.OperationId != operationID || operation.Callbacks == nil {
				continue
			}
			if callback := operation.Callbacks.GetOrZero(name); callback != nil {
				for expression, item := range callback.Expression.FromOldest() {
					return d.sent(item, expression, r, body)
				}
			}
		}
	}
	return []string{"the document has no callback " + name + " of an operation " + operationID}
}

// sent checks a request of the server's own.
func (d *Document) sent(item *v3.PathItem, template string, r *http.Request, body []byte) []string {
	d.mu.Lock() // the validator compiles such a schema in place when it first meets it
	defer d.mu.Unlock()
	sent := r.Clone(r.Context())
	problems := undeclared(item.Post, r.Header)
	_, found := d.validator.GetParameterValidator().ValidateHeaderParamsWithPathItem(sent, item, template)
	sent.Body = io.NopCloser(bytes.NewReader(body))
	_, inBody := d.validator.GetRequestBodyValidator().ValidateRequestBodyWithPathItem(sent, item, template)
	return append(problems, texts(append(found, inBody...))...)
}

// undeclared are the headers of a request of the server's own that the document does not name.
func undeclared(operation *v3.Operation, h http.Header) []string {
	var problems []string
	for name := range h {
		if !slices.Contains(plainAsked, http.CanonicalHeaderKey(name)) && !slices.ContainsFunc(operation.Parameters, func(p *v3.Parameter) bool {
			return p.In == "header" && strings.EqualFold(p.Name, name)
		}) {
			problems = append(problems, "the header "+name+" is not in the document")
		}
	}
	slices.Sort(problems)
	return problems
}

// shorten leaves the first and last entries of a long collection.
func shorten(body []byte) []byte {
	if len(body) < 64<<10 {
		return body
	}
	var page map[string]json.RawMessage
	var entries []json.RawMessage
	if json.Unmarshal(body, &page) != nil || json.Unmarshal(page["value"], &entries) != nil || len(entries) <= 2*ends {
		return body
	}
	var err error
	if page["value"], err = json.Marshal(slices.Concat(entries[:ends], entries[len(entries)-ends:])); err != nil {
		return body
	}
	short, err := json.Marshal(page)
	if err != nil {
		return body
	}
	return short
}

// texts are the problems in words.
func texts(found []*validation.ValidationError) []string {
	var all []string
	for _, e := range found {
		text := e.Message + ": " + e.Reason
		for _, s := range e.SchemaValidationErrors {
			text += "; " + s.FieldPath + " " + s.Reason
		}
		all = append(all, text)
	}
	return all
}
