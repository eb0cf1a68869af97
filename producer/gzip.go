package producer

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// compressFrom is the size from which answers are compressed: a smaller one leaves in one packet as it is.
const compressFrom = 1400

var compressors = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is one of the package's own
	}
	return w
}}

func compressor(to io.Writer) *gzip.Writer {
	w := compressors.Get().(*gzip.Writer)
	w.Reset(to)
	return w
}

// appender appends what is written.
type appender []byte

func (a *appender) Write(p []byte) (int, error) {
	*a = append(*a, p...)
	return len(p), nil
}

// AcceptsGzip says whether an answer to a request with these headers may be compressed.
func AcceptsGzip(h http.Header) bool { return acceptsGzip(strings.Join(h["Accept-Encoding"], ",")) }

// acceptsGzip reads Accept-Encoding (RFC 9110, 12.5.3): whether gzip is accepted, and not less than no
// encoding at all. Without the header nothing is compressed.
func acceptsGzip(accept string) bool {
	if accept == "" || accept == "gzip" {
		return accept != ""
	}
	zip, plain, rest := -1.0, -1.0, -1.0 // not named
	for item := range strings.SplitSeq(accept, ",") {
		coding, parameters, _ := strings.Cut(item, ";")
		q := quality(parameters)
		switch strings.ToLower(strings.TrimSpace(coding)) {
		case "gzip", "x-gzip":
			zip = q
		case "identity":
			plain = q
		case "*":
			rest = q
		}
	}
	if zip < 0 {
		zip = rest
	}
	return zip > 0 && zip >= plain
}

// quality reads the q among the parameters of an item of Accept or Accept-Encoding: 1 without one, 0 if
// it is none.
func quality(parameters string) float64 {
	for p := range strings.SplitSeq(parameters, ";") {
		name, value, found := strings.Cut(p, "=")
		if !found || !strings.EqualFold(strings.TrimSpace(name), "q") {
			continue
		}
		q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil || !(q >= 0 && q <= 1) {
			return 0
		}
		return q
	}
	return 1
}
