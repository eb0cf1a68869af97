// Package openapitest checks what a server does against its OpenAPI document: every request that it
// accepted, and every answer that it gave, while tests of anything else go on.
//
// Checked of an answer are its status, the media type, each member of the body, and the headers: the ones
// that are required, the form of the others, and that each is in the document, but for those of HTTP itself.
// A request is checked if it was answered with success: its query options, headers and body. Those that
// were refused may be as wrong as they like. HEAD is checked as GET. What the document does not describe
// must be answered as its path item "elsewhere" says.
//
// It is meant for thousands of answers: schemas are compiled once, of a long collection the first and last
// 20 entries are looked at, and of a body beyond 1 MB the headers alone. That is 0.1 to 0.5 ms of CPU for
// an answer.
package openapitest

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"
	"github.com/pb33f/libopenapi-validator/content"
	v3 "github.com/pb33f/libopenapi/datamodel/high/v3"
	"github.com/pb33f/libopenapi/orderedmap"
)

// lines is the media type of JSON Lines: many values, or none.
const lines = "application/x-ndjson"

// Elsewhere is the name of the path item, among the components, that says how everything is answered
// that the document does not describe: its get operation for whatever method, its options for OPTIONS.
const Elsewhere = "elsewhere"

// Document is an OpenAPI document that exchanges are checked against.
type Document struct {
	model     *v3.Document
	validator validator.Validator
	options   *config.ValidationOptions
	routes    []route
	// The headers of each response are checked here, and hidden from the validator, which reads 4.01 as a number.
	described map[*v3.Response]*orderedmap.Map[string, *v3.Header]

	mu   sync.Mutex      // also of webhooks
	seen map[string]bool // operation and status of successes
}

// route is a path of the document.
type route struct {
	template string
	pattern  *regexp.Regexp // of unescaped paths
	item     *v3.PathItem
}

// Open reads a document. An error says where it is not valid OpenAPI.
func Open(text []byte) (*Document, error) {
	document, err := libopenapi.NewDocument(text)
	if err != nil {
		return nil, err
	}
	// Its path tree takes EntityEvent(7) for another path: routes are found here.
	options := []config.Option{config.DisablePathTree(), config.WithFormatAssertions(), config.WithBodyDecoder("text/plain", content.TextDecoder()),
		config.WithBodyDecoder(lines, content.TextDecoder())}
	v, errs := validator.NewValidator(document, options...)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if valid, problems := v.ValidateDocument(); !valid {
		return nil, errors.New(strings.Join(texts(problems), "\n"))
	}
	model, err := document.BuildV3Model()
	if err != nil {
		return nil, err
	}
	d := &Document{model: &model.Model, validator: v, options: config.NewValidationOptions(options...), seen: map[string]bool{},
		described: map[*v3.Response]*orderedmap.Map[string, *v3.Header]{}}
	if d.model.Components.PathItems.GetOrZero(Elsewhere) == nil {
		return nil, errors.New("no components.pathItems." + Elsewhere)
	}
	d.hide(d.model.Components.PathItems.GetOrZero(Elsewhere))
	for template, item := range d.model.Paths.PathItems.FromOldest() {
		d.hide(item)
		for _, prefix := range prefixes(item) {
			pattern, err := regexp.Compile("^" + prefix + below(template) + "$")
			if err != nil {
				return nil, fmt.Errorf("path %s: %w", template, err)
			}
			d.routes = append(d.routes, route{template, pattern, item})
		}
	}
	// A path that is spelled out comes before one that a parameter makes fit.
	slices.SortStableFunc(d.routes, func(a, b route) int { return strings.Count(a.template, "{") - strings.Count(b.template, "{") })
	return d, nil
}

// hide takes the headers out of the responses of a path.
func (d *Document) hide(item *v3.PathItem) {
	for _, operation := range item.GetOperations().FromOldest() {
		for _, response := range operation.Responses.Codes.FromOldest() {
			if d.described[response] == nil && response.Headers != nil {
				d.described[response], response.Headers = response.Headers, nil
			}
		}
	}
}

// prefixes are the patterns of the servers that a path names; one that is empty if it names none.
func prefixes(item *v3.PathItem) []string {
	if len(item.Servers) == 0 {
		return []string{""}
	}
	var all []string
	for _, s := range item.Servers {
		all = append(all, below(strings.TrimSuffix(s.URL, "/")))
	}
	return all
}

// below is the pattern of a template. A parameter in parentheses is a key of OData, which may hold
// anything between its quotes.
func below(template string) string {
	const key = `(?:[A-Za-z_]\w*=)?(?:'(?:[^']|'')*'|[^'()]*)`
	pattern := regexp.QuoteMeta(template)
	pattern = regexp.MustCompile(`\\\(\\\{[^}]+\\\}\\\)`).ReplaceAllLiteralString(pattern, `\(`+key+`\)`)
	return regexp.MustCompile(`\\\{[^}]+\\\}`).ReplaceAllLiteralString(pattern, `[^/()]+`)
}

// Check returns what is wrong with an answer, and with the request if it was a success. The bodies are as
// they were sent, but without a Content-Encoding; nil: not known.
func (d *Document) Check(r *http.Request, request []byte, answer *http.Response, body []byte) []string {
	found := d.find(r)
	response := found.response(answer.StatusCode)
	if response == nil {
		return []string{fmt.Sprintf("the document has no status %d for %s %s", answer.StatusCode, found.method, found.template)}
	}
	problems := d.answer(found, response, answer, body)
	if answer.StatusCode < 400 {
		problems = append(problems, d.request(found, r, request)...)
		d.mu.Lock()
		d.seen[found.operation.OperationId+" "+strconv.Itoa(answer.StatusCode)] = true
		d.mu.Unlock()
	}
	return problems
}

// match is what the document says of a request.
type match struct {
	template, method string
	item             *v3.PathItem
	operation        *v3.Operation
	described        bool // not elsewhere
}

func (m match) response(status int) *v3.Response {
	return m.operation.Responses.Codes.GetOrZero(strconv.Itoa(status))
}

func (d *Document) find(r *http.Request) match {
	path := strings.TrimSuffix(r.URL.EscapedPath(), "/")
	if plain, err := url.PathUnescape(path); err == nil {
		path = plain
	}
	if path == "" {
		path = "/"
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	for _, route := range d.routes {
		if route.pattern.MatchString(path) {
			if operation := route.item.GetOperations().GetOrZero(strings.ToLower(method)); operation != nil {
				return match{route.template, method, route.item, operation, true}
			}
			break
		}
	}
	item := d.model.Components.PathItems.GetOrZero(Elsewhere)
	if method == http.MethodOptions {
		return match{Elsewhere, method, item, item.Options, false}
	}
	return match{Elsewhere, http.MethodGet, item, item.Get, false}
}

// Untested returns the operations that were never answered with one of the successes that the document
// gives them, as "getRecord 304".
func (d *Document) Untested() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []string
	for _, item := range d.model.Paths.PathItems.FromOldest() {
		for _, operation := range item.GetOperations().FromOldest() {
			for status := range operation.Responses.Codes.FromOldest() {
				if name := operation.OperationId + " " + status; status < "400" && !d.seen[name] {
					all = append(all, name)
				}
			}
		}
	}
	slices.Sort(all)
	return all
}
