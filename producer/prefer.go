package producer

import (
	"net/http"
	"strconv"
	"strings"
)

// preferences are what a request prefers (RFC 7240). What is malformed or unknown is ignored.
type preferences struct {
	maxPage     int    // 0: none
	maxPageName string // maxpagesize or odata.maxpagesize, as it was asked for
	wait        int    // seconds; 0: none
	ret         string // minimal, representation or ""
}

func parsePrefer(h http.Header) preferences {
	var p preferences
	for _, line := range h.Values("Prefer") {
		for item := range strings.SplitSeq(line, ",") {
			item, _, _ = strings.Cut(item, ";")
			name, value, _ := strings.Cut(item, "=")
			name = strings.ToLower(strings.TrimSpace(name))
			value = strings.Trim(strings.TrimSpace(value), `"`)
			switch name {
			case "maxpagesize", "odata.maxpagesize":
				if n, err := strconv.Atoi(value); err == nil && n > 0 && p.maxPage == 0 {
					p.maxPage, p.maxPageName = min(n, maxPage), name
				}
			case "wait":
				if n, err := strconv.Atoi(value); err == nil && n > 0 && p.wait == 0 {
					p.wait = min(n, maxWait)
				}
			case "return":
				if value == "minimal" || value == "representation" {
					p.ret = value
				}
			}
		}
	}
	return p
}

// PreferWait returns how many seconds a request prefers to wait for news, at most 120; 0: it does not.
func PreferWait(h http.Header) int { return parsePrefer(h).wait }

// applied notes in the answer which preferences it follows.
func applied(h http.Header, name, value string) { h.Add("Preference-Applied", name+"="+value) }
