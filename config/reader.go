package config

import (
	"encoding"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// reader fills a Config from a file's syntax tree. It goes on after a problem, to tell all of them; it
// takes every value from its own text, so that 007 stays 007 and 1.5 is no whole number.
type reader struct {
	file     string
	lines    []string
	text     []byte
	lookup   func(string) (string, bool)
	places   map[string]place // of what stands in the file, by path
	problems []Problem
}

// place is a position in the file, from 1.
type place struct{ line, column int }

func newReader(file string, text []byte, lookup func(string) (string, bool)) *reader {
	return &reader{file: file, text: text, lines: strings.Split(string(text), "\n"), lookup: lookup, places: map[string]place{}}
}

// read fills c, and says whether the file could be parsed.
func (r *reader) read(c *Config) bool {
	r.places[""] = place{1, 1}
	file, err := parser.ParseBytes(r.text, 0)
	if err != nil {
		var at place
		text := "not YAML"
		var y yaml.Error
		if errors.As(err, &y) {
			text += ": " + y.GetMessage()
			at = placeOf(y.GetToken())
		}
		r.problems = append(r.problems, r.problem(at, "", text))
		return false
	}
	var docs []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil {
			docs = append(docs, doc.Body)
		}
	}
	if len(docs) == 1 {
		r.value("", docs[0], reflect.ValueOf(c).Elem())
	} else if len(docs) > 1 {
		r.report("", "want one YAML document, and there are %d", len(docs))
	}
	return true
}

// value reads n, which stands at path, into v.
func (r *reader) value(path string, n ast.Node, v reflect.Value) {
	if _, known := r.places[path]; !known {
		r.places[path] = placeOfNode(n)
	}
	switch n := n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		r.report(path, "anchors, aliases and tags are not read here: write the value itself")
	case *ast.NullNode:
		if v.Kind() == reflect.Pointer { // a section whose keys are all left out
			v.Set(reflect.New(v.Type().Elem()))
		}
	case ast.MapNode:
		r.mapping(path, n, v)
	case *ast.SequenceNode:
		r.sequence(path, n, v)
	case *ast.LiteralNode:
		r.scalar(path, n.Value.Value, v)
	case *ast.StringNode:
		r.scalar(path, n.Value, v)
	case ast.ScalarNode:
		r.scalar(path, n.GetToken().Value, v)
	default:
		r.report(path, "%s", wanted(v))
	}
}

func (r *reader) mapping(path string, n ast.MapNode, v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if v.Kind() == reflect.Map {
		v.Set(reflect.MakeMap(v.Type()))
	} else if v.Kind() != reflect.Struct || isScalar(v) {
		r.report(path, "%s", wanted(v))
		return
	}
	for entries := n.MapRange(); entries.Next(); {
		key, ok := entries.Key().(*ast.StringNode)
		if !ok {
			r.problems = append(r.problems, r.problem(placeOf(entries.Key().GetToken()), path, "a key must be a plain word"))
			continue
		}
		below := strings.TrimPrefix(path+"."+key.Value, ".")
		r.places[below] = placeOf(key.GetToken())
		if v.Kind() == reflect.Map { // the keys are names
			entry := reflect.New(v.Type().Elem()).Elem()
			r.value(below, entries.Value(), entry)
			v.SetMapIndex(reflect.ValueOf(key.Value), entry)
			continue
		}
		field, names := fieldOf(v, key.Value)
		if !field.IsValid() {
			r.report(below, "unknown key; known here: %s", strings.Join(names, ", "))
			continue
		}
		if at := placeOfNode(entries.Value()); at.line == r.places[below].line {
			r.places[below] = at // the value says more than its key, if it stands beside it
		}
		r.value(below, entries.Value(), field)
	}
}

// fieldOf returns the field of a key, and all keys.
func fieldOf(v reflect.Value, key string) (field reflect.Value, names []string) {
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("yaml")
		if name == "" {
			continue
		}
		names = append(names, name)
		if name == key {
			field = v.Field(i)
		}
	}
	return field, names
}

