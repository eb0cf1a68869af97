package producer

import (
	"net/http"
	"strings"
)

// format is the form of JSON that an answer has (OData JSON Format 4.01, 3).
type format struct {
	metadata string // none or minimal, if the request names one; full is answered as minimal
	strings  bool   // IEEE754Compatible: Edm.Int64 and Edm.Decimal leave as strings
}

// bare says that only nextLinks and counts are annotated.
func (f format) bare() bool { return f.metadata == "none" }

// contentType is the media type with what of the request's parameters is followed.
func (f format) contentType() string {
	text := "application/json"
	if f.metadata != "" {
		text += ";odata.metadata=" + f.metadata
	}
	if f.strings {
		text += ";IEEE754Compatible=true"
	}
	return text
}

// formatOf reads $format, or Accept where there is none: of the ranges that JSON fits, the one with the
// highest q. No Accept is refused.
func formatOf(asked string, h http.Header) format {
	if asked != "" {
		_, parameters, _ := strings.Cut(asked, ";")
		return parseFormat(parameters)
	}
	var best string
	highest := 0.0
	for _, line := range h.Values("Accept") {
		if !strings.Contains(line, ";") {
			continue // the common case has no parameters at all
		}
		for item := range strings.SplitSeq(line, ",") {
			mediaType, parameters, _ := strings.Cut(item, ";")
			switch strings.ToLower(strings.TrimSpace(mediaType)) {
			case "application/json", "application/*", "*/*":
				if q := quality(parameters); q > highest {
					best, highest = parameters, q
				}
			}
		}
	}
	return parseFormat(best)
}

func parseFormat(parameters string) format {
	var f format
	if parameters == "" {
		return f
	}
	for p := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(p, "=")
		value = strings.ToLower(strings.Trim(strings.TrimSpace(value), `"`))
		switch strings.TrimPrefix(strings.ToLower(strings.TrimSpace(name)), "odata.") {
		case "metadata":
			switch value {
			case "none", "minimal":
				f.metadata = value
			case "full":
				f.metadata = "minimal"
			}
		case "ieee754compatible":
			f.strings = value == "true"
		}
	}
	return f
}
