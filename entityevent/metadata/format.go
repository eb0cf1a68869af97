package metadata

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/resosync/resosync/entityevent/odata"
)

// format is how the values of a primitive type are written in JSON.
type format struct {
	fits func(f Field, value []byte) bool
	says string // what the value is, after "is"
}

// describe says what a value of the field should be.
func (w format) describe(f Field) string {
	text := "is " + w.says
	switch {
	case f.Type == edmString && f.MaxLength != "" && f.MaxLength != "max":
		text += " of at most " + f.MaxLength + " characters"
	case f.Type == edmDecimal && f.Precision != "":
		text += " of at most " + f.Precision + " digits"
		if f.Scale != "" {
			text += ", " + f.Scale + " of them after the point"
		}
	}
	return fmt.Sprintf("%s (%s)", text, f.Type)
}

var formats = map[string]format{
	edmString:       {stringFits, "a text"},
	edmBoolean:      {func(_ Field, v []byte) bool { return v[0] == 't' || v[0] == 'f' }, "true or false"},
	"Edm.Byte":      {whole(0, 255), "a whole number from 0 to 255"},
	"Edm.SByte":     {whole(-128, 127), "a whole number from -128 to 127"},
	"Edm.Int16":     {whole(-1<<15, 1<<15-1), "a whole number from -32768 to 32767"},
	"Edm.Int32":     {whole(-1<<31, 1<<31-1), "a whole number from -2147483648 to 2147483647"},
	edmInt64:        {whole(-1<<63, 1<<63-1), "a whole number of at most 64 bits"},
	edmDecimal:      {decimalFits, "a number"},
	"Edm.Double":    {floatFits(64), "a number"},
	"Edm.Single":    {floatFits(32), "a number"},
	edmDate:         {text(isDate), "a date as 2026-01-31"},
	edmDateTime:     {text(isInstant), "a time as 2026-01-31T10:00:00Z"},
	"Edm.TimeOfDay": {text(timeOfDay.MatchString), "a time of day as 10:00:00"},
	"Edm.Duration":  {text(isDuration), "a duration as PT1H30M"},
	"Edm.Guid":      {text(guid.MatchString), "a GUID"},
	"Edm.Binary":    {text(base64url.MatchString), "base64url"},
}

var (
	timeOfDay = regexp.MustCompile(`^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,12})?)?$`)
	duration  = regexp.MustCompile(`^-?P(\d+D)?(T(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?$`)
	guid      = regexp.MustCompile(`^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$`)
	base64url = regexp.MustCompile(`^[A-Za-z0-9_-]*={0,2}$`)
)

// decoded returns what a JSON string stands for.
func decoded(value []byte) (string, bool) {
	if value[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return string(value[1 : len(value)-1]), true
	}
	var s string
	err := json.Unmarshal(value, &s)
	return s, err == nil
}

func text(fits func(string) bool) func(Field, []byte) bool {
	return func(_ Field, value []byte) bool {
		s, ok := decoded(value)
		return ok && fits(s)
	}
}

func stringFits(f Field, value []byte) bool {
	if value[0] != '"' {
		return false
	}
	most, err := strconv.Atoi(f.MaxLength)
	if err != nil || len(value)-2 <= most { // no character takes less than a byte
		return true
	}
	s, ok := decoded(value)
	return ok && utf8.RuneCountInString(s) <= most
}

func whole(least, most int64) func(Field, []byte) bool {
	return func(_ Field, value []byte) bool {
		n, err := strconv.ParseInt(string(value), 10, 64)
		return err == nil && n >= least && n <= most
	}
}

// decimalFits compares the digits as they are written, for they are kept so. A scale that is not told is
// not looked at: documents often leave it out though their values have decimals.
func decimalFits(f Field, value []byte) bool {
	if value[0] != '-' && (value[0] < '0' || value[0] > '9') {
		return false
	}
	before, after := digits(value)
	precision, err := strconv.Atoi(f.Precision)
	if err != nil {
		precision = 1 << 30
	}
	scale, err := strconv.Atoi(f.Scale)
	if err != nil {
		return before+after <= precision
	}
	return after <= scale && before <= max(0, precision-scale)
}

// digits returns how many digits a number has before and after its point, needless zeros left out.
func digits(number []byte) (before, after int) {
	number = bytes.TrimPrefix(number, []byte("-"))
	mantissa, power, _ := strings.Cut(strings.ToLower(string(number)), "e")
	exponent, _ := strconv.Atoi(power) // of a number too large it is the largest that there is
	whole, fraction, _ := strings.Cut(mantissa, ".")
	all := strings.TrimRight(whole+fraction, "0")
	zeros := len(all) - len(strings.TrimLeft(all, "0"))
	if all = all[zeros:]; all == "" {
		return 0, 0
	}
	exponent = min(max(exponent, -1<<20), 1<<20)
	point := len(whole) + exponent - zeros // where it stands among all
	return max(point, 0), max(len(all)-point, 0)
}

func floatFits(bits int) func(Field, []byte) bool {
	return func(_ Field, value []byte) bool {
		if s, ok := decoded(value); ok {
			return s == "INF" || s == "-INF" || s == "NaN"
		}
		_, err := strconv.ParseFloat(string(value), bits)
		return err == nil && value[0] != 't' && value[0] != 'f' && value[0] != '{' && value[0] != '['
	}
}

func isInstant(s string) bool {
	_, ok := odata.ParseInstant(s)
	return ok
}

func isDate(s string) bool {
	return len(s) == len("2026-01-31") && isInstant(s+"T00:00:00Z")
}

func isDuration(s string) bool {
	return duration.MatchString(s) && !strings.HasSuffix(s, "P") && !strings.HasSuffix(s, "T")
}

// enumMisfit says how a value does not fit an enumeration, "" if it does.
func enumMisfit(e *odata.Enum, value []byte) string {
	s, ok := decoded(value)
	if !ok {
		return "is a text: a member of " + e.Name
	}
	names := []string{s}
	if e.Flags {
		names = strings.Split(s, ",")
	}
	for _, name := range names {
		if name = strings.TrimSpace(name); !slices.Contains(e.Members, name) {
			return fmt.Sprintf("is a member of %s, which has no %.50q", e.Name, name)
		}
	}
	return ""
}