func (r *reader) sequence(path string, n *ast.SequenceNode, v reflect.Value) {
	if v.Kind() != reflect.Slice {
		r.report(path, "%s", wanted(v))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Values), len(n.Values)))
	for i, value := range n.Values {
		r.value(fmt.Sprintf("%s[%d]", path, i), value, v.Index(i))
	}
}

func (r *reader) scalar(path, text string, v reflect.Value) {
	text, ok := r.expand(path, text)
	if !ok {
		return
	}
	var err error
	switch target := v.Addr().Interface().(type) {
	case *time.Duration:
		*target, err = parseDuration(text)
	case encoding.TextUnmarshaler:
		err = target.UnmarshalText([]byte(text))
	default:
		switch v.Kind() {
		case reflect.String:
			v.SetString(text)
		case reflect.Int:
			var number int64
			number, err = strconv.ParseInt(text, 10, 32)
			v.SetInt(number)
		case reflect.Bool:
			err = setBool(v, text)
		default:
			err = errors.New("not a scalar")
		}
	}
	if err != nil {
		r.report(path, "%s", wanted(v))
	}
}

// parseDuration reads 15s and 1m30s, and days and years of 365 days: 90d, 3y.
func parseDuration(text string) (time.Duration, error) {
	for unit, hours := range map[string]int64{"d": 24, "y": 24 * 365} {
		number, found := strings.CutSuffix(text, unit)
		if n, err := strconv.ParseUint(number, 10, 32); found && err == nil && n <= 100*365*24/uint64(hours) {
			return time.Duration(n) * time.Duration(hours) * time.Hour, nil
		}
	}
	return time.ParseDuration(text)
}

func setBool(v reflect.Value, text string) error {
	if text != "true" && text != "false" {
		return errors.New("not a bool")
	}
	v.SetBool(text == "true")
	return nil
}

// expand replaces ${NAME} by the environment's value; $${ stands for ${ itself.
func (r *reader) expand(path, text string) (string, bool) {
	var b strings.Builder
	ok := true
	for {
		i := strings.Index(text, "${")
		if i < 0 {
			b.WriteString(text)
			return b.String(), ok
		}
		if i > 0 && text[i-1] == '$' {
			b.WriteString(text[:i-1] + "${")
			text = text[i+2:]
			continue
		}
		b.WriteString(text[:i])
		name, rest, closed := strings.Cut(text[i+2:], "}")
		if !closed || !isName(name) {
			r.report(path, "want ${NAME} with the name of an environment variable; write $${ for ${ itself")
			return "", false
		}
		value, set := r.lookup(name)
		if !set {
			r.report(path, "the environment variable %s is not set: set it, or write the value here", name)
			ok = false
		}
		b.WriteString(value)
		text = rest
	}
}

func isName(s string) bool {
	for i, c := range s {
		if c != '_' && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

func isScalar(v reflect.Value) bool {
	_, is := v.Addr().Interface().(encoding.TextUnmarshaler)
	return is
}

// wanted says what may stand where v is read.
func wanted(v reflect.Value) string {
	switch v.Interface().(type) {
	case time.Duration:
		return "want a duration, as 15s, 1m30s, 90d or 3y"
	case Age:
		return "want a duration, as 90d or 3y, or never"
	case netip.Prefix:
		return "want a network, as 10.0.0.0/8 or 10.1.2.3/32"
	case Rate:
		return "want requests per time, as 1/s, 30/m or 7200/h"
	}
	switch v.Kind() {
	case reflect.Int:
		return "want a whole number"
	case reflect.Bool:
		return "want true or false"
	case reflect.Slice:
		return "want a list, as [a, b]"
	case reflect.Struct, reflect.Map, reflect.Pointer:
		return "want keys and values below it"
	default:
		return "want a text"
	}
}

func placeOfNode(n ast.Node) place {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		return placeOf(m.Values[0].Key.GetToken())
	}
	return placeOf(n.GetToken())
}

func placeOf(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{1, 1}
	}
	return place{t.Position.Line, t.Position.Column}
}
