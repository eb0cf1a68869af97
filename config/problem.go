package config

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Problem is one thing that is wrong with a configuration. It holds no secret.
type Problem struct {
	Line, Column int    // in the file, from 1
	Path         string // of the value, as producer.clients[0].name; "" for the file
	Text         string // what is wrong and what to do
	Source       string // the line
}

// Error is everything that is wrong with a configuration.
type Error struct {
	File     string
	Problems []Problem // in order of their place
}

// Error prints each problem as file:line:column: path: text, with its line below.
func (e *Error) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s:%d:%d: ", e.File, p.Line, p.Column)
		if p.Path != "" {
			b.WriteString(p.Path + ": ")
		}
		b.WriteString(p.Text)
		if p.Source != "" {
			fmt.Fprintf(&b, "\n%6d | %s", p.Line, p.Source)
		}
	}
	return b.String()
}

// Refuse returns an *Error with problems of values that are right by themselves, each of which needs a Path
// and a Text; nil without any. The configuration must come from Load or Parse.
func (c *Config) Refuse(problems ...Problem) error {
	if len(problems) == 0 {
		return nil
	}
	r := *c.from
	r.problems = nil
	for _, p := range problems {
		r.report(p.Path, "%s", p.Text)
	}
	return r.err()
}

// report notes a problem of the value at path, or of what is around it when it is missing.
func (r *reader) report(path, format string, args ...any) {
	at, ok := r.places[path]
	for around := path; !ok; at, ok = r.places[around] {
		around = around[:max(0, strings.LastIndexAny(around, ".["))]
	}
	r.problems = append(r.problems, r.problem(at, path, fmt.Sprintf(format, args...)))
}

func (r *reader) problem(at place, path, text string) Problem {
	at.line = min(max(at.line, 1), len(r.lines))
	return Problem{Line: at.line, Column: max(at.column, 1), Path: path, Text: text, Source: source(r.lines[at.line-1])}
}

func (r *reader) err() error {
	slices.SortStableFunc(r.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return &Error{File: r.file, Problems: r.problems}
}

// source returns a line as it may be shown.
func source(line string) string {
	line = strings.ToValidUTF8(strings.TrimRight(line, " \t\r"), "�")
	if at := secretKey.FindStringIndex(line); at != nil && !variable.MatchString(line[at[1]:]) {
		line = line[:at[1]] + redacted
	}
	line = urlSecret.ReplaceAllString(line, redacted)
	if utf8.RuneCountInString(line) > 160 {
		line = string([]rune(line)[:160]) + "…"
	}
	return line
}

var (
	// A key that is named like a secret: what follows it on its line is not shown, wherever the value ends.
	secretKey = regexp.MustCompile(`(?i)(token|secret|password)[\w-]*["']?\s*:\s*`)
	// A value from the environment is no secret here, if nothing else follows.
	variable = regexp.MustCompile(`^["']?\$\{\w+\}["']?[\s}\]]*$`)
	// The query, or the user and password, of a URL.
	urlSecret = regexp.MustCompile(`\?[^\s"',}]+|//[^\s"',}/]*@`)
)
